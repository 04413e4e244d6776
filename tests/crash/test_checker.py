"""The crash loop's checker sees each kind of violation: rows, bytes, files, messages of a finished run are damaged.

A loop whose checker sees nothing passes whatever the gateway does.
"""

import dataclasses
import hashlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import clock
from gateway.domain.states import Channel, DocumentState
from gateway.evidence import canonical
from tests.crash import witness
from tests.crash.checker import State, check_state
from tests.crash.doors import Doors, Promise
from tests.crash.station import Offer, Station, Template, make_offers


@dataclass
class Scene:
    """A finished round, to be damaged: its directory, what was handed in, and one thing of each kind in it."""

    station: Station
    offers: list[Offer]
    doors: Doors
    document: str  # sealed; it came by the spool
    other: str  # another such one
    quarantined: str
    published: str  # the document's delivery by folder
    mail: str  # the document's delivery by mail
    folder: str

    @classmethod
    def of(cls, station: Station, offers: list[Offer], doors: Doors) -> "Scene":
        state = State.of(station.state)
        sealed = [d for d in state.documents.values() if d.state is DocumentState.SEALED and d.source == "spool"]
        quarantined = next(d.id for d in state.documents.values() if d.state is DocumentState.QUARANTINED)
        by = {delivery.channel: delivery for delivery in state.deliveries_of[sealed[0].id]}
        published, mail = by[Channel.FOLDER], by[Channel.EMAIL]
        things = (sealed[0].id, sealed[1].id, quarantined, published.id, mail.id, published.destination)
        return cls(station, offers, doors, *things)

    def findings(self) -> list[str]:
        state, wrong = check_state(self.station.state)
        wrong += witness.unkept(self.station, state, self.offers, self.doors)
        return wrong + witness.unfinished(self.station, state, self.offers, self.doors)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.station.state / "gateway.db") as database:
            found = database.execute(statement, values).fetchall()
        database.close()
        return found

    def lift_constraints(self) -> None:
        """No key, no trigger, no CHECK stands in the way of damage."""
        for (table,) in self.sql("SELECT name FROM sqlite_master WHERE type = 'table'"):
            self.sql(f"CREATE TABLE damaged AS SELECT * FROM {table}")
            self.sql(f"DROP TABLE {table}")
            self.sql(f"ALTER TABLE damaged RENAME TO {table}")

    def row(self, table: str, where: str, *values: object) -> dict[str, Any]:
        columns = [name for _, name, *_ in self.sql(f"PRAGMA table_info({table})")]
        return dict(zip(columns, self.sql(f"SELECT * FROM {table} WHERE {where}", *values)[0], strict=True))

    def again(self, table: str, where: str, *values: object, **changes: object) -> dict[str, Any]:
        """Insert a row once more, with changes."""
        row = self.row(table, where, *values) | changes
        self.sql(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row.values())
        return row

    def blob(self, digest: str) -> Path:
        return self.station.state / "blobs" / "objects" / digest[:2] / digest

    def blob_of(self, column: str, table: str, id_: str) -> Path:
        return self.blob(str(self.row(table, "id = ?", id_)[column]))

    def keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        write(self.blob(digest), content)
        return digest

    def record(self, event: str, subject: str, **facts: object) -> None:
        """Let a record say something else, with a SHA-256 that fits."""
        row = self.row("evidence_record", "event = ? AND subject = ?", event, subject)
        body = json.loads(row["body"])
        body["facts"] |= facts
        text = canonical(body)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.sql("UPDATE evidence_record SET body = ?, sha256 = ? WHERE id = ?", text, digest, row["id"])

    def record_again(self, event: str, subject: str) -> None:
        row = self.row("evidence_record", "event = ? AND subject = ?", event, subject)
        id_ = clock.new_id("evr")
        text = canonical(json.loads(row["body"]) | {"id": id_})
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.again("evidence_record", "id = ?", row["id"], id=id_, body=text, sha256=digest)

    def forget(self, document: str, *, wholly: bool = True) -> None:
        """Delete what came of a document; `wholly`: the document too, with all its records."""
        for delivery in self.sql("SELECT id FROM delivery WHERE document_id = ?", document):
            self.sql("DELETE FROM attempt WHERE delivery_id = ?", *delivery)
        entries = "SELECT id FROM folder_entry WHERE document_id = ?"
        self.sql(f"DELETE FROM folder_event WHERE entry_id IN ({entries})", document)
        for table in ("delivery", "folder_entry", "seal"):
            self.sql(f"DELETE FROM {table} WHERE document_id = ?", document)
        if wholly:
            self.sql("DELETE FROM evidence_record WHERE document_id = ?", document)
            self.sql("DELETE FROM document WHERE id = ?", document)

    def replace_sealed(self, content: bytes) -> None:
        """Other bytes in the place of the sealed ones, in each row and record that names them."""
        digest, size = self.keep(content), len(content)
        self.sql("UPDATE document SET sealed_sha256 = ?, sealed_size = ? WHERE id = ?", digest, size, self.document)
        self.sql("UPDATE seal SET sha256 = ? WHERE document_id = ?", digest, self.document)
        where = "document_id = ? AND format = 'pdf'"
        self.sql(f"UPDATE folder_entry SET sha256 = ?, size = ? WHERE {where}", digest, size, self.document)
        self.record("document.sealed", self.document, sha256=digest, size=size)

    @staticmethod
    def empty(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()

    def message(self) -> Path:
        return min((self.station.directory / "mailbox" / "new").glob("*.eml"))

    def set_message(self, old: bytes, new: bytes) -> None:
        content = self.message().read_bytes()
        assert old in content
        self.message().write_bytes(content.replace(old, new))

    def aside(self, folder: str, ending: str) -> Path:
        return next(path for path in (self.station.spool / folder).iterdir() if path.name.endswith(ending))


@pytest.fixture(scope="session")
def finished(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A dozen documents by all doors, nobody killed; no constraint is left in the database."""
    station, offers = Station.new(tmp_path_factory.mktemp("finished") / "station", template), make_offers(12)
    doors = Doors(station, offers, random.Random(3), mixed=True)
    with station.mail(), station.start() as daemon:
        with doors.asking(daemon, to_the_end=True):
            deadline = time.monotonic() + 60
            while station.waiting() or not (doors.is_done() and station.is_settled()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        daemon.terminate()
        assert daemon.wait(30) == 0
    scene = Scene.of(station, offers, doors)
    assert scene.findings() == []
    scene.lift_constraints()
    return scene


@pytest.fixture
def scene(finished: Scene, tmp_path: Path) -> Scene:
    """A copy of it."""
    shutil.copytree(finished.station.directory, tmp_path / "station", ignore=shutil.ignore_patterns("*.sock"))
    station = Station(tmp_path / "station", finished.station.template)
    return dataclasses.replace(finished, station=station)


def write(path: Path, content: bytes) -> None:
    """Whatever may be there: bytes of the store are read-only."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _publish_again(scene: Scene) -> None:
    """As a publisher would that did not see that it had been: with sequence numbers, names and records."""
    row = scene.row("folder", "id = ?", scene.folder)
    sequence = row["last_sequence"] + 1
    where = "delivery_id = ? AND format = 'pdf'"
    name = {"name": "again.pdf", "name_folded": "again.pdf", "mtime": row["last_mtime"]}
    entry = scene.again("folder_entry", where, scene.published, id="ent_again", sequence=sequence, **name)
    of_entry = (scene.folder, row["last_sequence"])
    where = "folder_id = ? AND sequence = ?"
    scene.again("folder_event", where, *of_entry, sequence=sequence, entry_id=entry["id"])
    scene.sql("UPDATE folder SET last_sequence = ? WHERE id = ?", sequence, scene.folder)


def _take_number(scene: Scene) -> None:
    first = scene.row("document", "id = ?", scene.document)
    values = (first["number"], first["key"], first["accepted_key"], scene.other)
    scene.sql("UPDATE document SET number = ?, key = ?, accepted_key = ? WHERE id = ?", *values)


def _stand_still(scene: Scene) -> None:
    """The document was received, and nothing more happened, nor will."""
    scene.forget(scene.document, wholly=False)
    scene.sql(
        "UPDATE document SET state = 'received', sealed_sha256 = NULL, sealed_size = NULL WHERE id = ?", scene.document
    )
    scene.sql("DELETE FROM evidence_record WHERE document_id = ? AND event != 'document.received'", scene.document)


def _turn_a_byte(scene: Scene) -> None:
    content = bytearray(scene.blob_of("sealed_sha256", "document", scene.document).read_bytes())
    content[len(content) // 3] ^= 1
    scene.replace_sealed(bytes(content))


def _send_twice(scene: Scene) -> None:
    first = scene.message()
    for end in (".json", ".eml"):
        shutil.copy(first.with_suffix(end), first.with_name(f"msg_again{end}"))


def _send_elsewhere(scene: Scene) -> None:
    path = scene.message().with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"recipients": ["other@clients.example"]}))


