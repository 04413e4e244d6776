"""SFTP beside OpenSSH's internal-sftp: log-ins, small files, listings, one big file, many sessions, idle ones.

The gateway serves real folders: rights, ledger and receipts are on, every file is read for the first time by each round
and each session is recorded. Both servers run on the same files, one after the other in each round; the ratios are
taken within a round. CPU is what the server's processes used (user and kernel), dead ones included. OpenSSH runs as
the user who runs the benchmark: without its change of user, a log-in costs it less than where root runs it.

- `sftp_login_cpu`: asyncssh's client logs in, asks for `.` and leaves; 32 at a time; both servers sign with Ed25519
- `sftp_pull_cpu`, `_rate`: one `sftp` fetches 2,000 files of 80 KB
- `sftp_list_cold_cpu`, `sftp_list_cpu`: 50,000 names with attributes, to a gateway that has not looked at the folder
  yet, then again
- `sftp_big_cpu`, `_rate`: 1 GiB by `sftp` with the cipher that it prefers of those offered
- `sftp_many_cpu`, `_p99`, `_rss`: 50 sessions of `sftp` fetch 100 files each at once; memory as growth over the daemon
  as it was when it had just started
- `sftp_idle_pss`: growth for each of 200 sessions that do nothing
- `idle_daemon_mb`, `idle_with_workers_mb`: the daemon with all parts just after its start

    python -m bench.sftp [WORKLOAD…]     (login pull list big many idle; BRUNS=3 rounds)
"""

import asyncio
import contextlib
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh

from bench.beside import state
from bench.beside.clients import Sftp
from bench.beside.report import absolute
from bench.beside.rounds import BIG_BYTES, FILE_BYTES, FILES, FILES_A_SESSION, MB, ROUNDS, SESSIONS, Rounds
from bench.beside.servers import Bench, Server, directories, find
from bench.beside.tree import Cost

LISTED = 50_000
LOGINS, LOGINS_AT_ONCE = 200, 32
IDLE = 200
DAEMON_MB, WITH_WORKERS_MB = 220, 400
WORKLOADS = ("idle", "login", "pull", "list", "big", "many")


class Measured:
    """One server, and what it has been made to do."""

    def __init__(self, bench: Bench, server: Server, scratch: Path) -> None:
        self._bench = bench
        self._server = server
        self._scratch = scratch
        self.rss = server.tree.rss()

    def cost(self, work: Callable[[], Any]) -> Cost:
        """Do it."""
        return self._server.tree.cost(work)

    def _sftp(self, folder: str) -> Sftp:
        return Sftp(self._server, folder, self._bench.key)

    def _connect(self, folder: str) -> Any:
        return asyncssh.connect(
            "127.0.0.1", self._server.port, username=self._server.login(folder), client_keys=[str(self._bench.key)],
            known_hosts=None, agent_path=None, config=None, login_timeout=60, server_host_key_algs=["ssh-ed25519"],
        )  # fmt: skip

    def idle(self) -> float:
        """Bytes that each of many sessions costs that do nothing."""
        return asyncio.run(self._idle())

    async def _idle(self) -> float:
        tree, gate = self._server.tree, asyncio.Semaphore(16)
        async with contextlib.AsyncExitStack() as stack:

            async def begin() -> None:
                async with gate:
                    connection = await stack.enter_async_context(self._connect("big"))
                    await stack.enter_async_context(connection.start_sftp_client())

            await begin()
            before = tree.pss()
            await asyncio.gather(*(begin() for _ in range(IDLE)))
            await asyncio.sleep(1)
            return (tree.pss() - before) / IDLE

    def login(self) -> float:
        """CPU seconds of a log-in."""
        asyncio.run(self._logins(LOGINS_AT_ONCE))
        return self.cost(lambda: asyncio.run(self._logins(LOGINS))).cpu / LOGINS

    async def _logins(self, count: int) -> None:
        gate = asyncio.Semaphore(LOGINS_AT_ONCE)

        async def one() -> None:
            async with gate, self._connect("big") as connection, connection.start_sftp_client() as client:
                await client.realpath(".")

        await asyncio.gather(*(one() for _ in range(count)))

    def pull(self, folder: str) -> Cost:
        """Every file of a folder, by one session."""
        into = self._scratch / self._server.name / folder
        into.mkdir(parents=True)
        commands = [f"get {name}" for name in state.names(FILES)]
        with self._sftp(folder) as client:
            client.do([f"cd {self._server.inbox(folder, 'small')}", f"lcd {into}", "ls -1f"])
            cost = self.cost(lambda: client.do(commands))
        fetched = sum(1 for path in into.iterdir() if path.stat().st_size == FILE_BYTES)
        if fetched != FILES:
            raise SystemExit(f"{self._server.name}: {fetched} of {FILES} files arrived whole")
        shutil.rmtree(into)
        return cost

    def list_twice(self, folder: str) -> tuple[float, float]:
        """CPU seconds for the first time, and again."""
        command = f"ls -1f {self._server.inbox(folder, 'many')}"
        with self._sftp(folder) as client:
            first = self.cost(lambda: client.do([command])).cpu
            return first, self.cost(lambda: client.do([command])).cpu

    def big(self) -> Cost:
        """One file."""
        with self._sftp("big") as client:
            command = f"get {self._server.inbox('big', 'big')}/{state.names(1)[0]} /dev/null"
            return self.cost(lambda: client.do([command]))

    def many(self, folder: str) -> tuple[Cost, float]:
        """Sessions that fetch at once, each one other files; with the 99th percentile of seconds a file."""
        names, inbox = state.names(FILES), self._server.inbox(folder, "small")
        jobs = [
            [f"get {inbox}/{names[(37 * one + number) % FILES]} /dev/null" for number in range(FILES_A_SESSION)]
            for one in range(SESSIONS)
        ]
        taken: list[float] = []
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(SESSIONS) as threads:
            clients = list(threads.map(lambda _: self._sftp(folder), range(SESSIONS)))
            for client in clients:
                stack.enter_context(client)
            begun = threading.Barrier(SESSIONS)

            def fetch(client: Sftp, job: list[str]) -> None:
                begun.wait()
                taken.extend(client.do(job))

            cost = self.cost(lambda: list(threads.map(fetch, clients, jobs)))
        taken.sort()
        return cost, taken[math.ceil(len(taken) * 0.99) - 1]


