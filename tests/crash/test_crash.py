"""kill -9 at any moment loses no document, repeats none, and leaves no state that the rules do not know."""

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from tests.crash import witness
from tests.crash.checker import State, check_state
from tests.crash.doors import Doors
from tests.crash.kill import NEVER, Point
from tests.crash.station import Offer, Station, Template, living, make_offers, wait_until_gone, workers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
IS_SHORT = ROUNDS <= 3
KILLS = 2 if IS_SHORT else 3  # lives that end early in one round, at most
SETTLED_WITHIN = 120.0  # seconds, for one life of the daemon
# The first life of a round ends at one of these, surely: so many are counted whatever happens.
CERTAIN = (
    Point("fsync", 30, "before", "all"),
    Point("mail", 15, "after", "daemon"),
    Point("work", 30, "before", "worker"),
    Point("commit", 10, "after", "daemon"),
    Point("work", 30, "after", "daemon"),
    Point("any", 80, "before", "all"),
)


@dataclass(frozen=True)
class Moment:
    """A kill so many seconds after the start, or after the daemon is ready; `victim`: daemon, all, or any worker."""

    seconds: float
    of: str
    victim: str

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s after it is {self.of}: {self.victim}"


@dataclass(frozen=True)
class Life:
    """One run of the daemon, and how it is to end. `then`: so many seconds after a worker was killed it is, too."""

    point: Point = NEVER
    moment: Moment | None = None
    then: float | None = None

    @classmethod
    def first(cls, chance: random.Random, number: int) -> "Life":
        point = CERTAIN[number % len(CERTAIN)]
        at = chance.randint(1, point.at)
        return cls(Point(point.kind, at, point.when, point.victim), then=chance.uniform(0, 2))

    @classmethod
    def any(cls, chance: random.Random, documents: int) -> "Life":
        then = chance.choice((None, chance.uniform(0, 2)))
        if not IS_SHORT and chance.random() < 0.4:
            victim = chance.choice(("daemon", "daemon", "all", "worker"))
            of, most = chance.choice((("started", 8.0), *[("ready", documents / 50)] * 3))
            return cls(moment=Moment(chance.uniform(0.05, most), of, victim), then=then)
        kind, most = chance.choice((("fsync", 2), ("commit", 0.25), ("mail", 2), ("work", 0.75), ("any", 4)))
        victim = chance.choice(("daemon", "all", "worker") if kind == "work" else ("daemon", "all"))
        at = chance.randint(1, round(documents * most))
        return cls(Point(kind, at, chance.choice(("before", "after")), victim), then=then)

    @property
    def victim(self) -> str:
        return self.moment.victim if self.moment is not None else self.point.victim

    @property
    def where(self) -> str:
        return "at a random moment" if self.moment is not None else f"at {self.point.kind}"

    def __str__(self) -> str:
        end = str(self.moment or self.point)
        return end if self.victim != "worker" or self.then is None else f"{end}, the daemon {self.then:.2f} s later"


@pytest.fixture(scope="session")
def offers() -> list[Offer]:
    return make_offers(60 if IS_SHORT else 200)


class Hand:
    """What a kill point cannot do: kill at a random moment, and the daemon some time after a worker."""

    def __init__(self, of: "Round", daemon: "subprocess.Popen[str]", life: Life) -> None:
        self._round = of
        self._daemon = daemon
        self._life = life
        self._started = time.monotonic()
        self._ready: float | None = None
        self._worker_gone: float | None = None

    def move(self) -> None:
        """Kill, if it is time to."""
        now = time.monotonic()
        if self._ready is None and self._round.doors.is_ready:
            self._ready = now
        if self._worker_gone is not None:
            if self._life.then is not None and now > self._worker_gone + self._life.then:
                self._daemon.kill()
        elif self._is_due(now) and self._strike():
            self._worker_gone = now
            self._round.workers_killed += 1
            self._round.kills[f"worker {self._life.where}"] += 1

    def _is_due(self, now: float) -> bool:
        moment = self._life.moment
        if moment is None:
            return self._life.victim == "worker" and self._round.station.counted() >= self._life.point.at
        since = self._started if moment.of == "started" else self._ready
        return since is not None and now > since + moment.seconds

    def _strike(self) -> bool:
        """Whether it is a worker that was killed, or has killed itself."""
        if self._daemon.returncode is not None:
            return self._life.victim == "worker" and self._life.moment is None
        if self._life.victim == "all":
            os.killpg(self._daemon.pid, signal.SIGKILL)
        elif self._life.victim == "daemon":
            self._daemon.kill()
        elif self._life.moment is not None:
            found = workers(self._daemon.pid)
            with contextlib.suppress(IndexError, ProcessLookupError):  # none yet, or just gone
                os.kill(self._round.chance.choice(found), signal.SIGKILL)
                return True
            return False
        return self._life.victim == "worker"


