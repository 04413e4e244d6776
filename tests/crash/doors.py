"""How a round's documents come in: by the spool, the API and `gateway submit`, asked again until each is answered.

An answer is a promise that must hold after any kill. `promised` keeps what API and `submit` answered; the spool's
answer is that the file left it.
"""

import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from tests.crash.station import Offer, Station

_AT_ONCE = 4
_BUSY = (503, 507)
_COMMAND_SECONDS = 3.0  # a submit that is to be killed has come anywhere by then


@dataclass(frozen=True)
class Promise:
    """An answer: `outcome` new, again, quarantined or refused; `document` its id, empty for a refusal."""

    outcome: str
    document: str


class Doors:
    """All offers of a round, each by one door. `mixed`: False: all of them by the spool."""

    def __init__(self, station: Station, offers: Sequence[Offer], chance: random.Random, *, mixed: bool) -> None:
        self._station = station
        self._chance = chance
        self._by_api: list[Offer] = []
        self._by_submit: dict[str, Offer] = {}
        self._folder = station.directory / "to-submit"
        self._folder.mkdir(mode=0o700)
        self.promised: dict[str, Promise] = {}
        self.wrong: list[str] = []
        self._asked: Future[None] = Future()
        self.is_ready = False  # the daemon, to be asked
        self.sftp: tuple[str, int] = ("", 0)
        speakers = Counter(offer.number for offer in offers)
        for order, offer in enumerate(offers, 1):
            # Where several speak of one number, only the spool says which comes first.
            alone = mixed and offer.number and speakers[offer.number] == 1
            door = chance.choice(("spool", "spool", "api", "submit")) if alone else "spool"
            if door == "spool":
                station.offer(offer, order)
            elif door == "api":
                self._by_api.append(offer)
            else:
                self._by_submit[offer.name] = offer
                (self._folder / offer.name).write_bytes(offer.content)
                if offer.sidecar:
                    (self._folder / f"{offer.name}.json").write_bytes(offer.sidecar)

    @property
    def elsewhere(self) -> set[str]:
        """Names of what does not come by the spool."""
        return {offer.name for offer in self._by_api} | self._by_submit.keys()

    def is_done(self) -> bool:
        """Nothing more is asked for in this life; what a killed submit left is, in another one."""
        return self._asked.done()

    def _unanswered_by_api(self) -> list[Offer]:
        return [offer for offer in self._by_api if offer.name not in self.promised]

    def _unanswered_by_submit(self) -> list[str]:
        return [name for name in self._by_submit if name not in self.promised]

    @contextlib.contextmanager
    def asking(self, daemon: "subprocess.Popen[str]", *, to_the_end: bool = False) -> Iterator[None]:
        """Hand in what was not answered while the daemon lives. `to_the_end`: all of it, and no submit is killed."""
        self.is_ready = False
        with ThreadPoolExecutor(1) as thread:
            self._asked = thread.submit(self._ask, daemon, to_the_end)
            try:
                yield
            except BaseException:
                daemon.kill()
                raise
            finally:
                self._asked.result()

    def _ask(self, daemon: "subprocess.Popen[str]", to_the_end: bool) -> None:
        assert daemon.stdout is not None
        line = daemon.stdout.readline()
        if not line:
            return  # it was killed before it was ready
        where = json.loads(line)
        self.sftp, self.is_ready = tuple(where["sftp"]), True
        if not self._unanswered_by_submit() or (self._chance.random() < 0.5 and not to_the_end):
            asyncio.run(self._post_all(*where["http"]))
            return
        with self._submit() as command:
            asyncio.run(self._post_all(*where["http"]))
            self._wait(command, None if to_the_end else self._chance.uniform(0.2, 2 * _COMMAND_SECONDS), daemon)

    def submit_alone(self) -> None:
        """`gateway submit` without a daemon, on the same state directory, killed with its workers."""
        with self._submit() as command:
            self._wait(command, self._chance.uniform(0.2, _COMMAND_SECONDS), None)

    @contextlib.contextmanager
    def _submit(self) -> Iterator["subprocess.Popen[str]"]:
        command = [sys.executable, "-m", "gateway", "--config", str(self._station.config), "submit", "--json"]
        with subprocess.Popen(
            [*command, str(self._folder)],
            env=self._station.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as submit:
            try:
                yield submit
            finally:
                submit.kill()

    def _wait(
        self, command: "subprocess.Popen[str]", seconds: float | None, daemon: "subprocess.Popen[str] | None"
    ) -> None:
        """Its results, unless it is to be killed after those seconds or tells of no result, as without its daemon.

        When the daemon is gone it may begin to work alone; it is not given long for that.
        """
        end = math.inf if seconds is None else time.monotonic() + seconds
        output, is_alone = None, daemon is None
        while output is None and time.monotonic() < end:
            if daemon is not None and daemon.poll() is not None and not is_alone:
                is_alone = True
                end = min(end, time.monotonic() + self._chance.uniform(0, 1))
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = command.communicate(timeout=0.1)
        if output is None:
            return
        try:
            results = json.loads(output)
        except ValueError:
            assert daemon is None or daemon.poll() is not None, f"submit ended with {command.returncode}: {output}"
            return
        for result in results:
            name = result["file"].rpartition("/")[2]
            if result["outcome"] != "failed":
                self.note(name, Promise(result["outcome"], result["document"]))

    async def _post_all(self, host: str, port: int) -> None:
        turn = asyncio.Semaphore(_AT_ONCE)
        token = {"Authorization": f"Bearer {self._station.template.token}"}
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}/api/v1", headers=token, timeout=60, trust_env=False
        ) as client:
            await asyncio.gather(*(self._hand_in(client, turn, offer) for offer in self._unanswered_by_api()))

    async def _hand_in(self, client: httpx.AsyncClient, turn: asyncio.Semaphore, offer: Offer) -> None:
        """Half of them with a key, as a caller that repeats does; some are repeated though they were answered.

        Which, their places say, not their bytes: these change with the day, and a few have some of each kind on any.
        """
        place = self._by_api.index(offer)
        key = {"Idempotency-Key": offer.name} if place % 2 == 0 else {}
        async with turn:
            with contextlib.suppress(httpx.TransportError):  # the daemon is gone: in its next life
                answer = await _post(client, offer, key)
                promise = _promise(answer)
                self.note(offer.name, promise)
                if place % 8 in (0, 1) and promise.document:
                    again = await _post(client, offer, key)
                    expected = (answer.status_code, answer.json()) if key else (200, again.json())
                    if (again.status_code, again.json()) != expected or _promise(again).document != promise.document:
                        self.wrong.append(f"{offer.name}: answered {promise}, and then {_promise(again)}")

    def note(self, name: str, promise: Promise) -> None:
        """Keep an answer; a second one must be of the same document."""
        before = self.promised.setdefault(name, promise)
        if before.document != promise.document:
            self.wrong.append(f"{name}: answered {before}, and then {promise}")


async def _post(client: httpx.AsyncClient, offer: Offer, key: dict[str, str]) -> httpx.Response:
    files = {"file": (offer.name, offer.content, "application/pdf")}
    if offer.sidecar:
        files["sidecar"] = ("sidecar.json", offer.sidecar, "application/json")
    while True:
        answer = await client.post("/documents", files=files, headers=key)
        if answer.status_code not in _BUSY:
            return answer
        await asyncio.sleep(0.2)


def _promise(answer: httpx.Response) -> Promise:
    body = answer.json()
    if answer.is_success:
        return Promise(body["outcome"], body["id"])
    if answer.status_code >= 500:
        raise AssertionError(f"HTTP {answer.status_code}: {body}")
    return Promise("quarantined" if body["code"] == "quarantined" else "refused", body.get("document", ""))
