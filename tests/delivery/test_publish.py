"""Publishing: names that never collide, numbers without a gap, times that never step back, whatever happens beside."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from gateway import clock
from gateway.delivery import orders, publish
from gateway.delivery.publish import BYTES_LOST
from gateway.domain.folders import EventKind, FolderEvent
from gateway.domain.parties import Contract
from gateway.domain.states import Channel, DeliveryState, Kind, Nature
from gateway.parties import registry
from gateway.parties.settings import ByEmail, ByFolder
from gateway.store.database import Transaction
from tests import journey
from tests.delivery.conftest import PARIS, Office, Time
from tests.journey import CARD_S, NOT_SUBSCRIBED, OPERATOR, TODAY


def names(office: Office) -> list[str]:
    """As the folder's sequence has them."""
    return [entry.name for entry in sorted(office.entries(), key=lambda entry: entry.sequence)]


def choose_formats(office: Office, *formats: str) -> None:
    client = office.parties.foundry.client
    both = (ByEmail(True, ("compta@foundry.example",)), ByFolder(True, formats))
    office.do(lambda tx: journey.choose(tx, client, *both))


def events(office: Office) -> list[tuple[int, EventKind]]:
    rows = office.db.read(lambda tx: tx.exec(select(FolderEvent).order_by(col(FolderEvent.sequence))).all())
    return [(row.sequence, row.event) for row in rows]


def test_a_published_document_has_one_entry_with_its_facts(office: Office) -> None:
    """Name, number, time, bytes; the delivery moves and the record is there, all together."""
    (document,) = office.sealed()
    assert office.publisher().turn() == 1
    row, (entry,), delivery = office.document(document), office.entries(), office.entry_of(document)
    assert entry.name == f"20250303_{CARD_S}_{row.number}_ORIG.pdf"
    assert (entry.sha256, entry.size, entry.sequence, entry.listed) == (row.sealed_sha256, row.sealed_size, 1, True)
    assert entry.month == f"{dt.datetime.fromtimestamp(entry.mtime, PARIS):%Y-%m}"
    assert (delivery.state, delivery.due_at, delivery.attempts) == (DeliveryState.PUBLISHED, None, 1)
    folder = office.folder(office.parties.foundry.folder)
    assert (folder.last_sequence, folder.last_mtime, folder.version) == (1, entry.mtime, 1)
    assert events(office) == [(1, EventKind.PUBLISHED)]
    assert office.events(subject=delivery.id) == ["delivery.planned", "delivery.published"]
    assert office.publisher().turn() == 0


def test_a_delivery_that_is_not_due_waits(office: Office) -> None:
    (document,) = office.sealed()
    office.set(office.entry_of(document), due_at=clock.now() + dt.timedelta(hours=1))
    assert office.publisher().turn() == 0


def test_a_turn_takes_a_batch_at_most(office: Office) -> None:
    """A transaction stays short, however much waits."""
    office.sealed(5)
    publisher = office.publisher(batch=2)
    assert [publisher.turn() for _ in range(4)] == [2, 2, 1, 0]
    assert [sequence for sequence, _ in events(office)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("formats", "endings"),
    [(("pdf",), ["ORIG.pdf"]), (("xml",), ["DATA.xml"]), (("pdf", "xml"), ["ORIG.pdf", "DATA.xml"])],
)
def test_a_folder_gets_the_formats_that_it_asked_for(
    office: Office, formats: tuple[str, ...], endings: list[str]
) -> None:
    """Each is an entry with a number of its own."""
    choose_formats(office, *formats)
    office.sealed()
    office.publisher().turn()
    assert [name.rpartition("_")[2] for name in names(office)] == endings
    assert [sequence for sequence, _ in events(office)] == list(range(1, len(endings) + 1))


def test_a_document_without_xml_is_given_as_pdf(office: Office) -> None:
    """A folder that wants XML alone still gets every invoice."""
    choose_formats(office, "xml")
    office.sealed(xml_sha256=None, xml_size=None)
    office.publisher().turn()
    assert [name.rpartition("_")[2] for name in names(office)] == ["ORIG.pdf"]


def test_a_platform_copy_says_so_in_its_name(office: Office) -> None:
    office.sealed(nature=Nature.PLATFORM_COPY)
    office.publisher().turn()
    assert names(office)[0].endswith("_COPY.pdf")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.CONTRACT, "CONTRAT"),
        (Kind.AMENDMENT, "AVENANT"),
        (Kind.CONTINUITY_REPORT, "BILAN"),
        (Kind.MANAGEMENT_SHEET, "FEUILLET"),
    ],
)
def test_the_other_kinds_lie_in_an_area_of_their_own(office: Office, kind: Kind, code: str) -> None:
    """As received: there is no seal; they need no receipt."""
    client = office.parties.foundry.client
    both = (ByEmail(True, ("compta@foundry.example",)), ByFolder(True))
    office.do(lambda tx: journey.choose(tx, client, *both, other_kinds_in_folder=True))
    (document,) = office.sealed(kind=kind, nature=None, sealed_sha256=None, sealed_size=None)
    office.publisher().turn()
    (entry,) = office.entries()
    assert entry.name.endswith(f"_{code}.pdf") and entry.area == "documents"
    assert entry.sha256 == office.document(document).received_sha256


