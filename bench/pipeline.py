"""How many documents a second go through the whole gateway, and how it behaves under ten thousand at once.

The real daemon on fresh state (SQLite, synchronous=FULL): invoices of the demo are renamed into its spool, and come
out sealed, verified and published in their clients' drop folders. The peer only seals: pyHanko's PdfSigner as it
comes, in as many processes as there are cores, before each run.

- `pipeline_folder`: 1,000 documents, from the first rename to the last published entry, against the peer's documents
  a second; the medians of five runs.
- `pipeline_cpu` is what a document costs, CPU time of the daemon and its workers, against the peer's. On a busy
  machine it says more: there is less of each second to be had, but not much more of it is needed.
- `pipeline_memory_growth`: 10,000 documents, largest proportional set size of the daemon and its workers after the
  1,000th, less what it was there. `listing_while_busy_p99` and `_max`: a client lists its inbox over SFTP meanwhile.

    python -m bench.pipeline [DOCUMENTS [MANY]]     (MANY 0: without the second part)
"""

import asyncio
import contextlib
import datetime as dt
import itertools
import math
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh
import httpx
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers

from gateway import clock, config, invoices
from gateway.demo import world
from gateway.demo.authority import Authority

RUNS = int(os.environ.get("BRUNS", "5"))
WARM = 8  # documents that go through before the clock starts: a daemon runs for months
STOCK = 15  # documents that the peer seals on each core
WITHIN = 900.0  # seconds for all documents; then the benchmark fails
LISTING_PAUSE = 0.1
_signer: Any = None  # a SimpleSigner, in a process of the peer
_TICKS = os.sysconf("SC_CLK_TCK")


def main(documents: int = 1000, many: int = 10_000) -> None:
    """Run, and print one line for each figure."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        made = _make(directory / "made", WARM + max(documents, many))
        warm, made = made[:WARM], made[WARM:]
        print(f"{len(made)} documents made", flush=True)
        authority = Authority.create(directory / "authority")
        stock, runs = [], []
        for number in range(RUNS):
            stock.append(_stock(made, authority))
            runs.append(_through(directory / f"run-{number}", warm, made[:documents]))
            rate, cpu = documents / runs[-1].seconds, runs[-1].cpu_seconds * 1000 / documents
            print(f"run {number + 1}: {rate:.1f} docs/s, {cpu:.2f} ms; stock pyHanko {stock[-1]}", flush=True)
        rate = documents / statistics.median(run.seconds for run in runs)
        cpu = statistics.median(run.cpu_seconds for run in runs) * 1000 / documents
        peer_rate = statistics.median(one.rate for one in stock)
        peer_cpu = statistics.median(one.cpu_ms for one in stock)
        _report("pipeline_folder", f"{rate:.1f}", "docs/s", rate / peer_rate, "stock_pyhanko")
        _report("pipeline_cpu", f"{cpu:.2f}", "ms/doc", cpu / peer_cpu, "stock_pyhanko")
        if many:
            _report_many(_through(directory / "many", warm, made, watched=True), documents)


@dataclass(frozen=True)
class _Run:
    """One drop of documents. `sizes`: (published so far, bytes of PSS); `listings`: seconds that each one took."""

    seconds: float
    cpu_seconds: float
    sizes: list[tuple[int, int]]
    listings: list[float]


class _Stock(NamedTuple):
    """What the peer reaches on all cores together, and what a document costs it."""

    rate: float  # documents a second
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.rate:.1f} docs/s, {self.cpu_ms:.0f} ms"


def _report_many(run: _Run, start: int) -> None:
    base = next(size for published, size in run.sizes if published >= start)
    peak = max(size for published, size in run.sizes if published >= start)
    _report("pipeline_memory_growth", f"{(peak - base) / 1e6:.1f}", "MB", peak / base, f"after_{start}")
    listings = sorted(run.listings)
    p99 = listings[math.ceil(len(listings) * 0.99) - 1]
    _report("listing_while_busy_p99", f"{p99 * 1000:.0f}", "ms", p99, "one_second")
    _report("listing_while_busy_max", f"{listings[-1] * 1000:.0f}", "ms", listings[-1], "one_second")


def _report(name: str, value: str, unit: str, ratio: float, peer: str) -> None:
    print(f"BENCH {name} {value} {unit} ratio={ratio:.3f} peer={peer}", flush=True)


def _make(directory: Path, count: int) -> list[Path]:
    """Different invoices of today, as files, made by all cores."""
    directory.mkdir()
    today = clock.day_of(clock.now(), config.IssuerSettings().zone)
    share = 100
    jobs = [(directory, today, first, min(share, count + 1 - first)) for first in range(1, count + 1, share)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        return list(itertools.chain.from_iterable(processes.map(_make_share, *zip(*jobs, strict=True))))


def _make_share(directory: Path, today: dt.date, first: int, count: int) -> list[Path]:
    paths = []
    for facts, content in invoices.series(count, today, first):
        paths.append(directory / f"{facts.number}.pdf")
        paths[-1].write_bytes(content)
    return paths


def _stock(made: list[Path], authority: Authority) -> _Stock:
    """Seal with what pyHanko's own documentation shows first; the processes begin before the clock does."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    begun = context.Barrier(cores)
    seal = authority.seal
    initargs = (str(seal.pkcs12), seal.password_file.read_bytes().strip(), made[0], begun)
    with context.Pool(cores, _begin_stock, initargs) as processes:
        processes.map(os.fspath, made[:cores], chunksize=1)  # waits until all have begun
        start = time.perf_counter()
        cpu = processes.map(_seal_stock, made[: STOCK * cores], chunksize=1)
        seconds = time.perf_counter() - start
    return _Stock(len(cpu) / seconds, sum(cpu) * 1000 / len(cpu))


