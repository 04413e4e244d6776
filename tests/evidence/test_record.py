"""Records: in the transaction of the fact, canonical, and without anything about a person."""

import datetime as dt
import enum
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, select

from gateway import evidence
from gateway.domain.ledger import PersonalValue, Record
from gateway.domain.states import Kind
from gateway.evidence import Fact, canonical
from gateway.store.database import Database, Transaction

INSTANT = dt.datetime(2026, 6, 15, 9, 30, 0, 5, dt.UTC)


def _records(database: Database) -> list[Record]:
    return database.read(lambda tx: list(tx.exec(select(Record).order_by(col(Record.id)))))


def test_a_record_says_what_happened_to_what_and_when(database: Database) -> None:
    """Its body alone is enough: columns are only there to find it by."""
    id_ = database.write(
        lambda tx: evidence.record(tx, "document.sealed", "doc_1", document="doc_1", level="B-T", pages=3)
    )
    (row,) = _records(database)
    assert (row.id, row.event, row.subject, row.document_id) == (id_, "document.sealed", "doc_1", "doc_1")
    assert json.loads(row.body) == {
        "id": id_,
        "at": row.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": "document.sealed",
        "subject": "doc_1",
        "document": "doc_1",
        "facts": {"level": "B-T", "pages": 3},
    }
    assert row.sha256 == hashlib.sha256(row.body.encode()).hexdigest()


def test_a_body_comes_back_byte_for_byte(database: Database) -> None:
    """Its hash is checked for years: a database that normalises text, or a JSON column, would break it."""
    hard: dict[str, Any] = {
        "text": "é e\u0301 \u2028 \U0001f4a9 \x00 \\ \" '",
        "big": 2**63,
        "z": None,
        "a": [True, "", {}],
    }
    database.write(lambda tx: evidence.record(tx, "thing.happened", "thg_1", **hard))
    (row,) = _records(database)
    assert row.sha256 == hashlib.sha256(row.body.encode()).hexdigest()
    assert json.loads(row.body)["facts"] == hard
    assert row.body == canonical(json.loads(row.body))


def test_a_fact_that_is_undone_takes_its_record_with_it(database: Database) -> None:
    """A record of something that did not happen is as bad as a missing one."""

    def step(tx: Transaction) -> None:
        evidence.record(tx, "thing.happened", "thg_1")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 -- the step's own
        database.write(step)
    assert _records(database) == []


def test_several_facts_keep_their_order(database: Database) -> None:
    """Of one statement: the ids sort as the facts were given."""
    facts = [Fact("thing.happened", f"thg_{number}", None, {"n": number}) for number in range(200)]
    ids = database.write(lambda tx: evidence.record_all(tx, facts))
    rows = _records(database)
    assert [row.id for row in rows] == ids == sorted(ids)
    assert [json.loads(row.body)["facts"]["n"] for row in rows] == list(range(200))
    assert database.write(lambda tx: evidence.record_all(tx, [])) == []


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"b": {"d": 1, "c": [1, 2]}}, '{"b":{"c":[1,2],"d":1}}'),
        ((1, 2), "[1,2]"),
        ("é", '"é"'),
        ("\n\x00", '"\\n\\u0000"'),
        (Kind.CREDIT_NOTE, '"credit_note"'),
        ({Kind.INVOICE: Colour.RED}, '{"invoice":"red"}'),
        (Decimal("1234.50"), '"1234.50"'),
        (Decimal("1E+3"), '"1000"'),
        (dt.date(2026, 1, 31), '"2026-01-31"'),
        (INSTANT, '"2026-06-15T09:30:00.000005Z"'),
        (INSTANT.astimezone(dt.timezone(dt.timedelta(hours=2))), '"2026-06-15T09:30:00.000005Z"'),
        (INSTANT.replace(microsecond=0), '"2026-06-15T09:30:00.000000Z"'),
        (True, "true"),
        (None, "null"),
        ("invalid \udcff name", '"invalid \\\\udcff name"'),
    ],
)
def test_one_value_has_one_text(value: Any, text: str) -> None:
    """Sorted keys, no blanks, UTF-8, instants in UTC; a name that is no text (from a file system) is spelt out."""
    assert canonical(value) == text
    canonical(value).encode()


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), b"x", {1}, object(), Decimal("NaN"), Decimal("Infinity"), {"a": [{"b": 0.1}]}]
)
def test_what_has_no_exact_text_is_an_error(value: object) -> None:
    """0.1 reads back as another number somewhere; a set has no order."""
    with pytest.raises(TypeError):
        canonical(value)