def _die_in_a_worker(scene: Scene) -> None:
    """Without a worker that was killed there is no such end."""
    scene.forget(scene.document, wholly=False)
    reason = "the worker process ended: the document exceeds its limits of memory or time"
    scene.sql("UPDATE document SET state = 'quarantined', state_reason = ? WHERE id = ?", reason, scene.document)


DAMAGES: dict[str, tuple[Callable[[Scene], object], str]] = {
    # Lost
    "a document's row": (lambda s: s.sql("DELETE FROM document WHERE id = ?", s.document), "a seal belongs to"),
    "a document of the spool without a trace": (lambda s: s.forget(s.document), "is lost"),
    "a document of the API without a trace": (
        lambda s: s.forget(s.row("document", "source = 'api' AND nature = 'original'")["id"]), "was answered",
    ),
    "a document of submit without a trace": (
        lambda s: s.forget(s.row("document", "source = 'submit'")["id"]), "was answered",
    ),
    "a seal's row": (lambda s: s.sql("DELETE FROM seal WHERE document_id = ?", s.document), "state, seal and sealed"),
    "a delivery's row": (lambda s: s.sql("DELETE FROM delivery WHERE id = ?", s.mail), "it has 1 deliveries"),
    "an entry's row": (
        lambda s: s.sql("DELETE FROM folder_entry WHERE delivery_id = ? AND format = 'xml'", s.published),
        "it has 1 entries",
    ),
    "an attempt's row": (
        lambda s: s.sql("DELETE FROM attempt WHERE delivery_id = ?", s.mail), "are not numbered 1, 2",
    ),
    "a folder's row": (lambda s: s.sql("DELETE FROM folder WHERE id = ?", s.folder), "an entry of a folder belongs"),
    "a document that an answer names": (
        lambda s: s.sql("UPDATE idempotency_key SET body = '{\"id\": \"doc_none\"}'"), "an answer belongs to",
    ),
    "an attempt's delivery": (
        lambda s: s.sql("UPDATE attempt SET delivery_id = 'dlv_x' WHERE delivery_id = ?", s.mail),
        "an attempt belongs to dlv_x",
    ),
    "a sequence number's folder": (
        lambda s: s.sql("UPDATE folder_event SET folder_id = 'fld_x' WHERE sequence = 1"),
        "a sequence number belongs to fld_x",
    ),
    "a record's document": (
        lambda s: s.sql("UPDATE evidence_record SET document_id = 'doc_x' WHERE document_id = ?", s.document),
        "a record belongs to doc_x",
    ),
    "a message that the relay accepted": (lambda s: s.message().unlink(), "was accepted and did not arrive"),
    # Twice
    "a document's row twice": (lambda s: s.again("document", "id = ?", s.document), "is there twice"),
    "a document under two ids": (
        lambda s: s.again("document", "id = ?", s.document, id="doc_again"), "accepted 2 times",
    ),
    "the same bytes twice in quarantine": (
        lambda s: s.again("document", "id = ?", s.quarantined, id="doc_again"), "the same bytes 2 times",
    ),
    "one number for two documents": (_take_number, "accepted 2 times"),
    "a second delivery to one mailbox": (
        lambda s: s.again("delivery", "id = ?", s.mail, id="dlv_again", again=1), "it has 3 deliveries",
    ),
    "published twice": (_publish_again, "it has 3 entries"),
    "an attempt twice": (lambda s: s.again("attempt", "delivery_id = ?", s.mail), "is there twice"),
    "sent twice": (_send_twice, "arrived 2 times"),
    # Bytes
    "received bytes missing": (
        lambda s: s.blob_of("received_sha256", "document", s.document).unlink(), "there are no such bytes",
    ),
    "sealed bytes missing": (
        lambda s: s.blob_of("sealed_sha256", "document", s.document).unlink(), "there are no such bytes",
    ),
    "an XML missing": (lambda s: s.blob_of("xml_sha256", "document", s.document).unlink(), "there are no such bytes"),
    "a message missing": (
        lambda s: s.blob_of("message_sha256", "delivery", s.mail).unlink(), "there are no such bytes",
    ),
    "bytes altered": (
        lambda s: write(s.blob_of("xml_sha256", "document", s.document), b"other"), "its bytes have another SHA-256",
    ),
    "bytes cut short that no row names": (
        lambda s: write(s.blob(s.keep(b"whole")), b"who"), "its bytes have another SHA-256",
    ),
    "bytes under another folder": (
        lambda s: (path := s.blob(s.keep(b"whole")), path.rename(path.parent.with_name("00") / path.name)),
        "has no place there",
    ),
    "bytes beside the objects": (lambda s: (s.station.state / "blobs" / "stray").touch(), "has no place there"),
    "scratch left": (lambda s: (s.station.state / "blobs" / "scratch" / "tmp_x").touch(), "scratch/tmp_x is left"),
    "an entry of other bytes than were sealed": (
        lambda s: s.sql(
            "UPDATE folder_entry SET sha256 = ? WHERE delivery_id = ? AND format = 'pdf'",
            s.row("document", "id = ?", s.document)["received_sha256"], s.published,
        ),
        "other bytes in them than its document",
    ),
    "a document delivered without a seal": (
        lambda s: s.replace_sealed(s.blob_of("received_sha256", "document", s.document).read_bytes()),
        "its seal is not valid",
    ),
    "a sealed document altered": (_turn_a_byte, "its seal is not valid"),
    "a message of other bytes": (lambda s: s.set_message(b"MIME-Version", b"Mime-Version"), "arrived as other bytes"),
    "a message of nobody": (lambda s: s.set_message(b"Message-ID: <", b"Message-ID: <x"), "belongs to no delivery"),
    "a message to somebody else": (_send_elsewhere, "arrived at"),
    # States
    "neither sealed nor explained": (_stand_still, "is neither sealed nor explained"),
    "waiting for nothing": (
        lambda s: s.sql("UPDATE document SET state = 'waiting' WHERE id = ?", s.document),
        "0 records of document.waiting",
    ),
    "waiting without a reason": (
        lambda s: s.sql("UPDATE document SET state = 'waiting' WHERE id = ?", s.document),
        "quarantine without a reason",
    ),
    "waiting at the end": (
        lambda s: s.sql("UPDATE document SET state = 'waiting' WHERE id = ?", s.document),
        "is neither sealed nor explained",
    ),
    "a step that nobody will take": (_stand_still, "its next step and its state do not agree"),
    "quarantine without a reason": (
        lambda s: s.sql("UPDATE document SET state_reason = '' WHERE id = ?", s.quarantined),
        "quarantine without a reason",
    ),
    "quarantine that holds a number": (
        lambda s: s.sql("UPDATE document SET accepted_key = key || 'x' WHERE id = ?", s.quarantined), "it holds",
    ),
    "accepted without a number": (
        lambda s: s.sql("UPDATE document SET accepted_key = NULL WHERE id = ?", s.document), "it holds None",
    ),
    "a key of another number": (
        lambda s: s.sql("UPDATE document SET number = 'other' WHERE id = ?", s.document), "it is one of",
    ),
    "a state that nothing leads to": (
        lambda s: s.sql("UPDATE document SET state = 'withdrawn' WHERE id = ?", s.document), "nothing here leads to it",
    ),
    "a lease on what is done": (
        lambda s: s.sql("UPDATE document SET lease_owner = 'own_x' WHERE id = ?", s.document),
        "its next step and its state do not agree",
    ),
    "an end in a worker that nobody killed": (_die_in_a_worker, "documents went with a worker"),
    "a delivery that was not made": (
        lambda s: s.sql("UPDATE delivery SET state = 'planned' WHERE id = ?", s.published), "is planned",
    ),
    "a delivery held": (
        lambda s: s.sql("UPDATE delivery SET state = 'held' WHERE id = ?", s.mail), "nothing here leads to it",
    ),
    "a delivery by folder held": (
        lambda s: s.sql("UPDATE delivery SET state = 'held' WHERE id = ?", s.published), "nothing here leads to it",
    ),
    "published, and due again": (
        lambda s: s.sql("UPDATE delivery SET due_at = created_at WHERE id = ?", s.published),
        "its next step and its state do not agree",
    ),
    "sent, and due again": (
        lambda s: s.sql("UPDATE delivery SET due_at = created_at WHERE id = ?", s.mail),
        "its next step and its state do not agree",
    ),
    "an original that became a duplicate": (
        lambda s: s.sql("UPDATE document SET nature = 'duplicate' WHERE id = ?", s.document), "its fate was accepted",
    ),
    "accepted by the relay without a message": (
        lambda s: s.sql("UPDATE delivery SET message_sha256 = NULL WHERE id = ?", s.mail),
        "accepted without an attempt that says so",
    ),
    "an attempt that runs, of a delivery that does not": (
        lambda s: s.sql("UPDATE attempt SET outcome = '', ended_at = NULL WHERE delivery_id = ?", s.mail),
        "1 attempts run",
    ),
    "an attempt without a result": (
        lambda s: s.sql("UPDATE attempt SET outcome = '' WHERE delivery_id = ?", s.mail), "ended without a result",
    ),
    "an uncertain attempt that nobody minds": (
        lambda s: s.sql("UPDATE attempt SET outcome = 'uncertain' WHERE delivery_id = ?", s.mail), "maybe_sent is not",
    ),
    "accepted twice": (
        lambda s: (
            s.again("attempt", "delivery_id = ?", s.mail, id="att_again", number=2),
            s.sql("UPDATE delivery SET attempts = 2 WHERE id = ?", s.mail),
        ),
        "2 attempts were accepted",
    ),
    "a message without a name": (
        lambda s: s.sql("UPDATE delivery SET message_id = '' WHERE id = ?", s.mail), "its message has no name",
    ),
    # The folder
    "an entry of no document": (
        lambda s: s.sql("UPDATE folder_entry SET document_id = 'doc_x' WHERE delivery_id = ?", s.published),
        "an entry of a document belongs to doc_x",
    ),
    "an entry of no delivery": (
        lambda s: s.sql("UPDATE folder_entry SET delivery_id = 'dlv_x' WHERE delivery_id = ?", s.published),
        "an entry of a delivery belongs to dlv_x",
    ),
    "a gap in the sequence": (lambda s: s.sql("DELETE FROM folder_event WHERE sequence = 2"), "has gaps or repeats"),
    "a sequence number twice": (
        lambda s: s.again("folder_event", "folder_id = ? AND sequence = 2", s.folder), "has gaps or repeats",
    ),
    "a sequence number of another entry": (
        lambda s: s.sql(
            "UPDATE folder_event SET sequence = 3 - sequence WHERE folder_id = ? AND sequence < 3", s.folder
        ),
        "its sequence and its entries do not agree",
    ),
    "two entries of one name": (
        lambda s: s.sql("UPDATE folder_entry SET name = 'A', name_folded = 'a' WHERE folder_id = ?", s.folder),
        "two entries have one name",
    ),
    "a name in other letters than its folded form": (
        lambda s: s.sql("UPDATE folder_entry SET name = 'x' || name WHERE delivery_id = ?", s.published),
        "a name and its folded form",
    ),
    "an entry before its predecessor": (
        lambda s: s.sql("UPDATE folder_entry SET mtime = 1 WHERE folder_id = ? AND sequence = 2", s.folder),
        "a later entry has an earlier time",
    ),
    # The spool
    "a file left in new/": (lambda s: (s.station.spool / "new" / "x.pdf").touch(), "spool/new/x.pdf is left"),
    "a sidecar left in new/": (lambda s: (s.station.spool / "new" / "x.pdf.json").touch(), "new/x.pdf.json is left"),
    "a file left in work/": (lambda s: write(s.station.spool / "work" / "x.pdf", b""), "spool/work/x.pdf is left"),
    "a quarantined file that is gone": (
        lambda s: s.empty(s.station.spool / "quarantined"),
        "is in quarantine, and its file is not",
    ),
    "a quarantined file of other bytes": (
        lambda s: s.aside("quarantined", ".pdf").write_bytes(b"other"), "is of no document",
    ),
    "a refused file without a reason": (
        lambda s: s.aside("refused", ".reason.json").unlink(), "has no reason beside it",
    ),
    "a refused file with an empty reason": (
        lambda s: s.aside("refused", ".reason.json").write_text('{"code": "", "reason": ""}'), "says no reason",
    ),
    "a reason without a file": (lambda s: s.aside("refused", ".pdf").unlink(), "belongs to no file"),
    # Beside the doors
    "a document that nobody handed in": (
        lambda s: s.sql("UPDATE document SET received_sha256 = ? WHERE id = ?", s.keep(b"other"), s.document),
        "nobody handed it in",
    ),
    # The ledger
    "a record altered": (
        lambda s: s.sql("UPDATE evidence_record SET body = body || ' ' WHERE subject = ?", s.document),
        "its SHA-256 is another than its body's",
    ),
    "a record's row of another subject": (
        lambda s: s.sql("UPDATE evidence_record SET subject = 'doc_x' WHERE subject = ?", s.document),
        "its row and its body do not agree",
    ),
    "a result of another attempt": (
        lambda s: s.record("delivery.accepted", s.mail, attempt="att_x"), "no record of delivery.accepted speaks of",
    ),
    "records in another order": (
        lambda s: s.sql("UPDATE evidence_record SET id = 'evr_zzz' WHERE event = 'document.received' "
                        "AND subject = ?", s.document),
        "not in the order of its life",
    ),
}  # fmt: skip
RECORDED = {
    "document.received": "document", "document.sealed": "document", "document.quarantined": "quarantined",
    "delivery.planned": "published", "delivery.published": "published", "delivery.attempting": "mail",
    "delivery.accepted": "mail", "message.composed": "mail",
}  # fmt: skip
SAID = {
    "document.received": "sha256", "document.sealed": "verification_sha256", "document.quarantined": "reason",
    "delivery.planned": "destination", "delivery.published": "sha256", "delivery.attempting": "number",
    "message.composed": "sha256",
}  # fmt: skip