class Beside(Rounds[Measured]):
    """The gateway and OpenSSH in turn."""

    prefix = "sftp"

    def _idle(self, number: int) -> None:
        if number == 1:  # a heap that was used already hides what a session costs
            own, peer = self._both(Measured.idle)
            self._report.add("sftp_idle_pss", "KB", own / 1e3, peer / 1e3)

    def _login(self, _number: int) -> None:
        own, peer = self._both(Measured.login)
        self._report.add("sftp_login_cpu", "ms", own * 1e3, peer * 1e3)

    def _pull(self, number: int) -> None:
        own, peer = self._both(lambda one: one.pull(f"pull{number}"))
        self._add_cpu("pull", FILES, own, peer)
        self._add_rate("pull", FILES, own, peer)

    def _list(self, number: int) -> None:
        own, peer = self._both(lambda one: one.list_twice(f"list{number}"))
        self._report.add("sftp_list_cold_cpu", "s", own[0], peer[0])
        self._report.add("sftp_list_cpu", "s", own[1], peer[1])

    def _many(self, number: int) -> None:
        (own, own_p99), (peer, peer_p99) = self._both(lambda one: one.many(f"many{number}"))
        self._add_cpu("many", SESSIONS * FILES_A_SESSION, own, peer)
        self._report.add("sftp_many_p99", "ms", own_p99 * 1e3, peer_p99 * 1e3)
        self._add_rss(own, peer)


@contextlib.contextmanager
def _measured(directory: Path, fetched: Path) -> Iterator[Beside]:
    bench = Bench(directory)
    _fill(bench)
    with bench.gateway("sftp") as own, bench.sshd() as peer:
        time.sleep(5)  # its workers have begun
        absolute("idle_daemon_mb", own.tree.pss(of_server_alone=True) / MB, "MB", DAEMON_MB)
        absolute("idle_with_workers_mb", own.tree.pss() / MB, "MB", WITH_WORKERS_MB)
        yield Beside(Measured(bench, own, fetched), Measured(bench, peer, fetched), "openssh")


def _fill(bench: Bench) -> None:
    store = bench.store
    small, big, one = store.blobs(FILES, FILE_BYTES), [store.big(BIG_BYTES)], store.blobs(1, 1000)
    store.files("small", small, state.names(FILES))
    store.files("big", big, state.names(1))
    store.folder("big", big, state.names(1))
    many = state.names(LISTED)
    place = bench.files / "many"
    place.mkdir()
    for name in many:
        (place / name).touch()
    for number in range(1, ROUNDS + 1):
        store.folder(f"pull{number}", small, state.names(FILES))
        store.folder(f"many{number}", small, state.names(FILES))
        store.folder(f"list{number}", one * LISTED, many)
    store.close()


def main(*workloads: str) -> None:
    """Run, and print one line for each figure."""
    for program, package in (("sshd", "openssh-server"), ("sftp", "openssh-client")):
        find(program, package)
    asyncssh.set_log_level("CRITICAL")
    with directories() as (directory, fetched), _measured(directory, fetched) as beside:
        beside.run(workloads or WORKLOADS)


if __name__ == "__main__":
    main(*sys.argv[1:])
