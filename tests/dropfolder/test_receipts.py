"""Which facts make an entry, then its delivery, received: every order, in every mode."""

import datetime as dt

import pytest
from structlog.testing import capture_logs

from gateway.delivery import orders
from gateway.domain.folders import Entry, Folder, ReceiptMode
from gateway.domain.states import DeliveryState
from gateway.dossier.sentences import sentence
from gateway.dropfolder import receipts, retention
from gateway.dropfolder.nodes import Reading
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict, Denied, NotFound
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names

CONTENT = bytes(range(256)) * 4


def published(
    world: World, at: Time, mode: ReceiptMode = ReceiptMode.DELETE, content: bytes = CONTENT
) -> tuple[str, str]:
    """One document, listed: its delivery and its name."""
    world.set(Folder, world.folder.id, receipt_mode=mode)
    (delivery,) = world.publish(content)
    at.pass_(2)
    return delivery, world.entry().name


def archived(world: World, name: str) -> str:
    return f"/archive/{world.entry(name).month.replace('-', '/')}/{name}"


def acknowledge(world: World, delivery: str) -> None:
    world.db.write(lambda tx: receipts.acknowledge(tx, delivery, "tok_1"))


# What clients do with one document; in which modes it is a receipt. `ack` is the API's part.
D, F, A, N = ReceiptMode.DELETE, ReceiptMode.FULL_READ, ReceiptMode.API, ReceiptMode.NONE
STORIES = {
    "nothing": set(),
    "open": set(),
    "probe": set(),
    "get": {F},
    "get, get": {F},
    "get, rm": {D, F},
    "rm": set(),
    "probe, rm": set(),
    "rm, get archive": {D, F},
    "get archive": {F},
    "get archive, rm": {D, F},
    "first half, second half of archive, rm": {D, F},
    "rename": set(),
    "rename, get": {D, F},
    "get, rename": {D, F},
    "get, rename, get, rm": {D, F},
    "rename, probe": set(),
    "rename, rm": set(),
    "rename, rename back, get": {F},
    "ack": {A},
    "rm, ack": {A},
    "get, ack, rm": {D, F, A},
}


def tell(world: World, visit: Visit, name: str, story: str) -> None:  # noqa: C901, PLR0912 -- a step a word
    """Do what the story says, step by step; a client knows only its own place for the file."""
    own, renamed = f"/inbox/{name}", f"/inbox/done/{name}.done"
    place = own
    for step in story.split(", "):
        match step:
            case "nothing":
                pass
            case "open":
                get(visit, place, (0, 0))
            case "probe":
                get(visit, place, (0, 10))
            case "first half":
                get(visit, place, (0, 512))
            case "get":
                assert get(visit, place) == CONTENT
            case "get archive":
                assert get(visit, archived(world, name)) == CONTENT
            case "second half of archive":
                get(visit, archived(world, name), (512, 512))
            case "rm":
                visit.remove(place)
            case "rename":
                visit.rename(place, place := renamed)
            case "rename back":
                visit.rename(place, place := own)
            case "ack" if world.mode is A:
                acknowledge(world, world.entry(name).delivery_id)
            case "ack":
                with pytest.raises(Conflict):
                    acknowledge(world, world.entry(name).delivery_id)


@pytest.mark.parametrize("mode", list(ReceiptMode))
def test_a_receipt_is_what_the_mode_says_and_every_story_ends_green(
    database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode
) -> None:
    """The facts are the same in every mode, and no client's habit fails in any: only what follows differs."""
    world = World(database, blobs, mode=mode)
    visit = world.visit()
    for story, modes in STORIES.items():
        (delivery,) = world.publish(CONTENT)
        at.pass_(2)
        name = world.entries()[-1].name
        before = world.events("delivery.received")
        tell(world, visit, name, story)
        entry, row, is_received = world.entry(name), world.delivery(delivery), mode in modes
        assert (entry.received_at is not None) == is_received, story
        assert row.state == (DeliveryState.RECEIVED if is_received else DeliveryState.PUBLISHED), story
        assert (row.final_at is not None) == is_received, story
        assert len(world.events("delivery.received")) == len(before) + is_received, story
        assert entry.listed == (not is_received and entry.removed_at is None), story