def test_names_that_would_be_equal_are_counted_and_kept_for_ever(office: Office) -> None:
    """`C/1` and `C_1`, and names that differ by case only; in one batch and over batches."""
    foundry = office.parties.foundry
    office.do(lambda tx: registry.create_contract(tx, OPERATOR, "C/1", "CARD_S", foundry.siren, today=TODAY))
    office.do(lambda tx: registry.create_contract(tx, OPERATOR, "C_1", "CARD_S", foundry.siren, today=TODAY))
    office.do(lambda tx: registry.create_contract(tx, OPERATOR, "c-1", "CARD_S", foundry.siren, today=TODAY))
    made = {number: one.id for number in ("C/1", "C_1", "c-1") for one in [_contract(office, number)]}
    numbers = ["F/1", "f_1", "F-1", "F+1"]
    for batch in (numbers[:2], numbers[2:]):
        for number in batch:
            for contract in made.values():
                office.sealed(number=number, contract_id=contract)
        office.publisher().turn()
    assert names(office) == [
        "20250303_C-1_F-1_ORIG.pdf",
        "20250303_C-1_F-1_ORIG-2.pdf",
        "20250303_c-1_F-1_ORIG-3.pdf",
        "20250303_C-1_f-1_ORIG-4.pdf",
        "20250303_C-1_f-1_ORIG-5.pdf",
        "20250303_c-1_f-1_ORIG-6.pdf",
        "20250303_C-1_F-1_ORIG-7.pdf",
        "20250303_C-1_F-1_ORIG-8.pdf",
        "20250303_c-1_F-1_ORIG-9.pdf",
        "20250303_C-1_F-1_ORIG-10.pdf",
        "20250303_C-1_F-1_ORIG-11.pdf",
        "20250303_c-1_F-1_ORIG-12.pdf",
    ]


def _contract(office: Office, number: str) -> Contract:
    query = select(Contract).where(Contract.number == number)
    return office.db.read(lambda tx: tx.exec(query).one())


def test_the_same_name_in_two_folders_needs_no_count(office: Office) -> None:
    """Names are unique in their folder, not in the world."""
    for contract in (CARD_S, journey.CARD_I):
        party = office.parties.holder(contract)
        office.sealed(contract=contract, number="F-1", contract_id=party.contracts[contract])
    office.publisher().turn()
    assert all("_ORIG.pdf" in name for name in names(office))


def test_a_withdrawn_name_is_never_given_again(office: Office) -> None:
    """Whoever has seen it must not find other bytes under it."""
    (document,) = office.sealed(number="F-1")
    office.publisher().turn()
    office.do(lambda tx: orders.withdraw(tx, document, "tok_operator", "wrong recipient"))
    office.sealed(number="F-1")
    office.publisher().turn()
    first, second = sorted(office.entries(), key=lambda entry: entry.sequence)
    assert (first.listed, first.withdrawn_at is not None) == (False, True)
    assert second.name == "20250303_CARD-S-000101_F-1_ORIG-2.pdf"


def test_a_clock_that_steps_back_never_takes_the_times_back(office: Office, at: Time) -> None:
    """Whoever has seen the time t has seen everything up to t."""
    times = []
    for step in (0, -3600, 7200, -60):
        at.pass_(seconds=step)
        office.sealed(due_at=None)
        office.do(lambda tx: tx.execute(sa.text("UPDATE delivery SET due_at = created_at WHERE state = 'planned'")))
        office.publisher().turn()
        times.append(office.folder(office.parties.foundry.folder).last_mtime)
        assert office.entries()[-1].mtime == times[-1]
    first = times[0]
    assert times == [first, first, first + 3600, first + 3600]


def test_the_month_of_an_entry_is_the_issuer_s(office: Office, at: Time) -> None:
    """23:30 UTC on the last of March is April in Paris."""
    at.now = dt.datetime(2027, 3, 31, 22, 30, tzinfo=dt.UTC)
    office.sealed()
    office.publisher().turn()
    assert office.entries()[0].month == "2027-04"


