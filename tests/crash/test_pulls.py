"""kill -9 while entries are published and pulled: no number is missing or given twice, no entry appears twice.

One gateway on SQLite, killed and started again; two on one PostgreSQL, of which one or the other is always there.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import sqlalchemy as sa

from gateway import clock
from gateway.domain.deliveries import Delivery
from gateway.domain.folders import FolderEvent, SshKey
from gateway.domain.states import DeliveryState
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.crash.kill import NEVER, Point
from tests.crash.station import Station
from tests.dropfolder.world import World

ROUNDS = int(os.environ.get("ROUNDS", "3"))
IS_SHORT = ROUNDS <= 3
DOCUMENTS = 60 if IS_SHORT else 200
APART = dt.timedelta(milliseconds=20)  # one after the other becomes due
FRESH = 2.5  # seconds: another gateway's index is a second old at most; a busy machine
READY_WITHIN, DONE_WITHIN = 40.0, 40.0
GONE = (OSError, asyncssh.Error, asyncio.TimeoutError)
_SETTINGS = """
[store]
directory = {state}
database = {database}
free_space_floor_percent = 0.1
reserve_megabytes = 0
[http]
listen = "127.0.0.1:0"
[sftp]
listen = "127.0.0.1:0"
[spool]
enabled = false
[intake]
workers = 1
[seal]
workers = 1
[mail]
enabled = false
[delivery]
poll_seconds = 0.05
publish_batch = 4
[log]
level = "error"
"""


class Gateway:
    """A daemon that is started and killed in a state directory of its own, over bytes that all share."""

    def __init__(self, directory: Path, database: str, blobs: Path) -> None:
        self.address: tuple[str, int] | None = None  # of SFTP; None: it is not there
        self._directory = directory
        state = directory / "state"
        state.mkdir(mode=0o700, parents=True)
        (state / "blobs").symlink_to(blobs)
        self._config = directory / "gateway.toml"
        self._config.write_text(_SETTINGS.format(state=json.dumps(str(state)), database=json.dumps(database)))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, point: Point = NEVER) -> None:
        """Until it is ready; it may end at `point`, which begins to count then."""
        environment = Station.environment() | point.environment(self._directory / "count")
        (self._directory / "count").unlink(missing_ok=True)
        command = (sys.executable, "-m", "tests.crash.driver", str(self._config))
        self._process = process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_WITHIN)
        assert line, "it ended before it was ready"
        self.address = tuple(json.loads(line)["sftp"])

    async def gone(self) -> None:
        """Wait until it was killed."""
        assert self._process is not None
        assert await asyncio.wait_for(self._process.wait(), DONE_WITHIN) == -signal.SIGKILL
        self._process = self.address = None

    async def kill(self) -> None:
        """Kill it, if it is there."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.gone()


class Puller:
    """A client that lists, reads, removes, from whichever gateway is there, and remembers what it was told."""

    def __init__(self, gateways: list[Gateway], key: asyncssh.SSHKey, chance: random.Random) -> None:
        self.seen: set[str] = set()
        self.removed: dict[str, float] = {}  # by name: when the answer came
        self.contents: Counter[bytes] = Counter()  # of what was read and removed
        self.wrong: list[str] = []
        self._gateways = gateways
        self._key = key
        self._chance = chance
        self._is_done = False

    async def pull(self) -> None:
        """Until everything was seen, and nothing is left; of a removal the answer may have been lost."""
        while not self._is_done:
            there = [one.address for one in self._gateways if one.address is not None]
            with contextlib.suppress(*GONE):
                if there:
                    async with self._session(self._chance.choice(there)) as sftp:
                        await self._clear(sftp)
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def _session(self, address: tuple[str, int]) -> AsyncIterator[asyncssh.SFTPClient]:
        options: dict[str, Any] = {"username": "acme", "client_keys": [self._key], "agent_path": None}
        async with (
            asyncssh.connect(*address, known_hosts=None, config=None, **options) as connection,
            connection.start_sftp_client() as sftp,
        ):
            yield sftp

    async def _clear(self, sftp: asyncssh.SFTPClient) -> None:
        for _ in range(self._chance.randint(1, 10)):  # then from the other one
            asked = time.monotonic()
            names = [str(name) for name in await sftp.listdir("inbox") if not str(name).startswith(".")]
            self.wrong += [f"{name} is listed twice" for name, count in Counter(names).items() if count > 1]
            again = [name for name in names if self.removed.get(name, asked) + FRESH < asked]
            self.wrong += [f"{name} is listed again" for name in again]
            self.seen.update(names)
            self._is_done = not names and len(self.seen) == DOCUMENTS
            for name in names:
                if name not in self.removed:
                    await self._take(sftp, name)

    async def _take(self, sftp: asyncssh.SFTPClient, name: str) -> None:
        with contextlib.suppress(asyncssh.SFTPNoSuchFile):  # removed by a call whose answer was lost
            async with sftp.open(f"inbox/{name}", "rb") as file:
                content: Any = await file.read()
            await sftp.remove(f"inbox/{name}")
            self.contents[content] += 1
            self.removed[name] = time.monotonic()