@pytest.mark.parametrize("mode", list(ReceiptMode))
def test_a_mirror_with_removal_leaves_the_inbox_empty(
    database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode
) -> None:
    """lftp's mirror --Remove-source-files: list, get all, remove all; whether it is a receipt or not."""
    world = World(database, blobs, mode=mode)
    deliveries = world.publish(b"one", b"two", b"three")
    at.pass_(2)
    visit = world.visit()
    listed = names(visit)
    for name in listed:
        get(visit, f"/inbox/{name}")
    for name in listed:
        visit.remove(f"/inbox/{name}")
    assert names(visit) == []
    ended = DeliveryState.RECEIVED if mode in (D, F) else DeliveryState.PUBLISHED
    assert {world.delivery(d).state for d in deliveries} == {ended}


@pytest.mark.parametrize("mode", list(ReceiptMode))
def test_a_client_that_renames_and_crashes_finds_its_file_again(
    database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode
) -> None:
    """Before a byte, or in the middle of them: no receipt, and after a day the name is back for the next run."""
    world = World(database, blobs, mode=mode)
    (before, amid) = world.publish(b"before", b"in the middle")
    at.pass_(2)
    visit = world.visit()
    first, second = names(visit)
    visit.rename(f"/inbox/{first}", "/inbox/first.work")
    visit.rename(f"/inbox/{second}", "/inbox/second.work")
    reading = visit.ask(visit.open, "/inbox/second.work")
    reading.read(0, 6)
    visit.abandon([reading])
    visit.end()
    at.pass_(24 * 3600 + 1)
    world.folders.record_now()
    assert world.folders.return_renamed(at.now()) == 2
    again = world.visit()
    assert names(again) == [first, second]
    assert {world.delivery(one).state for one in (before, amid)} == {DeliveryState.PUBLISHED}
    assert [get(again, f"/inbox/{name}") for name in (first, second)] == [b"before", b"in the middle"]


def test_a_second_delete_finds_nothing(world: World, at: Time) -> None:
    """NO_SUCH_FILE: another code makes clients abort."""
    _, name = published(world, at)
    visit = world.visit()
    get(visit, f"/inbox/{name}")
    visit.remove(f"/inbox/{name}")
    with pytest.raises(NotFound):
        visit.remove(f"/inbox/{name}")


def test_of_two_sessions_that_delete_one_is_too_late(world: World, at: Time) -> None:
    """Both saw the name in their listing; the row decides, not what they remember."""
    _, name = published(world, at)
    one, other = world.visit(), world.visit()
    item = one.ask(one._movable, f"/inbox/{name}")
    other.remove(f"/inbox/{name}")
    one._index.apply([item])
    with pytest.raises(NotFound):
        one.remove(f"/inbox/{name}")
    assert world.events("entry.removed") == ["entry.removed_unread"]


def test_removed_unread_is_an_alert_and_no_receipt(world: World, at: Time) -> None:
    """A cleaning script, not an ERP: somebody has to look."""
    _, name = published(world, at)
    with capture_logs() as logs:
        world.visit().remove(f"/inbox/{name}")
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["entry.removed_unread"]
    assert world.events("entry.") == ["entry.removed_unread"]


def resumed_at(world: World, name: str, offset: int) -> None:
    """A download whose connection is lost while everything is under way, then its rest, from `offset` on."""
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    reading.read(0, 10**9)
    visit.abandon([reading])
    get(world.visit(), f"/inbox/{name}", (offset, 10**9))


def test_to_resume_behind_what_was_confirmed_is_a_claim_and_no_receipt(world: World, at: Time) -> None:
    """Whoever goes on far behind what it had said to have may hold it all, or may have looked at the end. No receipt,
    and no alert either: what was sent is named. It is received once the archive was read.
    """
    (delivery,) = world.publish(b"x" * 2_000_000)
    at.pass_(2)
    name = world.entry().name
    resumed_at(world, name, 1_500_000)
    with capture_logs() as logs:
        world.visit().remove(f"/inbox/{name}")
    assert [(entry["log_level"], entry["unconfirmed_bytes"]) for entry in logs if "removed" in entry["event"]] == [
        ("info", 1_500_000)
    ]
    (facts,) = [body["facts"] for body in world.bodies("entry.removed_unread")]
    assert facts["unconfirmed"] == 1_500_000
    assert "1500000 bytes were sent over a connection that was lost" in sentence("entry.removed_unread", facts)
    assert world.delivery(delivery).state is DeliveryState.PUBLISHED

    get(world.visit(), archived(world, name))
    assert world.delivery(delivery).state is DeliveryState.RECEIVED