def test_missing_bytes_hold_their_delivery_and_the_others_go_on(office: Office) -> None:
    """The document's own PDF, or the XML that its folder would get; damaged ones too, though of the same size."""
    gone, no_xml = office.blobs.put(b"gone"), office.blobs.put(b"<gone/>")
    (lost,) = office.sealed(sealed_sha256=gone.sha256, sealed_size=gone.size)
    (half,) = office.sealed(xml_sha256=no_xml.sha256, xml_size=no_xml.size)
    other = office.blobs.put(b"other")
    (damaged,) = office.sealed(sealed_sha256=other.sha256, sealed_size=other.size)
    (whole,) = office.sealed()
    office.blobs.remove(gone.sha256)
    office.blobs.remove(no_xml.sha256)
    office.blobs.path(other.sha256).chmod(0o600)
    office.blobs.path(other.sha256).write_bytes(b"OTHER")
    assert office.publisher().turn() == 4
    for document in (lost, half, damaged):
        delivery = office.entry_of(document)
        assert (delivery.state, delivery.state_reason, delivery.due_at) == (DeliveryState.HELD, BYTES_LOST, None)
        assert office.events(subject=delivery.id)[-1] == "delivery.held"
    assert office.entry_of(whole).state is DeliveryState.PUBLISHED
    assert events(office) == [(1, EventKind.PUBLISHED)]
    office.blobs.put(b"gone")
    delivery = office.entry_of(lost)
    office.do(lambda tx: orders.release(tx, delivery.id, "tok_operator", "restored"))
    assert office.publisher().turn() == 1
    assert office.entry_of(lost).state is DeliveryState.PUBLISHED


def test_what_was_cancelled_between_looking_and_publishing_is_not_published(office: Office) -> None:
    """The transaction decides, not the look before it."""
    (document,) = office.sealed()
    delivery = office.entry_of(document)
    publisher = office.publisher()
    due = publisher._due

    def and_cancel(tx: Transaction) -> list[tuple[str, tuple[str, ...]]]:
        found = due(tx)
        office.set(delivery, state=DeliveryState.CANCELLED, due_at=None)
        return found

    publisher._due = and_cancel  # type: ignore[method-assign]
    assert publisher.turn() == 0
    assert office.entries() == []


def test_sent_again_it_is_another_entry_and_another_event(office: Office) -> None:
    (document,) = office.sealed(number="F-1")
    office.publisher().turn()
    first = office.entry_of(document)
    again = office.do(lambda tx: orders.send_again(tx, first.id, "tok_operator", "lost by the client"))
    office.publisher().turn()
    assert office.delivery(again).state is DeliveryState.PUBLISHED
    assert names(office)[1].endswith("_ORIG-2.pdf")
    assert events(office) == [(1, EventKind.PUBLISHED), (2, EventKind.PUBLISHED_AGAIN)]


def test_several_publishers_at_once_leave_no_gap_and_publish_nothing_twice(office: Office) -> None:
    """Gateways side by side, and an operator who withdraws meanwhile; commit order is sequence order."""
    documents = office.sealed(40)
    start = threading.Barrier(5)

    def publishing() -> None:
        publisher = office.publisher(batch=3)
        start.wait()
        while office.deliveries(channel=Channel.FOLDER, state=DeliveryState.PLANNED):
            publisher.turn()

    def withdrawing() -> None:
        start.wait()
        for document in documents[::8]:
            office.do(lambda tx, d=document: orders.withdraw(tx, d, "tok_operator", "wrong"))  # type: ignore[misc]

    threads = [threading.Thread(target=publishing) for _ in range(4)] + [threading.Thread(target=withdrawing)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [sequence for sequence, _ in events(office)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert office.folder(office.parties.foundry.folder).last_sequence == len(numbers)
    published = [entry.document_id for entry in office.entries()]
    assert len(set(published)) == len(published)
    assert set(published) >= set(documents) - set(documents[::8])
    assert [entry.listed for entry in office.entries() if entry.document_id in documents[::8]].count(True) == 0
    assert len(set(names(office))) == len(published)


def test_mail_is_never_published(office: Office) -> None:
    """Its deliveries are planned too, and have another way."""
    (document,) = office.sealed(contract=NOT_SUBSCRIBED)
    office.publisher().turn()
    assert office.mail(document).state is DeliveryState.PLANNED


def test_a_batch_that_takes_long_is_made_smaller_and_grows_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the folder waits for the batch under way; each is whole all the same."""
    monkeypatch.setattr(publish, "LEAST", 1)
    office.sealed(9)
    publisher = office.publisher(4)
    monkeypatch.setattr(publish, "LONGEST_SECONDS", 0.0)
    slow = [publisher.turn() for _ in range(3)]
    monkeypatch.setattr(publish, "LONGEST_SECONDS", 3600.0)
    assert [*slow, publisher.turn(), publisher.turn()] == [4, 2, 1, 1, 1]
    office.sealed(5)
    assert [publisher.turn(), publisher.turn()] == [4, 1]