def test_an_instant_without_a_zone_is_an_error() -> None:
    """It would be read as this machine's local time, and be wrong for ever."""
    with pytest.raises(TypeError):
        canonical(INSTANT.replace(tzinfo=None))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json_values)
def test_canonical_text_reads_back_and_is_stable(value: Any) -> None:
    """A verifier that knows only JSON gets the same bytes."""
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)


def test_a_persons_value_is_kept_beside_and_referred_to(database: Database) -> None:
    """The same value always by the same id; the record holds a salted hash that cannot be guessed at."""

    def step(tx: Transaction) -> list[dict[str, str]]:
        values = ("jeanne@acme.example", "jeanne@acme.example", "other@acme.example")
        return [evidence.personal(tx, "mailbox", value) for value in values]

    one, same, other = database.write(step)
    assert one == same != other
    row = database.read(lambda tx: tx.get(PersonalValue, one["id"]))
    assert row is not None
    assert row.value == "jeanne@acme.example"
    assert one["sha256"] == hashlib.sha256(bytes.fromhex(row.salt) + b"jeanne@acme.example").hexdigest()
    assert one["sha256"] != hashlib.sha256(b"jeanne@acme.example").hexdigest()
    assert database.write(lambda tx: evidence.personal(tx, "name", "jeanne@acme.example"))["id"] != one["id"]


def test_an_erased_value_leaves_the_proof_and_a_new_one_begins_anew(database: Database) -> None:
    """The record can still be checked against a value that someone brings; nothing links the two rows."""
    one = database.write(lambda tx: evidence.personal(tx, "mailbox", "jeanne@acme.example"))

    def erase(tx: Transaction) -> None:
        row = tx.get(PersonalValue, one["id"])
        assert row is not None
        row.value = row.lookup = None
        tx.add(row)

    database.write(erase)
    again = database.write(lambda tx: evidence.personal(tx, "mailbox", "jeanne@acme.example"))
    assert again["id"] != one["id"]
    assert again["sha256"] != one["sha256"]


def test_at_once_a_value_gets_one_id(database: Database) -> None:
    """Two gateways meet one address for the first time in the same moment."""
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda _: database.write(lambda tx: evidence.personal(tx, "mailbox", "a@b.example")), range(24))
        )
    assert len({value["id"] for value in found}) == 1


@pytest.mark.parametrize("value", ["x" * 5000, "banner \x00\x07", "", "\udcff\udc80"])
def test_whatever_a_client_calls_itself_can_be_kept(database: Database, value: str) -> None:
    """A user agent or a banner comes from outside: too long, with NUL, or no text at all."""
    reference = database.write(lambda tx: evidence.personal(tx, "banner", value))
    again = database.write(lambda tx: evidence.personal(tx, "banner", value))
    assert reference == again


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("550 <jeanne.d@acme.example>: rejected", "550 <(address)>: rejected"),
        ('550 "jeanne d"@acme.example unknown', "550 (address) unknown"),
        ("550 jeanne@[192.0.2.7], jeanne+a@xn--tda.example; no", "550 (address), (address); no"),
        ("250 2.0.0 Ok: queued as 4XyZ@", "250 2.0.0 Ok: queued as 4XyZ@"),
    ],
)
def test_what_another_machine_said_is_kept_without_addresses(said: str, kept: str) -> None:
    """Queue ids, codes and words stay."""
    assert evidence.without_addresses(said) == kept