def _begin_stock(pkcs12: str, password: bytes, first: Path, begun: Barrier) -> None:
    global _signer
    _signer = signers.SimpleSigner.load_pkcs12(pkcs12, passphrase=password)  # type: ignore[no-untyped-call]
    if _signer is None:
        raise SystemExit("pyHanko cannot read the authority's seal")
    _seal_stock(first)  # its imports
    begun.wait()


def _seal_stock(path: Path) -> float:
    """Seconds of CPU time that it took."""
    start = time.process_time()
    metadata = signers.PdfSignatureMetadata(field_name="Seal")
    signers.PdfSigner(metadata, _signer).sign_pdf(IncrementalPdfFileWriter(BytesIO(path.read_bytes())))
    return time.process_time() - start


def _through(directory: Path, warm: list[Path], made: list[Path], *, watched: bool = False) -> _Run:
    """Send documents through a daemon of its own, on fresh state.

    What it leaves stays until the end: ext4 without a journal looks at every inode that was deleted within the last
    minutes before it makes a file (`recently_deleted` in fs/ext4/ialloc.c), which would slow down the next run.
    """
    made_world = world.make(directory, None)
    environment = os.environ | {"GATEWAY__MAIL__ENABLED": "false"}
    command = [sys.executable, "-m", "gateway", "--config", str(made_world.config), "serve"]
    with subprocess.Popen(command, env=environment, start_new_session=True) as daemon:
        try:
            user = asyncio.run(_declare(made_world, daemon))
            _drop(made_world, daemon.pid, warm, None)
            watch = _Watch(made_world, daemon.pid, user) if watched else None
            run = _drop(made_world, daemon.pid, made, watch)
        finally:
            daemon.terminate()
    return run


