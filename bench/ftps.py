"""FTP over TLS beside vsftpd: small files by two clients, one big file, many sessions.

The gateway serves real folders: rights, ledger and receipts are on, and every file is read for the first time by each
round. Both servers run on the same files with the same certificate and key, one after the other in each round; the
ratios are taken within a round. CPU is what the server's threads and processes used (user and kernel), dead ones
included. vsftpd runs as the user who runs the benchmark: its change of user, which root would have, costs it nothing.

- `ftps_pull_cpu`, `_rate`: ftplib fetches 2,000 files of 80 KB, each data connection resumes the TLS session
- `ftps_pull_lftp_cpu`, `_rate`: 500 of them by lftp, which takes some 20 a second of any server
- `ftps_big_cpu`, `_rate`: 1 GiB by lftp
- `ftps_many_cpu`, `_rate`, `_rss`: 50 sessions of ftplib fetch 100 files each at once; memory as growth over the
  server as it was when it had just started

    python -m bench.ftps [WORKLOAD…]     (pull pull_lftp big many; BRUNS=3 rounds)
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.beside import state
from bench.beside.ftp_clients import Access, Ftp, Lftp, Many
from bench.beside.rounds import BIG_BYTES, FILE_BYTES, FILES, FILES_A_SESSION, ROUNDS, SESSIONS, Rounds
from bench.beside.servers import Bench, Server, directories, find
from bench.beside.tree import Cost

FILES_OF_LFTP = 500
WORKLOADS = ("pull", "pull_lftp", "big", "many")


class Measured:
    """One server, and what it has been made to do."""

    def __init__(self, bench: Bench, server: Server, scratch: Path) -> None:
        self._bench = bench
        self._server = server
        self._scratch = scratch
        self.rss = server.tree.rss()

    def _access(self, folder: str) -> Access:
        server, bench = self._server, self._bench
        return Access(server.port, server.login(folder), bench.password, bench.world.authority.root)

    def _fetched(self, folder: str, files: int, fetch: Callable[[Path], object]) -> Cost:
        """What it costs to fetch a folder, once it is known that every file arrived."""
        into = self._scratch / self._server.name / folder
        into.mkdir(parents=True)
        cost = self._server.tree.cost(lambda: fetch(into))
        whole = sum(1 for path in into.iterdir() if path.stat().st_size == FILE_BYTES)
        if whole != files:
            raise SystemExit(f"{self._server.name}: {whole} of {files} files arrived whole")
        shutil.rmtree(into)
        return cost

    def pull(self, folder: str) -> Cost:
        """Every file of a folder, by one session of ftplib."""
        inbox = self._server.inbox(folder, "small")
        with contextlib.closing(Ftp(self._access(folder))) as client:
            client.nlst(inbox)

            def fetch(into: Path) -> None:
                for name in state.names(FILES):
                    with (into / name).open("wb") as file:
                        client.fetch(f"{inbox}/{name}", file.write)

            return self._fetched(folder, FILES, fetch)

    def pull_lftp(self, folder: str) -> Cost:
        """The same by lftp."""
        with Lftp(self._access(folder), self._server.inbox(folder, "small")) as client:
            gets = [f"get {name}" for name in state.names(FILES_OF_LFTP)]
            return self._fetched(folder, FILES_OF_LFTP, lambda into: client.do([f"lcd {into}", *gets]))

    def big(self) -> Cost:
        """One file."""
        with Lftp(self._access("big"), self._server.inbox("big", "big")) as client:
            return self._server.tree.cost(lambda: client.do([f"get {state.names(1)[0]} -o /dev/null"]))

    def many(self, folder: str) -> Cost:
        """Sessions that fetch at once, each one other files."""
        names, inbox = state.names(FILES), self._server.inbox(folder, "small")
        jobs = [
            [f"{inbox}/{names[(37 * one + number) % FILES]}" for number in range(FILES_A_SESSION)]
            for one in range(SESSIONS)
        ]
        with Many(self._access(folder), jobs) as clients:
            return self._server.tree.cost(clients.fetch)


class Beside(Rounds[Measured]):
    """The gateway and vsftpd in turn."""

    prefix = "ftps"

    def _pull(self, number: int) -> None:
        self._add_files("pull", FILES, *self._both(lambda one: one.pull(f"pull{number}")))

    def _pull_lftp(self, number: int) -> None:
        self._add_files("pull_lftp", FILES_OF_LFTP, *self._both(lambda one: one.pull_lftp(f"lftp{number}")))

    def _many(self, number: int) -> None:
        own, peer = self._both(lambda one: one.many(f"many{number}"))
        self._add_files("many", SESSIONS * FILES_A_SESSION, own, peer)
        self._add_rss(own, peer)

    def _add_files(self, name: str, files: int, own: Cost, peer: Cost) -> None:
        self._add_cpu(name, files, own, peer)
        self._add_rate(name, files, own, peer)


@contextlib.contextmanager
def _measured(directory: Path, fetched: Path) -> Iterator[Beside]:
    bench = Bench(directory)
    _fill(bench)
    with bench.gateway("ftps") as own, bench.vsftpd() as peer:
        time.sleep(5)  # its workers have begun
        yield Beside(Measured(bench, own, fetched), Measured(bench, peer, fetched), "vsftpd")


def _fill(bench: Bench) -> None:
    store = bench.store
    small, big = store.blobs(FILES, FILE_BYTES), [store.big(BIG_BYTES)]
    store.files("small", small, state.names(FILES))
    store.files("big", big, state.names(1))
    store.folder("big", big, state.names(1))
    for number in range(1, ROUNDS + 1):
        for kind in ("pull", "lftp", "many"):
            store.folder(f"{kind}{number}", small, state.names(FILES))
    store.close()


def main(*workloads: str) -> None:
    """Run, and print one line for each figure."""
    for program in ("vsftpd", "lftp"):
        find(program, program)
    with directories() as (directory, fetched), _measured(directory, fetched) as beside:
        beside.run(workloads or WORKLOADS)


if __name__ == "__main__":
    main(*sys.argv[1:])
