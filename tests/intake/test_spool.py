"""What a producer renames into new/ is taken once, whatever its name, its kind, or the moment of a crash."""

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import SpoolSettings
from gateway.domain.states import DocumentState
from gateway.errors import Unavailable
from gateway.intake.accept import Candidate, Outcome
from gateway.intake.receive import Intake
from gateway.intake.spool import Spool
from tests import journey
from tests.intake import makers
from tests.journey import Journey

MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Shared: each test has a spool and numbers of its own."""
    with journey.opened(tmp_path_factory.mktemp("gateway"), keys=False) as made:
        yield made


class Producer:
    """A billing system and the spool that it writes to."""

    def __init__(self, gate: Journey, root: Path) -> None:
        self.gate = gate
        self.root = root
        self.new = root / "new"
        self.settings = SpoolSettings(directory=root, batch=4)
        self.spool = self.over(gate.core.intake)

    def over(self, intake: Intake) -> Spool:
        return Spool(self.settings, MAX_BYTES, intake, self.gate.core.blobs, self.gate.core.work)

    def put(self, name: str | bytes, content: bytes, sidecar: dict[str, str] | None = None) -> Path:
        """As a maildir wants it: written under tmp/, renamed into new/; the sidecar first."""
        path = self.new / os.fsdecode(name)
        if sidecar is not None:
            path.with_name(path.name + ".json").write_text(json.dumps(sidecar))
        written = self.root / "tmp" / "x"
        written.write_bytes(content)
        os.rename(written, path)
        return path

    def turn(self) -> int:
        return self.gate.run(self.spool.turn())

    def left(self) -> list[str]:
        return sorted(path.name for path in self.new.iterdir())

    def reason(self, folder: str = "refused") -> dict[str, str]:
        """The only reason in a folder."""
        (path,) = (self.root / folder).glob("*.reason.json")
        return json.loads(path.read_text("ascii"))  # type: ignore[no-any-return]

    def state_of(self, number: str) -> list[DocumentState]:
        return [row.state for row in self.gate.documents(number=number)]


@pytest.fixture
def producer(gate: Journey, tmp_path: Path) -> Producer:
    return Producer(gate, tmp_path / "spool")


def small(number: str, **facts: str) -> bytes:
    """A small Factur-X of the parties that are declared."""
    stated = {
        "seller": makers.legal(journey.SELLER), "buyer": makers.legal("000000026"), "contract": journey.CARD_S,
        "issued": "20250303",
    }  # fmt: skip
    return makers.factur_x(number=number, **(stated | facts))


def test_the_folders_are_made_and_a_second_start_finds_them(producer: Producer) -> None:
    assert sorted(path.name for path in producer.root.iterdir()) == ["new", "quarantined", "refused", "tmp", "work"]
    Producer(producer.gate, producer.root)


def test_a_file_is_taken_and_leaves_new(producer: Producer) -> None:
    """Once its row is committed; nothing is left behind anywhere."""
    number = journey.number()
    producer.put("a.pdf", small(number))
    assert producer.turn() == 1
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == [] == producer.gate.leftovers()
    assert producer.turn() == 0


def test_files_are_taken_in_the_order_of_arrival_over_batches(producer: Producer) -> None:
    """By time, then name: eleven files in batches of four, whichever is read first."""
    numbers = [journey.number() for _ in range(11)]
    for order, number in enumerate(numbers):
        path = producer.put(f"{20 - order}.pdf", small(number))
        os.utime(path, ns=(1_000_000_000 * (order // 2),) * 2)
    assert producer.turn() == 11
    rows = [row for row in producer.gate.documents() if row.number in numbers]
    # Of two that came at the same time, the name decides.
    expected = [number for pair in range(0, 11, 2) for number in reversed(numbers[pair : pair + 2])]
    assert [row.number for row in rows] == expected


@pytest.mark.parametrize("name", ["a.pdf.tmp", "a.part", "a.pdf.partial", "a.filepart", ".a.pdf", "a.pdf.json"])
def test_unfinished_names_and_sidecars_alone_are_left_alone(producer: Producer, name: str) -> None:
    producer.put(name, b"half")
    assert producer.turn() == 0
    assert producer.left() == [name]


def test_a_sidecar_goes_with_its_file(producer: Producer) -> None:
    """It completes what the document does not say, and leaves new/ with it."""
    number = journey.number()
    producer.put("a.pdf", small(number, contract=""), {"contract": journey.CARD_S})
    producer.turn()
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == []


def test_a_refused_file_is_set_aside_with_its_sidecar_and_its_reason(producer: Producer) -> None:
    """The file as it was, and beside it a file that says why."""
    producer.put("a.pdf", b"no PDF", {"contract": journey.CARD_S})
    assert producer.turn() == 1
    refused = producer.root / "refused"
    assert sorted(path.name for path in refused.iterdir()) == ["a.pdf", "a.pdf.json", "a.pdf.reason.json"]
    assert (refused / "a.pdf").read_bytes() == b"no PDF"
    reason = producer.reason()
    assert (reason["file"], reason["code"]) == ("a.pdf", "not_pdf") and reason["reason"]
    assert producer.left() == []
    assert producer.turn() == 0


def test_a_second_refused_file_of_the_same_name_replaces_nothing(producer: Producer) -> None:
    for content in (b"first", b"second"):
        producer.put("a.pdf", content)
        producer.turn()
    kept = [path for path in (producer.root / "refused").iterdir() if not path.name.endswith(".json")]
    assert sorted(path.read_bytes() for path in kept) == [b"first", b"second"]
    assert all(path.with_name(path.name + ".reason.json").exists() for path in kept)


def test_a_number_with_other_bytes_goes_to_quarantined(producer: Producer) -> None:
    """With the document's id, for the operator who decides."""
    number = journey.number()
    producer.put("a.pdf", small(number))
    producer.turn()
    producer.put("b.pdf", small(number, total="121.00"))
    producer.turn()
    quarantined = producer.gate.documents(number=number)[1]
    assert quarantined.state is DocumentState.QUARANTINED
    reason = producer.reason("quarantined")
    assert (reason["code"], reason["document"]) == ("quarantined", quarantined.id)
    assert (producer.root / "quarantined" / "b.pdf").exists()
    assert producer.left() == []