async def _declare(made: world.World, daemon: "subprocess.Popen[bytes]") -> str:
    """The demo's clients and contracts, all subscribed, delivered to by folder alone; the first one's log-in."""
    async with _api(made, daemon) as api:
        clients = await world.declare(api, made, ("127.0.0.1", 0), "")
        for client in clients:
            await world.call(api, "POST", "/subscriptions", json={"contracts": list(client.contracts)})
            path = f"/clients/{client.id}/delivery-settings"
            etag = (await api.get(path)).headers["ETag"]
            folder = {"enabled": True, "formats": ["pdf"], "receipt": "delete"}
            body = {"email": {"enabled": False}, "folder": folder}
            await world.call(api, "PUT", path, json=body, headers={"If-Match": etag})
    return clients[0].user


@contextlib.asynccontextmanager
async def _api(made: world.World, daemon: "subprocess.Popen[bytes]") -> AsyncIterator[httpx.AsyncClient]:
    socket = made.directory / "state" / "admin.sock"
    for _ in range(600):
        if socket.exists() or daemon.poll() is not None:
            break
        await asyncio.sleep(0.1)
    transport = httpx.AsyncHTTPTransport(uds=str(socket), retries=5)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/v1", trust_env=False) as api:
        yield api


def _drop(made_world: world.World, pid: int, made: list[Path], watch: "_Watch | None") -> _Run:
    tmp, new = made_world.spool / "tmp", made_world.spool / "new"
    for path in made:
        shutil.copyfile(path, tmp / path.name)
    sizes = []
    with contextlib.closing(_published(made_world)) as count, watch or contextlib.nullcontext():
        before, cpu, start = next(count), _cpu_seconds(pid), time.perf_counter()
        for path in made:
            os.rename(tmp / path.name, new / path.name)
        while (published := next(count) - before) < len(made):
            if time.perf_counter() - start > WITHIN:
                raise SystemExit(f"only {published} of {len(made)} documents were published in {WITHIN:g} s")
            if watch is not None:
                sizes.append((published, _pss(pid)))
            time.sleep(0.5 if watch else 0.02)
        seconds = time.perf_counter() - start
        sizes.append((published, _pss(pid)))
    return _Run(seconds, _cpu_seconds(pid) - cpu, sizes, watch.seconds if watch else [])


def _published(made: world.World) -> Generator[int]:
    """How many entries were published so far, as often as asked."""
    with contextlib.closing(sqlite3.connect(f"file:{made.directory}/state/gateway.db?mode=ro", uri=True)) as database:
        while True:
            yield database.execute("SELECT sum(last_sequence) FROM folder").fetchone()[0]


def _processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    """The daemon and its workers, with the fields of proc_pid_stat(5) from the third on."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield path, fields


def _cpu_seconds(session: int) -> float:
    """Of what runs and of what it waited for: utime, stime, cutime, cstime."""
    return sum(int(ticks) for _, fields in _processes(session) for ticks in fields[11:15]) / _TICKS


def _pss(session: int) -> int:
    """Proportional set size, bytes: what is shared counts once."""
    total = 0
    for path, _ in _processes(session):
        with contextlib.suppress(OSError, ProcessLookupError):
            rows = (path / "smaps_rollup").read_text().splitlines()
            total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) * 1024
    return total


class _Watch:
    """A client that stays logged in and lists its inbox again and again, in a thread of its own."""

    def __init__(self, made: world.World, pid: int, user: str) -> None:
        self.seconds: list[float] = []
        self._host, _, port = config.load(made.config).sftp.listen.rpartition(":")
        self._port, self._user, self._key = int(port), user, made.private_key(user)
        self._ended = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._list())
        except Exception as error:  # noqa: BLE001 - told in the benchmark's own thread
            self._failed.append(error)

    async def _list(self) -> None:
        options: dict[str, Any] = {"known_hosts": None, "client_keys": [str(self._key)], "agent_path": None}
        async with (
            asyncssh.connect(self._host, self._port, username=self._user, config=None, **options) as connection,
            connection.start_sftp_client() as client,
        ):
            while not self._ended.is_set():
                start = time.perf_counter()
                await client.listdir("inbox")
                self.seconds.append(time.perf_counter() - start)
                await asyncio.sleep(LISTING_PAUSE)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