async def archived(gateway: Gateway, puller: Puller) -> list[str]:
    """All names that the archive shows."""
    assert gateway.address is not None
    async with puller._session(gateway.address) as sftp:
        return [str(name) async for name in _walk(sftp, "archive")]


async def _walk(sftp: asyncssh.SFTPClient, path: str) -> AsyncIterator[str]:
    async for name in sftp.scandir(path):
        if name.filename not in (".", ".."):
            if name.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
                async for below in _walk(sftp, f"{path}/{name.filename!s}"):
                    yield below
            else:
                yield str(name.filename)


def found_wrong(world: World) -> list[str]:
    """What no order of publishing and pulling could have left."""
    entries = world.entries()
    events = world.db.read(lambda tx: tx.execute(sa.select(FolderEvent.sequence).order_by(FolderEvent.sequence)).all())  # type: ignore[call-overload]
    deliveries = world.db.read(lambda tx: tx.execute(sa.select(Delivery.state)).scalars().all())  # type: ignore[call-overload]
    numbers = list(range(1, DOCUMENTS + 1))
    recorded = Counter(record for record in world.events("delivery."))
    checks = {
        "numbers of entries": [entry.sequence for entry in entries] == numbers,
        "numbers of events": [row.sequence for row in events] == numbers,
        "names": len({entry.name_folded for entry in entries}) == DOCUMENTS,
        "one entry a delivery": len({entry.delivery_id for entry in entries}) == DOCUMENTS,
        "times in the order of numbers": sorted(entries, key=lambda entry: entry.mtime) == entries,
        "deliveries": Counter(deliveries) == {DeliveryState.RECEIVED: DOCUMENTS},
        "records": recorded == {"delivery.published": DOCUMENTS, "delivery.received": DOCUMENTS},
        "removed unread": not world.events("entry.removed_unread"),
    }
    return [name for name, is_right in checks.items() if not is_right]


def make_due(world: World) -> None:
    """One after the other, from now on."""
    now = clock.now()

    def step(tx: Any) -> None:
        ids = tx.execute(sa.select(Delivery.id).order_by(Delivery.id)).scalars().all()  # type: ignore[call-overload]
        for order, delivery in enumerate(ids):
            tx.execute(sa.update(Delivery).where(Delivery.id == delivery).values(due_at=now + order * APART))

    world.db.write(step)


async def play(gateways: list[Gateway], world: World, puller: Puller, chance: random.Random) -> None:
    try:
        await _play(gateways, world, puller, chance)
    finally:
        for one in gateways:
            await one.kill()


async def _play(gateways: list[Gateway], world: World, puller: Puller, chance: random.Random) -> None:
    """Kill one at a commit and, in the long form, the others some time later; let what is there finish."""
    point = Point("commit", chance.randint(10, DOCUMENTS), chance.choice(("before", "after")), "daemon")
    first, *others = gateways
    await asyncio.gather(first.start(point), *(one.start() for one in others))
    await asyncio.to_thread(make_due, world)
    pulling = asyncio.create_task(puller.pull())
    await first.gone()
    if not others or not IS_SHORT:
        await first.start()
    if not IS_SHORT:
        await asyncio.sleep(chance.uniform(0, 1))
        for one in others or [first]:
            await one.kill()
            await one.start()
    await asyncio.wait_for(pulling, DONE_WITHIN)
    names = await archived(gateways[-1], puller)
    assert sorted(names) == sorted(puller.seen), "the archive shows each once"


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(max(1, ROUNDS // 5)))
def test_killed_while_it_publishes_and_is_pulled_from(
    number: int, database_url: str, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """What was answered is so afterwards, at the other gateway and at the next start; what was not is done once."""
    chance = random.Random(number)
    database = Database.open(database_url)
    world = World(database, blobs)
    key = asyncssh.generate_private_key("ssh-ed25519")
    world.set(SshKey, world.key.id, fingerprint=key.get_fingerprint())
    contents = [b"%d " % number + os.urandom(3000) for number in range(DOCUMENTS)]
    world.plan(*contents, at=clock.now() + dt.timedelta(hours=1))
    count = 1 if database.is_sqlite else 2
    gateways = [Gateway(tmp_path / f"gateway{n}", database_url, tmp_path / "blobs") for n in range(count)]
    puller = Puller(gateways, key, chance)
    try:
        asyncio.run(play(gateways, world, puller, chance))
        assert not puller.wrong
        assert set(puller.contents) <= set(contents) and max(puller.contents.values()) == 1
        assert not found_wrong(world)
    finally:
        world.close()
        database.close()
