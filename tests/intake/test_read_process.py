"""Reading happens in a process with limits: what exceeds them ends that process, and takes nothing else with it."""

import asyncio
import os
import resource
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from gateway.errors import GatewayError, NotFound, Refused, TooLarge, Unavailable
from gateway.intake import process
from gateway.intake.read import Reading, ReadLimits
from gateway.pools import WorkerDied, WorkerProcesses
from tests.intake import makers
from tests.intake.makers import CATALOG, LIMITS, PAGE, PAGES, TODAY, factur_x, raw_pdf

Read = Callable[..., Reading]


@pytest.fixture(scope="module")
def worker() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("forkserver"), process.start, (LIMITS,)) as executor:
        yield executor


@pytest.fixture
def read(worker: ProcessPoolExecutor, tmp_path: Path) -> Read:
    """read_file in the worker, the XML to tmp_path/xml."""

    def read(path: Path, sidecar: bytes | None = None) -> Reading:
        return worker.submit(process.read_file, str(path), sidecar, str(tmp_path / "xml"), TODAY).result(30)

    return read


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "document.pdf"
    path.write_bytes(content)
    return path


def read_after_a_good_one(document: Path, limits: ReadLimits) -> Reading:
    """As the daemon does it, in pools.WorkerProcesses."""

    async def run() -> Reading:
        workers = WorkerProcesses("readers", 1, 60, process.start, (limits,))
        try:
            first = await workers.run(process.read_file, str(good), None, str(document.with_name("xml 1")), TODAY)
            good.write_text(first.facts.number)
            return await workers.run(process.read_file, str(document), None, str(document.with_name("xml 2")), TODAY)
        finally:
            workers.close()

    good = document.with_name("good.pdf")
    good.write_bytes(factur_x())
    try:
        return asyncio.run(run())
    finally:
        assert good.read_bytes() == b"F2026-0042"


def test_a_document_comes_back_as_facts_and_its_xml_as_a_file(read: Read, tmp_path: Path) -> None:
    """The worker returns facts and paths; the XML is the embedded one, byte for byte."""
    document = factur_x()
    got = read(written(tmp_path, document))
    assert (got.facts.number, got.sha256, got.size) == ("F2026-0042", makers.sha256(document), len(document))
    xml = (tmp_path / "xml").read_bytes()
    assert xml == makers.invoice_xml().encode()
    assert (got.xml_sha256, got.xml_size) == (makers.sha256(xml), len(xml))
    assert stat.S_IMODE((tmp_path / "xml").stat().st_mode) == 0o600


def test_a_sidecar_is_read_in_the_worker_too(read: Read, tmp_path: Path) -> None:
    """It is as hostile as the document; Refused comes back whole, over the border of processes."""
    path = written(tmp_path, factur_x())
    assert read(path, b'{"contract": "C-9"}').facts.contract == "C-9"
    with pytest.raises(Refused) as caught:
        read(path, b'{"buyer_siren": "123456782"}')
    assert (caught.value.code, caught.value.facts["key"]) == ("sidecar_contradicts", "buyer_siren")


def test_what_is_refused_leaves_no_xml_behind(read: Read, tmp_path: Path) -> None:
    """Nothing is kept half."""
    with pytest.raises(Refused):
        read(written(tmp_path, factur_x(issued="20990101")))
    assert not (tmp_path / "xml").exists()


def test_an_xml_never_overwrites_a_file(read: Read, tmp_path: Path) -> None:
    """The target is a fresh name, or something is wrong."""
    (tmp_path / "xml").write_bytes(b"kept")
    with pytest.raises(Unavailable):
        read(written(tmp_path, factur_x()))
    assert (tmp_path / "xml").read_bytes() == b"kept"


def _link(path: Path) -> None:
    path.symlink_to(written(path.parent, factur_x()))


@pytest.mark.parametrize("make", [_link, os.mkfifo, Path.mkdir], ids=["link", "fifo", "folder"])
def test_only_regular_files_are_read(read: Read, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A link could lead out of the folder, a FIFO never ends."""
    make(tmp_path / "odd.pdf")
    with pytest.raises(Refused) as caught:
        read(tmp_path / "odd.pdf")
    assert caught.value.code == "not_regular" and str(tmp_path) not in caught.value.message


def test_a_device_is_not_read(read: Read) -> None:
    """/dev/zero has no end."""
    with pytest.raises(Refused, match="not a regular file"):
        read(Path("/dev/zero"))


def test_a_file_that_is_gone_is_not_found(read: Read, tmp_path: Path) -> None:
    """Another gateway took it."""
    with pytest.raises(NotFound):
        read(tmp_path / "gone.pdf")


def test_a_file_over_the_limit_is_refused_without_being_read(read: Read, tmp_path: Path) -> None:
    """200 MB that exist only as a number: reading them would take the worker's memory."""
    path = tmp_path / "large.pdf"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(TooLarge, match="over the limit of 20 MB"):
        read(path)


def test_a_file_that_grows_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its producer still writes: what was read is no document."""
    path = written(tmp_path, factur_x())
    status = os.fstat

    def then_append(fd: int) -> os.stat_result:
        before = status(fd)
        with path.open("ab") as file:
            file.write(b"more")
        return before

    monkeypatch.setattr(os, "fstat", then_append)
    with pytest.raises(Unavailable):
        process._regular_file(str(path), LIMITS.max_bytes)


def test_the_limits_are_set_in_the_worker_alone(worker: ProcessPoolExecutor) -> None:
    """No core file may hold a client's invoice; the parent keeps its memory."""
    assert worker.submit(resource.getrlimit, resource.RLIMIT_CORE).result(30) == (0, 0)
    assert worker.submit(resource.getrlimit, resource.RLIMIT_AS).result(30)[0] == LIMITS.memory_bytes
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != LIMITS.memory_bytes


def test_a_worker_can_read_many_documents_longer_than_the_limit_of_one(read: Read, tmp_path: Path) -> None:
    """The CPU limit starts anew with each."""
    path = written(tmp_path, factur_x())
    for _ in range(200):
        (tmp_path / "xml").unlink(missing_ok=True)
        assert read(path).facts.number == "F2026-0042"


def test_a_document_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    """8 MB of numbers in one array are 600 MB once they are parsed."""
    document = written(tmp_path, raw_pdf(CATALOG, PAGES, PAGE, b"[" + b"1 " * 4_000_000 + b"]"))
    with pytest.raises(GatewayError) as caught:
        read_after_a_good_one(document, makers.limits(memory_bytes=500_000_000))
    assert caught.value.code in ("too_complex", "worker_died")


def test_a_document_that_takes_too_long_ends_its_worker(tmp_path: Path) -> None:
    """Wherever it is at that moment: no library's loop can ignore it."""
    document = written(tmp_path, raw_pdf(CATALOG, PAGES, PAGE, *[b"[[[[1]]]]"] * 500_000))
    with pytest.raises(WorkerDied):
        read_after_a_good_one(document, makers.limits(cpu_seconds=0.5, max_bytes=40_000_000))
