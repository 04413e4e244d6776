"""A range of a folder, published once more: the same bytes under new numbers, whatever happens beside or in between."""

import contextlib
import datetime as dt
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from gateway.delivery import again, orders, publish
from gateway.delivery.again import Asked, Limits, Range
from gateway.domain.folders import Entry, EventKind, FolderEvent
from gateway.domain.parties import Client
from gateway.domain.states import Channel, DeliveryState
from gateway.errors import Conflict, Refused
from gateway.store.database import Database
from tests.delivery.conftest import PARIS, Office, Time

WHO, WHY = "tok_erp", "our disk failed"
ANY = Limits(1000)
EVERYTHING = Range(first=1)


def ask(office: Office, wanted: Range = EVERYTHING, limits: Limits = ANY) -> Asked:
    """As the client of the foundry's folder."""
    folder = office.folder(office.parties.foundry.folder)
    return office.do(lambda tx: again.ask_again(tx, folder, wanted, PARIS, limits, WHO, WHY))


def publish_all(office: Office, batch: int = 500) -> None:
    while office.publisher(batch).turn():
        pass


def events(office: Office) -> list[tuple[int, EventKind, Entry]]:
    """The foundry's numbers in their order, with their entries."""
    query = select(FolderEvent).where(FolderEvent.folder_id == office.parties.foundry.folder)
    rows = office.db.read(lambda tx: tx.exec(query.order_by(col(FolderEvent.sequence))).all())
    entries = {entry.id: entry for entry in office.entries()}
    return [(row.sequence, row.event, entries[row.entry_id]) for row in rows]


def published(office: Office, count: int) -> list[str]:
    documents = office.sealed(count)
    publish_all(office)
    return documents


def repeated(office: Office) -> list[str]:
    """The documents that were published again, in the order of their numbers."""
    return [entry.document_id for _, kind, entry in events(office) if kind is EventKind.PUBLISHED_AGAIN]


def test_a_range_of_numbers_is_published_again_with_the_same_bytes_under_new_numbers(office: Office) -> None:
    """Both ends included, in the old order; what was published before stays as it was."""
    documents = published(office, 5)
    before = events(office)
    assert ask(office, Range(first=2, last=4)) == Asked(3, 0, 0, after=5)
    publish_all(office)
    after = events(office)
    assert after[:5] == before
    assert [(number, entry.document_id) for number, _, entry in after[5:]] == [
        (6, documents[1]), (7, documents[2]), (8, documents[3]),
    ]  # fmt: skip
    for (_, _, old), (_, kind, new) in zip(before[1:4], after[5:], strict=True):
        assert kind is EventKind.PUBLISHED_AGAIN
        assert (new.sha256, new.size, new.listed) == (old.sha256, old.size, True)
        assert new.name == old.name.replace("_ORIG.pdf", "_ORIG-2.pdf")
        assert new.id != old.id and new.mtime >= old.mtime


def test_a_range_of_days_is_of_publication_in_the_issuer_s_zone(office: Office, at: Time) -> None:
    """Just before midnight in Paris is the day before, whatever UTC says."""
    at.now = dt.datetime(2026, 11, 30, 22, 59, tzinfo=dt.UTC)  # 23:59 in Paris
    first = published(office, 1)
    at.now = dt.datetime(2026, 11, 30, 23, 1, tzinfo=dt.UTC)  # 0:01 on December 1st
    second = published(office, 1)
    at.pass_(days=1)
    third = published(office, 1)
    november, december = dt.date(2026, 11, 30), dt.date(2026, 12, 1)
    for wanted, those in (
        (Range(to_day=november), first),
        (Range(from_day=december, to_day=december), second),
        (Range(from_day=december), second + third),
        (Range(from_day=december, first=3), third),
    ):
        before = len(repeated(office))
        assert ask(office, Range(**(vars(wanted) | {"last": wanted.last or 3}))).documents == len(those)
        publish_all(office)
        assert repeated(office)[before:] == those