@pytest.mark.parametrize("part", [(0, 1000), (0, 0)])
def test_a_removal_after_a_lost_connection_alone_is_an_alert(world: World, at: Time, part: tuple[int, int]) -> None:
    """Everything was sent, and nobody came back for the end: a program that removes what it did not get."""
    world.publish(b"x" * 2_000_000)
    at.pass_(2)
    name, visit = world.entry().name, world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    reading.read(0, 10**9)
    visit.abandon([reading])
    get(world.visit(), f"/inbox/{name}", part)
    with capture_logs() as logs:
        world.visit().remove(f"/inbox/{name}")
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["entry.removed_unread"]


def test_two_halves_in_two_sessions_are_the_whole(world: World, at: Time) -> None:
    """Resumed downloads: the first session ended cleanly half-way."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    get(world.visit(), f"/inbox/{name}", (512, 512))
    assert world.entry().fully_read_at is None
    get(world.visit(), f"/inbox/{name}", (0, 512))
    assert world.entry().received_at is not None


def test_one_byte_missing_is_a_partial_read(world: World, at: Time) -> None:
    """Downloaded is not delivered."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    get(world.visit(), f"/inbox/{name}", (0, 511), (512, 512))
    assert world.entry().read_ranges == [[0, 511], [512, 1024]]
    assert world.entry().received_at is None


def test_a_lost_connection_is_no_full_read(world: World, at: Time) -> None:
    """Every byte was given out; whether the last ones arrived, nobody knows."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    reading.read(0, 512, before=13)
    reading.read(512, 512, before=538)
    assert reading.read(1024, 512) == b""
    reading.arrived(538)
    visit.abandon([reading])
    entry = world.entry()
    assert entry.fully_read_at is None
    assert entry.read_ranges == [[0, 512]]
    get(world.visit(), f"/inbox/{name}", (900, 124))
    assert world.entry().received_at is not None, "who goes on in the middle of what may have arrived has it"


def _take_nothing(world: World, name: str, size: int) -> None:
    """Ask for all of a file and lose the connection before anything is known to have arrived."""
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    for offset in range(0, size, 32_768):
        reading.read(offset, 32_768, before=offset)
    visit.abandon([reading])


def test_what_a_lost_connection_never_took_is_not_read_by_reading_the_end(world: World, at: Time) -> None:
    """A client that asks for everything, takes nothing, and later looks at the last bytes has not received."""
    content = bytes(900_000)
    _, name = published(world, at, ReceiptMode.FULL_READ, content)
    _take_nothing(world, name, len(content))
    get(world.visit(), f"/inbox/{name}", (868_000, 32_000))
    assert world.entry().received_at is None
    assert world.entry().read_ranges == [[868_000, 900_000]]


def test_a_look_at_the_end_of_a_small_file_is_no_receipt_either(world: World, at: Time) -> None:
    """Most invoices are smaller than what clients leave unsaid: to resume one is to begin where an answer began."""
    content = bytes(90_000)
    _, name = published(world, at, ReceiptMode.FULL_READ, content)
    _take_nothing(world, name, len(content))
    get(world.visit(), f"/inbox/{name}", (88_976, 1_024))
    assert world.entry().received_at is None
    get(world.visit(), f"/inbox/{name}", (65_536, 32_768))
    assert world.entry().received_at is not None


@pytest.mark.parametrize("step", [1, 2])
def test_many_small_answers_cost_no_memory_and_count_all_the_same(world: World, at: Time, step: int) -> None:
    """PuTTY and WinSCP open with a window of 2 GB, and so never say what they took."""
    content = bytes(20_000)
    _, name = published(world, at, ReceiptMode.FULL_READ, content)
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    assert isinstance(reading, Reading)
    for offset in range(0, len(content), step):
        reading.read(offset, 1, before=14 * offset)
    assert reading.under_way < 5_000
    visit.close(reading)
    assert (world.entry().fully_read_at is not None) is (step == 1)


def test_what_a_lost_connection_had_taken_counts_when_it_goes_on(world: World, at: Time) -> None:
    """A download that is resumed after a cut is one download."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    reading.read(0, 400)
    reading.read(400, 300)
    visit.abandon([reading])
    get(world.visit(), f"/inbox/{name}", (400, 624))
    assert world.entry().received_at is not None


