"""A sidecar is one small, flat, strict JSON object; what is wrong with it is said with its key."""

import contextlib
import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.states import Kind
from gateway.errors import Refused, TooLarge
from gateway.intake.sidecar import MAX_BYTES, Sidecar, parse

FULL = {
    "kind": "credit_note", "number": "AV-2026-0001", "issue_date": "2026-09-01", "type_code": "381", "contract": "C/1",
    "seller_siren": "123456782", "buyer_siren": "534 010 764", "currency": "EUR", "total": "120.50",
    "period_start": "2026-08-01", "period_end": "2026-08-31", "corrects": "F-2026-0001",
}  # fmt: skip


def refused(**values: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(json.dumps(values).encode())
    return caught.value


def test_every_key_of_the_public_face_is_read() -> None:
    """DESIGN: the keys are fixed; others build on them."""
    read = parse(json.dumps(FULL).encode())
    assert set(Sidecar.model_fields) == set(FULL)
    assert (read.kind, read.buyer_siren, read.total) == (Kind.CREDIT_NOTE, "534010764", Decimal("120.50"))
    assert (read.issue_date, read.period_end) == (dt.date(2026, 9, 1), dt.date(2026, 8, 31))


def test_all_keys_are_optional_and_null_counts_as_absent() -> None:
    """A billing system writes the keys that it has, some write null for the others."""
    assert parse(b"{}") == parse(json.dumps(dict.fromkeys(FULL)).encode()) == Sidecar()


def test_a_byte_order_mark_is_tolerated() -> None:
    """Windows tools write one."""
    assert parse(b'\xef\xbb\xbf{"number": "F1"}').number == "F1"


def test_a_siret_counts_as_its_siren_and_a_french_vat_number_too() -> None:
    """DOMAIN 2: the SIREN is what a party is known by."""
    assert parse(b'{"seller_siren": "12345678200010", "buyer_siren": "FR 12 534 010 764"}') == Sidecar(
        seller_siren="123456782", buyer_siren="534010764"
    )


def test_a_foreign_party_is_known_by_its_vat_number() -> None:
    """It has no SIREN."""
    assert parse(b'{"buyer_siren": "DE 136695976"}').buyer_siren == "DE136695976"


@pytest.mark.parametrize("total", ["1234.5678", "-0.5", "0", 12, 12.5, "12.50"])
def test_an_amount_is_a_text_or_a_number_and_stays_exact(total: Any) -> None:
    """A binary float would turn 0.1 into something else."""
    assert parse(json.dumps({"total": total}).encode()).total == Decimal(str(total))


@pytest.mark.parametrize(
    "total", ["1.23456", "1e2", "", "12,50", "1 000.00", "NaN", "123456789012345", 1e300, True, [], {}, "٣"]
)
def test_an_amount_that_is_not_plain_is_refused(total: Any) -> None:
    """More than four decimals, exponents, separators, and what the column could not hold."""
    assert refused(total=total).facts["key"] == "total"


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_json_is_refused(constant: str) -> None:
    """RFC 8259 has no such numbers."""
    with pytest.raises(Refused, match="no JSON value"):
        parse(b'{"total": %s}' % constant.encode())


@pytest.mark.parametrize(
    "day", ["2027-02-29", "2026-13-01", "20260901", "2026-9-1", "01/09/2026", "2026-09-01T00:00", 20260901]
)
def test_a_day_is_one_of_the_calendar_in_iso_form(day: Any) -> None:
    """29 February 2027 does not exist."""
    error = refused(issue_date=day)
    assert error.facts["key"] == "issue_date"


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("seller_siren", "123456789", "siren_check"),
        ("buyer_siren", "12345678", "siren_format"),
        ("seller_siren", 123456782, "sidecar_invalid"),  # as a number it would lose its leading zeros
        ("buyer_siren", "a company", "vat_format"),
        ("contract", "C 1", "contract_format"),
        ("contract", "../../etc", None),
        ("number", "F\n1", "number_format"),
        ("corrects", "F\u202e1", "number_format"),
        ("kind", "receipt", "sidecar_invalid"),
        ("kind", "Invoice", "sidecar_invalid"),
        ("type_code", "38O", "type_code"),
        ("currency", "eur", "currency_format"),
        ("number", "", "number_format"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_reason(key: str, value: Any, code: str | None) -> None:
    """The billing system's operator must find the line."""
    if code is None:
        parse(json.dumps({key: value}).encode())  # opaque, and never used as a path
        return
    error = refused(**{key: value})
    assert (error.code, error.facts["key"]) == (code, key)
    assert key in error.message


def test_a_type_code_may_be_a_number() -> None:
    """380 and "380" are the same code."""
    assert parse(b'{"type_code": 380}') == parse(b'{"type_code": "380"}') == Sidecar(type_code="380")


def test_an_unknown_key_is_refused_and_the_known_ones_are_named() -> None:
    """A misspelt key that is ignored is a fact that is lost."""
    error = refused(issuedate="2026-09-01")
    assert error.facts["key"] == "issuedate" and "issue_date" in error.message


def test_a_key_that_stands_twice_is_refused() -> None:
    """Which of the two counts depends on the reader."""
    with pytest.raises(Refused, match="stands twice"):
        parse(b'{"buyer_siren": "534010764", "buyer_siren": "123456782"}')


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'"x"', b"{", b"\xff\xfe{\x00}\x00", b"null", b'{"a": 1}}', b"{'number': 'F1'}"]
)
def test_what_is_not_one_json_object_is_refused(raw: bytes) -> None:
    """Also UTF-16, and Python's own notation."""
    with pytest.raises(Refused):
        parse(raw)


def test_a_deep_or_large_sidecar_is_refused_without_harm() -> None:
    """30,000 levels would overflow a stack; 64 KB are plenty for twelve keys."""
    with pytest.raises(Refused, match="too deep"):
        parse(b'{"number": ' + b"[" * 30_000 + b"]" * 30_000 + b"}")
    with pytest.raises(TooLarge):
        parse(b" " * (MAX_BYTES + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(max_size=10), json_values, max_size=6))
def test_any_json_is_read_or_refused(values: dict[str, Any]) -> None:
    """Nothing but Refused comes out, and what is accepted survives being written again."""
    try:
        read = parse(json.dumps(values).encode())
    except Refused:
        return
    assert parse(read.model_dump_json(exclude_none=True).encode()) == read


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No traceback for what is no JSON at all."""
    with contextlib.suppress(Refused):
        assert isinstance(parse(raw), Sidecar)