def _assert_named(scene: Scene, expected: str) -> None:
    findings = scene.findings()
    assert any(expected in finding for finding in findings), findings


def test_a_finished_run_without_constraints_has_nothing_wrong(scene: Scene) -> None:
    """What is found in the tests below was done in them."""
    assert scene.findings() == []


def test_whole_bytes_that_no_row_names_are_no_violation(scene: Scene) -> None:
    """Bytes come first: a kill between them and the row leaves them."""
    scene.keep(b"whole")
    assert scene.findings() == []


@pytest.mark.parametrize(("damage", "expected"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_seen_and_named(scene: Scene, damage: Callable[[Scene], object], expected: str) -> None:
    damage(scene)
    _assert_named(scene, expected)


@pytest.mark.parametrize("event", RECORDED)
def test_a_fact_that_is_not_recorded_is_seen(scene: Scene, event: str) -> None:
    subject = getattr(scene, RECORDED[event])
    scene.sql("DELETE FROM evidence_record WHERE event = ? AND subject = ?", event, subject)
    _assert_named(scene, f"0 records of {event}")


def test_a_refusal_that_is_not_recorded_is_seen(scene: Scene) -> None:
    """A refusal has no row: its record is all that is left of it."""
    scene.sql("DELETE FROM evidence_record WHERE event = 'document.refused'")
    _assert_named(scene, "0 records of document.refused")


@pytest.mark.parametrize("event", RECORDED)
def test_a_fact_that_is_recorded_twice_is_seen(scene: Scene, event: str) -> None:
    scene.record_again(event, getattr(scene, RECORDED[event]))
    _assert_named(scene, f"records of {event}, not")


@pytest.mark.parametrize("event", SAID)
def test_a_record_that_contradicts_its_row_is_seen(scene: Scene, event: str) -> None:
    scene.record(event, getattr(scene, RECORDED[event]), **{SAID[event]: "other"})
    _assert_named(scene, f"the record of {event} says something else than the row of {SAID[event]}")


def test_an_answer_that_was_not_kept_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has deleted its file by then."""
    name = next(name for name, promise in scene.doors.promised.items() if promise.outcome == "new")
    monkeypatch.setitem(scene.doors.promised, name, Promise("new", "doc_none"))
    _assert_named(scene, f"{name} was answered")


def test_a_second_answer_that_contradicts_the_first_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request again gets the same document."""
    monkeypatch.setattr(scene.doors, "wrong", [])
    name = next(iter(scene.doors.promised))
    scene.doors.note(name, Promise("again", "doc_other"))
    _assert_named(scene, f"{name}: answered")