def test_a_delivery_of_two_files_is_received_with_the_second(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """PDF and XML are one document."""
    world = World(database, blobs, formats=("pdf", "xml"), mode=ReceiptMode.FULL_READ)
    (delivery,) = world.publish(CONTENT)
    at.pass_(2)
    visit = world.visit()
    pdf, xml = names(visit)
    get(visit, f"/inbox/{pdf}")
    assert world.delivery(delivery).state is DeliveryState.PUBLISHED
    get(visit, f"/inbox/{xml}")
    assert world.delivery(delivery).state is DeliveryState.RECEIVED
    assert world.events("entry.received") == ["entry.received"] * 2


def test_a_received_name_lingers_unlisted_and_then_is_gone(world: World, at: Time) -> None:
    """get twice, checks of size or hash: for an hour they succeed, then NO_SUCH_FILE."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    get(world.visit(), f"/inbox/{name}")
    other = world.visit()
    assert names(other) == []
    at.pass_(3599)
    assert get(other, f"/inbox/{name}") == CONTENT
    later = world.visit()
    other.end()
    at.pass_(3)
    with pytest.raises(NotFound):
        later.ask(later.stat, f"/inbox/{name}")


def test_read_and_renamed_it_is_found_by_its_new_name_and_in_no_listing(world: World, at: Time) -> None:
    """rclone and others look whether their rename came about: stat, SIZE and MLST find it, also in another session.

    A listing would hand a document that was received to the next program that lists, which has not read it.
    """
    _, name = published(world, at)
    visit, other = world.visit(), world.visit()
    assert get(visit, f"/inbox/{name}") == CONTENT
    visit.rename(f"/inbox/{name}", f"/inbox/{name}.done")
    assert world.entry(name).received_at
    for one in (visit, other):
        assert one.ask(one.stat, f"/inbox/{name}.done").size == len(CONTENT)
        assert names(one) == []
        with pytest.raises(NotFound):
            one.ask(one.stat, f"/inbox/{name}")


def test_the_session_that_read_it_keeps_the_name_to_its_end(world: World, at: Time) -> None:
    """A pool holds its connection for hours and removes at the end."""
    _, name = published(world, at, ReceiptMode.FULL_READ)
    reader, other = world.visit(), world.visit()
    get(reader, f"/inbox/{name}")
    at.pass_(2 * 3600)
    assert names(other) == []
    with pytest.raises(NotFound):
        other.ask(other.stat, f"/inbox/{name}")
    assert get(reader, f"/inbox/{name}") == CONTENT
    reader.remove(f"/inbox/{name}")
    with pytest.raises(NotFound):
        reader.ask(reader.stat, f"/inbox/{name}")


def test_nothing_a_client_does_reaches_the_archive(world: World, at: Time) -> None:
    """It is the issuer's proof, and the way to read again for the whole retention."""
    _, name = published(world, at)
    visit = world.visit()
    path = archived(world, name)
    with pytest.raises(Denied):
        visit.remove(path)
    with pytest.raises(Denied):
        visit.rename(path, "/inbox/x.pdf")
    with pytest.raises(Denied):
        visit.rename(f"/inbox/{name}", path)
    with pytest.raises(NotFound):
        visit.remove(path + "x")
    with pytest.raises(Denied):
        visit.make_directory("/archive/x")
    with pytest.raises(Denied):
        visit.remove_directory("/archive/" + path.split("/")[2])
    assert get(visit, path) == CONTENT


def test_documents_without_nature_have_no_receipt(world: World, at: Time) -> None:
    """documents/ is for reading and tidying up; its deliveries stay published."""
    delivery, name = published(world, at)
    world.set(Entry, world.entry().id, area="documents")
    visit = world.visit()
    assert names(visit, "/") == ["inbox", "archive", "manifest", "sandbox", "documents"]
    get(visit, f"/documents/{name}")
    visit.remove(f"/documents/{name}")
    assert names(visit, "/documents") == [] if "documents" in names(visit, "/") else True
    assert world.delivery(delivery).state is DeliveryState.PUBLISHED


DAY = dt.timedelta(days=1)


@pytest.mark.parametrize("mode", ReceiptMode)
@pytest.mark.parametrize("deed", ["nothing", "full read", "renamed", "removed unread"])
def test_what_is_not_received_in_time_leaves_the_inbox(
    database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode, deed: str
) -> None:
    """With an alert; a full read that only lacked the removal is the receipt. Nothing waits for ever."""
    world = World(database, blobs, mode=mode, inbox_days=2)
    delivery, name = published(world, at, mode)
    visit = world.visit()
    if deed == "full read":
        get(visit, f"/inbox/{name}")
    if deed == "renamed":
        visit.rename(f"/inbox/{name}", "/inbox/work.pdf")
    if deed == "removed unread":
        visit.remove(f"/inbox/{name}")
    before = world.delivery(delivery)
    assert world.folders.expire(at.now() + 2 * DAY - dt.timedelta(seconds=10)) == 0
    assert world.delivery(delivery) == before
    received = deed == "full read" and mode in (ReceiptMode.DELETE, ReceiptMode.FULL_READ)
    with capture_logs() as logs:
        assert world.folders.expire(at.now() + 2 * DAY + dt.timedelta(seconds=10)) == (not received)
    assert [log["event"] for log in logs] == ["delivery.expired_unread"] * (not received)
    state = DeliveryState.RECEIVED if received else DeliveryState.EXPIRED_UNREAD
    assert (world.delivery(delivery).state, world.delivery(delivery).final_at is not None) == (state, True)
    at.pass_(2)
    assert names(world.visit()) == [] and names(world.visit(), "/") == ["inbox", "archive", "manifest", "sandbox"]
    assert get(world.visit(), archived(world, name))
    assert world.folders.expire(at.now() + 9 * DAY) == 0
    counts = [world.events(event).count(event) for event in ("delivery.received", "delivery.expired_unread")]
    late = mode in (ReceiptMode.DELETE, ReceiptMode.FULL_READ)
    assert counts == [int(late), int(not received)]
    assert world.delivery(delivery).state is (DeliveryState.RECEIVED if late else DeliveryState.EXPIRED_UNREAD)


def test_a_delivery_of_two_files_leaves_as_a_whole(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """However many of them fit into one transaction; what was received stays so."""
    world = World(database, blobs, formats=("pdf", "xml"), inbox_days=1)
    deliveries = world.publish(b"one", b"two", b"three")
    at.pass_(2)
    visit = world.visit()
    get(visit, f"/inbox/{world.entries()[0].name}")
    visit.remove(f"/inbox/{world.entries()[0].name}")
    before = at.now() + DAY
    counts = []
    while (left := world.db.write(lambda tx: retention.expire(tx, world.folder.id, before, limit=2)))[0]:
        counts.append((len(left[0]), len(left[1])))
    assert counts == [(4, 2), (2, 1)]
    assert not any(entry.listed for entry in world.entries())
    assert {world.delivery(one).state for one in deliveries} == {DeliveryState.EXPIRED_UNREAD}
    assert world.events().count("entry.expired") == 5


def test_a_read_is_recorded_with_who_what_and_how_long(world: World, at: Time) -> None:
    """The proof against "we never got it": key, address (by id), bytes, ranges, session."""
    _, name = published(world, at)
    visit = world.visit()
    reading = visit.ask(visit.open, f"/inbox/{name}")
    reading.read(0, 100)
    at.pass_(1.5)
    visit.close(reading)
    (body,) = world.bodies("entry.read")
    facts = body["facts"]
    assert facts["key"] == world.key.fingerprint
    assert facts["session"] == visit.session.id
    assert set(facts["address"]) == {"id", "sha256"}
    assert "192.0.2.7" not in str(body)
    assert (facts["bytes"], facts["ranges"], facts["size"]) == (100, [[0, 100]], 1024)
    assert (facts["duration_ms"], facts["closed_cleanly"], facts["fully_read"]) == (1500, True, False)
    assert body["document"] == world.entry().document_id


def test_acknowledging_counts_once_and_leaves_the_listing(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """Twice is once; a session that is open sees it with its next look."""
    world = World(database, blobs, mode=ReceiptMode.API)
    one, other = world.publish(b"one", b"other")
    at.pass_(2)
    visit = world.visit()
    assert len(names(visit)) == 2
    for _ in range(2):
        acknowledge(world, one)
    at.pass_(2)
    assert len(names(visit)) == 1
    assert [world.delivery(d).state for d in (one, other)] == [DeliveryState.RECEIVED, DeliveryState.PUBLISHED]
    assert world.events("delivery.received") == ["delivery.received"]
    assert world.bodies("entry.received")[0]["facts"]["actor"] == "tok_1"


def test_what_is_not_in_the_folder_is_not_acknowledged(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """A receipt for what the client cannot have would be a guess."""
    world = World(database, blobs, mode=ReceiptMode.API)
    (delivery,) = world.publish(b"one")
    at.pass_(2)
    document = world.entry().document_id
    world.db.write(lambda tx: orders.withdraw(tx, document, "tok_1", "wrong recipient"))
    with pytest.raises(Conflict):
        acknowledge(world, delivery)
    assert world.delivery(delivery).state == DeliveryState.WITHDRAWN
    assert world.events("entry.received") == []