def test_the_same_file_again_gets_the_same_answer(producer: Producer) -> None:
    """Under another name too."""
    number = journey.number()
    content = small(number)
    for name in ("a.pdf", "a.pdf", "b.pdf"):
        producer.put(name, content)
        producer.turn()
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == []
    assert list((producer.root / "refused").iterdir()) == []


def test_one_bad_file_stops_no_other_of_its_batch(producer: Producer) -> None:
    number = journey.number()
    producer.put("a.pdf", b"no PDF")
    producer.put("b.pdf", small(number))
    producer.put("c.pdf", small(journey.number(), contract="NO-SUCH"))
    assert producer.turn() == 3
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    codes = {json.loads(path.read_text())["code"] for path in (producer.root / "refused").glob("*.reason.json")}
    assert codes == {"not_pdf", "unknown_contract"}


ODD_NAMES: list[str | bytes] = [
    "a\nb.pdf",
    "\u202egpj.fdp",
    "-rf",
    "CON",
    "a'; DROP TABLE document;--.pdf",
    "x" * 251 + ".pdf",
    "e\u0301.pdf",
    b"\xff\xfe.pdf",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_a_name_may_be_anything(producer: Producer, name: str | bytes) -> None:
    """Good ones are taken; bad ones are set aside, their name shown in pure ASCII."""
    number = journey.number()
    producer.put(name, small(number))
    assert producer.turn() == 1
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    producer.put(name, b"no PDF")
    assert producer.turn() == 1
    assert producer.left() == []
    (kept,) = [path for path in (producer.root / "refused").iterdir() if not path.name.endswith(".reason.json")]
    assert kept.read_bytes() == b"no PDF"
    assert producer.reason()["file"].encode()


def link(path: Path) -> None:
    target = path.parent.parent / "secret.pdf"
    target.write_bytes(small(journey.number()))
    path.symlink_to(target)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


@pytest.mark.parametrize("make", [link, os.mkfifo, listening, Path.mkdir], ids=["link", "fifo", "socket", "folder"])
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_without_following_or_waiting(
    producer: Producer, make: Callable[[Path], None]
) -> None:
    """A link could name any file of the host, a FIFO would hold the spool for ever."""
    make(producer.new / "a.pdf")
    assert producer.turn() == 1
    assert producer.reason()["code"] == "not_regular"
    assert producer.left() == []
    assert not stat.S_ISREG(os.lstat(producer.root / "refused" / "a.pdf").st_mode)


def test_what_cannot_leave_new_stops_nothing_behind_it(producer: Producer) -> None:
    """A folder of another user cannot be moved; it is said, and the invoices go on."""
    (producer.new / "a folder").mkdir(mode=0o500)
    number = journey.number()
    producer.put("z.pdf", small(number))
    with pytest.raises(Unavailable, match="'a folder' cannot leave new/"):
        producer.turn()
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == ["a folder"]


def test_what_cannot_leave_new_is_answered_once(producer: Producer) -> None:
    """The spool looks every few seconds, for days maybe: each look would leave its record for ever."""
    folder = producer.new / "a folder"
    folder.mkdir(mode=0o500)
    before = len(producer.gate.records("document.refused"))
    for _ in range(3):
        with pytest.raises(Unavailable, match="'a folder' cannot leave new/"):
            producer.turn()
    assert len(producer.gate.records("document.refused")) == before + 1
    folder.chmod(0o700)
    producer.turn()
    assert producer.left() == [] and producer.reason()["code"] == "not_regular"


@pytest.mark.timeout(20)
def test_a_sidecar_that_is_no_regular_file_is_refused_too(producer: Producer) -> None:
    os.mkfifo(producer.new / "a.pdf.json")
    producer.put("a.pdf", small(journey.number()))
    producer.turn()
    assert producer.reason()["code"] == "not_regular"
    assert producer.left() == []


def test_a_file_over_the_limit_is_refused_before_it_is_copied(producer: Producer) -> None:
    path = producer.put("a.pdf", b"%PDF-1.7\n")
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    producer.turn()
    assert producer.reason()["code"] == "too_large"


def test_a_file_that_vanished_is_no_error(producer: Producer) -> None:
    """A producer may take back what was not read yet."""
    number = journey.number()
    scan = producer.spool._scan

    def and_vanish() -> object:
        found = scan()
        (producer.new / "a.pdf").unlink()
        return found

    producer.spool._scan = and_vanish  # type: ignore[method-assign, assignment]
    producer.put("a.pdf", small(journey.number()))
    producer.put("b.pdf", small(number))
    producer.turn()
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert list((producer.root / "refused").iterdir()) == []


class Killed(BaseException):
    """The process ends here."""


class Interrupted:
    """The intake, with something that happens right after the commit."""

    def __init__(self, intake: Intake, happens: Callable[[], None]) -> None:
        self._intake = intake
        self._happens = happens

    def __getattr__(self, name: str) -> object:
        return getattr(self._intake, name)

    async def accept(self, candidates: list[Candidate]) -> list[Outcome]:
        answers = await self._intake.accept(candidates)
        self._happens()
        return answers  # type: ignore[return-value]


def test_killed_between_the_commit_and_the_unlink_it_is_not_taken_twice(producer: Producer) -> None:
    """The file is still there after the restart, and gets the answer that it had."""

    def die() -> None:
        raise Killed

    number = journey.number()
    producer.put("a.pdf", small(number))
    with pytest.raises(Killed):
        producer.gate.run(producer.over(Interrupted(producer.gate.core.intake, die)).turn())  # type: ignore[arg-type]
    assert producer.left() == ["a.pdf"]
    assert producer.turn() == 1
    assert producer.left() == []
    (row,) = producer.gate.documents(number=number)
    assert producer.gate.events(document=row.id) == ["document.received", "document.submitted_again"]


def test_a_newer_file_of_the_same_name_is_not_thrown_away_with_the_older(producer: Producer) -> None:
    """It was renamed into new/ while the older one was being accepted."""
    older, newer = journey.number(), journey.number()
    producer.put("a.pdf", small(older))

    def rename() -> None:
        producer.put("a.pdf", small(newer))

    spool = producer.over(Interrupted(producer.gate.core.intake, rename))  # type: ignore[arg-type]
    producer.gate.run(spool.turn())
    assert producer.left() == ["a.pdf"]
    producer.turn()
    assert (producer.state_of(older), producer.state_of(newer)) == ([DocumentState.RECEIVED],) * 2
    assert producer.left() == []


def test_a_newer_file_that_comes_while_the_older_leaves_is_not_touched(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a name and the removal of what it leads to, a producer renames another file onto it."""
    older, newer = journey.number(), journey.number()
    producer.put("a.pdf", small(older), {"number": older})
    looked_at = os.lstat

    def and_then(path: Path) -> os.stat_result:
        found = looked_at(path)
        if path.name == "a.pdf":
            monkeypatch.undo()
            producer.put("a.pdf", small(newer), {"number": newer})
        return found

    monkeypatch.setattr(os, "lstat", and_then)
    producer.turn()
    producer.turn()
    assert producer.state_of(older) == producer.state_of(newer) == [DocumentState.RECEIVED]
    assert producer.left() == []


def test_a_sidecar_that_comes_before_its_file_is_not_removed_with_the_older_one(producer: Producer) -> None:
    """The next file of the same name: its sidecar is there first, while the older file is being accepted."""
    older, newer = journey.number(), journey.number()
    producer.put("a.pdf", small(older), {"number": older})

    def come() -> None:
        (producer.new / "a.pdf.json").write_text(json.dumps({"number": newer, "contract": journey.CARD_S}))

    producer.gate.run(producer.over(Interrupted(producer.gate.core.intake, come)).turn())  # type: ignore[arg-type]
    assert producer.left() == ["a.pdf.json"]


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_killed_while_it_was_taken_out_a_file_gets_its_answer_again(producer: Producer, with_sidecar: bool) -> None:
    """What was claimed lies in work/; it is put back at the start, unless only a sidecar is left of it."""
    number = journey.number()
    producer.put("a.pdf", small(number), {"number": number} if with_sidecar else None)
    for path in producer.new.iterdir():
        path.rename(producer.root / "work" / path.name)
    (producer.root / "work" / "b.pdf.json").write_text("{}")
    producer.spool = producer.over(producer.gate.core.intake)
    assert list((producer.root / "work").iterdir()) == []
    assert producer.turn() == 1
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == []


def test_a_directory_that_was_being_taken_out_stops_no_start(producer: Producer) -> None:
    """Killed at that moment; no second link leads to a directory, nor to a file of another user's."""
    (producer.root / "work" / "a folder").mkdir()
    producer.spool = producer.over(producer.gate.core.intake)
    assert producer.turn() == 1
    assert producer.reason()["code"] == "not_regular"
    assert (producer.left(), list((producer.root / "work").iterdir())) == ([], [])


def test_what_was_being_taken_out_keeps_its_sidecar_beside_a_newer_file_of_its_name(producer: Producer) -> None:
    """Neither gets the other's."""
    older, newer = journey.number(), journey.number()
    for of in (older, newer):
        producer.put("a.pdf", small(of), {"number": of})
        if of == older:
            for path in producer.new.iterdir():
                path.rename(producer.root / "work" / path.name)
    assert producer.turn() == 2
    assert producer.state_of(older) == producer.state_of(newer) == [DocumentState.RECEIVED]
    assert producer.left() == []


def test_a_file_that_cannot_be_read_now_waits_alone(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk does not give it; the others of its batch go on, and it is tried again."""
    waiting, number = journey.number(), journey.number()
    copy = producer.spool._copy

    def fail(item: object, scratch: Path) -> bytes | None:
        if item.name == "a.pdf":  # type: ignore[attr-defined]
            raise Unavailable("the spool's file could not be copied (I/O error)")
        return copy(item, scratch)  # type: ignore[arg-type]

    producer.put("a.pdf", small(waiting))
    producer.put("b.pdf", small(number))
    monkeypatch.setattr(producer.spool, "_copy", fail)
    with pytest.raises(Unavailable):
        producer.turn()
    assert producer.state_of(number) == [DocumentState.RECEIVED]
    assert producer.left() == ["a.pdf"]
    monkeypatch.undo()
    producer.turn()
    assert producer.state_of(waiting) == [DocumentState.RECEIVED]


def test_below_the_disk_s_floor_files_stay_where_they_are(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer.gate.core.reserve, "is_low", True)
    producer.put("a.pdf", small(journey.number()))
    with pytest.raises(Unavailable):
        producer.turn()
    assert producer.left() == ["a.pdf"]


def test_many_producers_at_once_lose_nothing(producer: Producer) -> None:
    """They rename while the spool is read."""
    numbers = [journey.number() for _ in range(24)]

    def produce(mine: list[str]) -> None:
        for number in mine:
            path = producer.root / "tmp" / f"{number}"
            path.write_bytes(small(number))
            os.rename(path, producer.new / f"{number}.pdf")

    threads = [threading.Thread(target=produce, args=(numbers[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or producer.left():
        producer.turn()
    assert [producer.state_of(number) for number in numbers] == [[DocumentState.RECEIVED]] * 24


@pytest.mark.parametrize("broken", ["new", "refused"])
def test_a_folder_of_the_spool_that_is_gone_stops_the_spool_and_nothing_else(producer: Producer, broken: str) -> None:
    """Its worker waits and looks again: the daemon must not end of it."""
    producer.put("a.pdf", b"no PDF")
    folder, away = producer.root / broken, producer.root / "away"
    folder.rename(away)
    with pytest.raises(Unavailable):
        producer.turn()
    away.rename(folder)
    assert producer.turn() == 1
    assert producer.reason()["code"] == "not_pdf"