def test_one_record_says_who_asked_and_why_and_each_document_s_life_does_too(office: Office) -> None:
    """An auditor finds the request, an operator who explains one document finds it as well."""
    documents = published(office, 2)
    ask(office, Range(first=1, last=2))
    (said,) = office.facts("folder.asked_again", subject=office.parties.foundry.folder)
    assert (said["actor"], said["reason"], said["documents"], said["first"], said["last"]) == (WHO, WHY, 2, 1, 2)
    for document, delivery in zip(documents, said["deliveries"], strict=True):
        (planned,) = office.facts("delivery.planned", subject=delivery)
        assert (planned["actor"], planned["because"], planned["again"]) == (WHO, WHY, 1)
        assert office.delivery(delivery).document_id == document


def test_who_asks_twice_before_it_left_gets_it_once(office: Office) -> None:
    """Two people at the same client lost the same files."""
    published(office, 3)
    assert ask(office).documents == 3
    assert ask(office, Range(first=2)) == Asked(0, 0, 2, after=3)
    publish_all(office)
    assert [number for number, _, _ in events(office)] == list(range(1, 7))
    assert len(office.records("folder.asked_again")) == 1


def test_who_asks_for_what_was_published_again_gets_it_again_once(office: Office) -> None:
    """The document is in the range twice; nobody wants it twice."""
    documents = published(office, 2)
    for count in (2, 3, 4):
        assert ask(office).documents == 2
        publish_all(office)
        newest = [entry for _, _, entry in events(office)][-2:]
        assert [entry.document_id for entry in newest] == documents
        assert all(entry.name.endswith(f"_ORIG-{count}.pdf") for entry in newest)


def test_what_was_withdrawn_is_not_published_again(office: Office) -> None:
    """It went to the wrong recipient once."""
    documents = published(office, 3)
    office.do(lambda tx: orders.withdraw(tx, documents[1], WHO, "wrong recipient"))
    assert ask(office) == Asked(2, 1, 0, after=4)
    publish_all(office)
    assert repeated(office) == [documents[0], documents[2]]


def test_a_request_over_the_limit_says_what_fits_and_that_fits(office: Office) -> None:
    """Number by number the whole range can be had."""
    published(office, 7)
    for first, last in ((1, 3), (4, 6)):
        with pytest.raises(Refused, match=f"the numbers {first} to {last} first") as refused:
            ask(office, Range(first=first, last=7), Limits(3))
        assert (refused.value.code, refused.value.facts["last"]) == ("too_many", last)
        assert ask(office, Range(first=first, last=last), Limits(3)).documents == 3
    assert ask(office, Range(first=7, last=7), Limits(3)).documents == 1
    publish_all(office)
    assert len(repeated(office)) == 7


def test_a_client_cannot_fill_its_folder_by_asking(office: Office, at: Time) -> None:
    """A day's limit, counted by folder; the next day it can ask again."""
    published(office, 3)
    limits = Limits(1000, a_day=4)
    ask(office, EVERYTHING, limits)
    publish_all(office)
    with pytest.raises(Refused, match="ask for 1 at most now") as refused:
        ask(office, Range(last=3), limits)
    assert refused.value.code == "too_many_today"
    assert ask(office, Range(last=1), limits).documents == 1
    assert ask(office, Range(first=2, last=3)).documents == 2  # an operator
    publish_all(office)
    at.pass_(hours=25)
    assert ask(office, Range(last=3), limits).documents == 3


@pytest.mark.parametrize("wanted", [Range(first=4), Range(first=3, last=2), Range(to_day=dt.date(2020, 1, 1))])
def test_a_range_with_nothing_in_it_is_a_conflict(office: Office, wanted: Range) -> None:
    """Not an answer that looks like success."""
    published(office, 3)
    with pytest.raises(Conflict) as conflict:
        ask(office, wanted)
    assert conflict.value.code == "nothing_published"


def test_no_bound_at_all_is_refused(office: Office) -> None:
    """Everything is asked for by saying so: from number 1."""
    published(office, 1)
    with pytest.raises(Refused) as refused:
        ask(office, Range())
    assert refused.value.code == "range_needed"