class Round:
    """One round: a station, its doors, and what was killed in it."""

    def __init__(self, number: int, template: Template, offers: list[Offer], directory: Path) -> None:
        self.chance = random.Random(number)
        self.offers = offers
        self.station = Station.new(directory, template)
        self.doors = Doors(self.station, offers, self.chance, mixed=not IS_SHORT)
        self.kills: Counter[str] = Counter()
        self.workers_killed = 0

    def live(self, life: Life) -> bool:
        """Run the daemon until it ends as it is meant to, or has nothing left to do (True); look at what it left."""
        with self.station.start(life.point) as daemon:
            with self.doors.asking(daemon):
                is_done = self._wait(daemon, life)
                if is_done:
                    daemon.terminate()
            status = daemon.wait(30)
        if status == -signal.SIGKILL:
            self.kills["daemon after a worker" if life.victim == "worker" else f"{life.victim} {life.where}"] += 1
        left = wait_until_gone(daemon.pid)
        assert not left, f"{life}: {left} live on"
        state, wrong = check_state(self.station.state)
        wrong += witness.unkept(self.station, state, self.offers, self.doors)
        assert not wrong, f"{life}: {wrong}"
        assert status in (-signal.SIGKILL, 0), f"{life}: it ended by itself, with {status}"
        return is_done

    def _wait(self, daemon: "subprocess.Popen[str]", life: Life) -> bool:
        """Until it is gone (False) or has nothing left to do (True); kills meanwhile, as the life wants it."""
        deadline, hand = time.monotonic() + SETTLED_WITHIN, Hand(self, daemon, life)
        while time.monotonic() < deadline:
            is_gone = daemon.poll() is not None
            is_done = not self.station.waiting() and self.doors.is_done() and self.station.is_settled()
            hand.move()  # when it is gone or done, too: a worker may have been killed since the last time
            if is_gone or is_done:
                return is_done and not is_gone
            time.sleep(0.05)
        raise AssertionError(f"not done within {SETTLED_WITHIN:g} s: {witness.open_ends(State.of(self.station.state))}")

    def finish(self) -> None:
        """One more life, to the end; look at it as the client does, and check the end."""
        with self.station.start() as daemon:
            with self.doors.asking(daemon, to_the_end=True):
                assert self._wait(daemon, Life()), "the daemon ended by itself"
            asyncio.run(_look(self.station, *self.doors.sftp))
            daemon.terminate()
            assert daemon.wait(30) == 0
        assert not wait_until_gone(daemon.pid)
        state, wrong = check_state(self.station.state)
        wrong += witness.unkept(self.station, state, self.offers, self.doors)
        wrong += witness.unfinished(self.station, state, self.offers, self.doors, self.workers_killed)
        assert not wrong


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_at_any_moment_it_loses_nothing_and_repeats_nothing(
    number: int,
    template: Template,
    offers: list[Offer],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each step keeps the bytes, then commits row, record and next step together: any of them can be the last."""
    one = Round(number, template, offers, tmp_path / "station")
    with one.station.mail():
        if not IS_SHORT and number % 3 == 0:
            one.doors.submit_alone()
        first = Life.first(one.chance, number)
        is_done = one.live(first)
        assert one.kills, f"{first}: nobody came there"
        for _ in range(KILLS - 1):
            is_done = is_done or one.live(Life.any(one.chance, len(offers)))
        one.finish()
    record_property("crash", {"documents": len(offers), "kills": dict(one.kills)})
    shutil.rmtree(tmp_path)  # a hundred rounds would fill the disk; what failed is kept


async def _look(station: Station, host: str, port: int) -> None:
    """All clients see each entry once, and read its bytes; an entry is listed once its second is over."""
    state = State.of(station.state)
    for user, key in station.template.users.items():
        folder = next(folder.id for folder in state.folders.values() if folder.user_name == user)
        expected = {entry.name: entry for entry in state.entries.values() if entry.folder_id == folder}
        options = {"username": user, "client_keys": [str(key)], "known_hosts": None, "agent_path": None}
        async with (
            asyncssh.connect(host, port, config=None, **options) as connection,
            connection.start_sftp_client() as client,
        ):
            deadline = time.monotonic() + 10
            while (seen := sorted(await _listed(client))) != sorted(expected) and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
            assert seen == sorted(expected)
            for name in random.sample(sorted(expected), 3):
                async with client.open(f"inbox/{name}", "rb") as file:
                    digest = hashlib.sha256(await file.read())  # type: ignore[arg-type]  # of "rb": bytes
                assert digest.hexdigest() == expected[name].sha256


async def _listed(client: asyncssh.SFTPClient) -> list[str]:
    return [str(name) for name in await client.listdir("inbox") if not str(name).startswith(".")]


def test_no_worker_outlives_a_daemon_that_was_killed(template: Template, offers: list[Offer], tmp_path: Path) -> None:
    """A sealing worker has the key in its memory and would wait for work for ever."""
    station = Station.new(tmp_path / "station", template)
    for order, offer in enumerate(offers[:30], 1):
        station.offer(offer, order)
    with station.mail(), station.start() as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        deadline = time.monotonic() + 30
        while not State.of(station.state).seals and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(living(daemon.pid)) >= 5, "the daemon, its fork server, two readers, and a sealer at least"
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(10)
        assert not wait_until_gone(daemon.pid)