def test_in_a_dry_run_it_is_planned_and_held(office: Office) -> None:
    """Nothing leaves, whoever asks."""
    published(office, 2)
    client = office.db.read(lambda tx: tx.get_one(Client, office.parties.foundry.client))
    office.set(client, dry_run=True)
    assert ask(office).documents == 2
    assert office.publisher().turn() == 0
    held = office.deliveries(state=DeliveryState.HELD, channel=Channel.FOLDER)
    assert [one.again for one in held] == [1, 1]


def test_a_publication_that_is_killed_half_way_goes_on_without_a_gap_or_a_double(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a batch nothing of it counts; between batches the rest is published by the next turn."""
    documents = published(office, 6)
    assert ask(office).documents == 6
    assert office.publisher(batch=2).turn() == 2

    def killed(*_: Any) -> list[str]:
        raise RuntimeError("killed before the commit")

    with monkeypatch.context() as patched:
        patched.setattr(publish, "record_all", killed)
        with pytest.raises(RuntimeError):
            office.publisher(batch=2).turn()
    assert len(repeated(office)) == 2
    publish_all(office, batch=2)
    assert repeated(office) == documents
    assert [number for number, _, _ in events(office)] == list(range(1, 13))


def _together(*acts: Any) -> list[Any]:
    """What each made, or the error that it raised, all begun at once."""
    results: list[Any] = [None] * len(acts)
    begin = threading.Barrier(len(acts))

    def run(place: int) -> None:
        begin.wait()
        try:
            results[place] = acts[place]()
        except Exception as error:  # noqa: BLE001 - judged by the test
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_gateways_that_ask_publish_and_withdraw_at_once_leave_no_gap_and_no_double(
    office: Office, database_url: str
) -> None:
    """Each of two gateways has its own connections; new documents arrive meanwhile."""
    documents = published(office, 40)
    office.sealed(40)
    second = Database.open(database_url) if not office.db.is_sqlite else office.db
    other = Office.__new__(Office)
    other.__dict__ |= vars(office) | {"db": second}
    try:
        results = _together(
            lambda: ask(office, Range(first=1, last=30)),
            lambda: ask(other, Range(first=11, last=40)),
            lambda: publish_all(office, batch=7),
            lambda: publish_all(other, batch=5),
            lambda: office.do(lambda tx: orders.withdraw(tx, documents[20], WHO, "wrong")),
        )
        assert [one for one in results if isinstance(one, Exception)] == []
        publish_all(office)
    finally:
        if second is not office.db:
            second.close()
    assert [number for number, _, _ in events(office)] == list(range(1, len(events(office)) + 1))
    asked = sum(one.documents for one in results[:2])
    fresh = [delivery for delivery in office.deliveries(channel=Channel.FOLDER) if delivery.again]
    cancelled = [one for one in fresh if one.state is DeliveryState.WITHDRAWN]
    assert len(fresh) == asked
    assert len(repeated(office)) + len([one for one in cancelled if not one.attempts]) == asked
    assert set(repeated(office)) >= set(documents) - {documents[20]}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 8), st.booleans()), max_size=6))
def test_whatever_is_asked_in_whatever_order_each_number_is_one_document_s_bytes(
    office: Office, steps: Sequence[tuple[int, int, bool]]
) -> None:
    """Numbers without a gap, names never twice, and every repeat is of something published before it."""
    published(office, 2)
    for first, length, is_published in steps:
        with contextlib.suppress(Conflict):  # nothing has such numbers yet
            ask(office, Range(first=first, last=first + length))
        if is_published:
            publish_all(office)
    publish_all(office)
    seen: set[str] = set()
    found = events(office)
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    assert len({entry.name_folded for _, _, entry in found}) == len(found)
    for _, kind, entry in found:
        assert (entry.document_id in seen) == (kind is EventKind.PUBLISHED_AGAIN)
        seen.add(entry.document_id)
