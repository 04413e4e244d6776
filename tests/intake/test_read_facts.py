"""What the XML and the sidecar say together: completed, agreed, or refused as another document's."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.states import Kind
from gateway.errors import Refused
from gateway.intake import facts
from gateway.intake.facts import Party, Stated, check_dates, merge
from gateway.intake.sidecar import Sidecar

SIREN, OTHER, VAT = "123456782", "534010764", "DE136695976"
STATED = Stated(
    number="F1",
    issue_date=dt.date(2026, 9, 1),
    type_code="380",
    seller=Party(SIREN, "", "Vendeur"),
    buyer=Party(OTHER, "", "Acheteur"),
    contract="C-1",
    currency="EUR",
    total=Decimal("120.00"),
    due=Decimal("20.00"),
    period_start=dt.date(2026, 8, 1),
    period_end=dt.date(2026, 8, 31),
)
COMPLETE = Sidecar(
    kind=Kind.INVOICE,
    number="F1",
    issue_date=dt.date(2026, 9, 1),
    type_code="380",
    seller_siren=SIREN,
    buyer_siren=OTHER,
    contract="C-1",
    currency="EUR",
    total=Decimal("120"),
    period_start=dt.date(2026, 8, 1),
    period_end=dt.date(2026, 8, 31),
)


def stated(**changes: Any) -> Stated:
    from dataclasses import replace

    return replace(STATED, **changes)


def refusal(xml: Stated | None, **given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        merge(xml, Sidecar(**given))
    return caught.value


def test_each_side_is_enough_and_both_may_agree() -> None:
    """The order of precedence is of no interest while they say the same."""
    alone, beside, both = merge(STATED, None), merge(None, COMPLETE), merge(STATED, COMPLETE)
    assert both == alone
    assert beside == alone.model_copy(update={"seller_name": "", "buyer_name": "", "due": None})
    assert alone.warnings == ()


def test_facts_survive_json() -> None:
    """They are kept in the document's row."""
    merged = merge(STATED, None)
    assert facts.Facts.model_validate_json(merged.model_dump_json()) == merged


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", "F2"),
        ("issue_date", dt.date(2026, 9, 2)),
        ("type_code", "381"),
        ("kind", Kind.CREDIT_NOTE),
        ("seller_siren", OTHER),
        ("buyer_siren", SIREN),
        ("buyer_siren", VAT),
        ("currency", "USD"),
        ("total", Decimal("120.01")),
    ],
)
def test_a_sidecar_that_contradicts_the_document_is_refused(key: str, value: Any) -> None:
    """It was probably written for another document: nothing may be delivered on its word."""
    error = refusal(STATED, **{key: value})
    assert (error.code, error.facts["key"]) == ("sidecar_contradicts", key)
    assert str(value) in error.message


def test_the_corrected_invoice_must_be_one_that_the_document_names() -> None:
    """The client steps from a credit note to its invoice."""
    note = stated(type_code="381", preceding=("F0", "F00"))
    assert refusal(note, corrects="F9").code == "sidecar_contradicts"
    assert merge(note, Sidecar(corrects="F00")).corrects == "F00"
    assert merge(note, None).corrects == "F0" and merge(note, None).warnings


def test_contract_and_period_are_the_sidecars_with_a_warning() -> None:
    """BT-12 often holds an order's or a framework's reference."""
    merged = merge(STATED, Sidecar(contract="CARD/7", period_end=dt.date(2026, 8, 30)))
    assert (merged.contract, merged.period_end, merged.period_start) == (
        "CARD/7",
        dt.date(2026, 8, 30),
        dt.date(2026, 8, 1),
    )
    assert [warning.split(":")[0] for warning in merged.warnings] == ["contract", "period_end"]


def test_a_reference_that_is_no_contract_number_needs_a_sidecar() -> None:
    """`Marché n° 7` cannot be looked up."""
    odd = stated(contract="Marché n° 7")
    assert refusal(odd).code == "contract_format"
    assert merge(odd, Sidecar(contract="C-1")).contract == "C-1"


@pytest.mark.parametrize(
    ("party", "given", "known_by"),
    [
        (Party(SIREN), None, SIREN),
        (Party(SIREN), SIREN, SIREN),
        (Party(SIREN, VAT), VAT, SIREN),
        (Party("", VAT), None, VAT),
        (Party("", VAT), VAT, VAT),
        (Party("", VAT), SIREN, SIREN),  # a foreign company with a French establishment has both
        (Party(), SIREN, SIREN),
        (Party(), VAT, VAT),
        (Party(), None, ""),
        (Party(SIREN), OTHER, None),
        (Party(SIREN), VAT, None),
        (Party("", VAT), "ESA12345674", None),
    ],
)
def test_a_party_is_completed_but_never_exchanged(party: Party, given: str | None, known_by: str | None) -> None:
    """Who receives hangs on it. None: refused."""
    if known_by is None:
        assert refusal(stated(buyer=party), buyer_siren=given).code == "sidecar_contradicts"
    else:
        assert merge(stated(buyer=party), Sidecar(buyer_siren=given)).buyer == known_by


@pytest.mark.parametrize("key", ["number", "issue_date", "contract", "seller_siren"])
def test_a_fact_that_nobody_states_is_asked_for_by_its_key(key: str) -> None:
    """The sender learns what to write where."""
    error = refusal(None, **COMPLETE.model_dump(exclude={key}))
    assert (error.code, error.facts["key"]) == ("missing_fact", key)
    assert f"'{key}' in a sidecar" in error.message


def test_the_contract_says_who_receives_where_no_buyer_is_stated() -> None:
    """The smallest level has no legal registration of the buyer."""
    assert merge(stated(buyer=Party()), None).buyer == ""


# Kinds and type codes.


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("380", "invoice"),
        ("381", "credit_note"),
        ("384", "corrected_invoice"),
        ("204", "invoice"),
        ("386", "invoice"),
        ("396", "credit_note"),
    ],
)
def test_a_type_code_says_the_kind(code: str, kind: str) -> None:
    """UNTDID 1001: 380, 381, 384 and their relatives."""
    merged = merge(stated(type_code=code), None)
    assert (merged.kind, merged.type_code) == (kind, code)


@pytest.mark.parametrize("code", ["389", "261", "751", "325", "999", "220", "", "38O"])
def test_what_is_not_the_sellers_invoice_is_refused(code: str) -> None:
    """Self-billing goes the other way; a pro forma is no invoice; 220 is an order. No code at all counts as 380."""
    if code:
        assert refusal(stated(type_code=code)).code == "type_code"
    else:
        assert merge(stated(type_code=code), None).type_code == "380"


def test_each_code_belongs_to_one_list() -> None:
    """The table is complete: every code of EN 16931 (BR-CL-01) is decided about, once."""
    known = (  # as the schematron of the standard lists them
        "71 80 81 82 83 84 102 130 202 203 204 211 218 219 261 262 295 296 308 325 326 331 380 381 382 383 384 385 386"
        " 387 388 389 390 393 394 395 396 420 456 457 458 471 472 473 500 501 502 503 527 532 553 575 623 633 751 780"
        " 817 870 875 876 877 935"
    )
    lists = (facts._INVOICES, facts._CREDIT_NOTES, facts._CORRECTED, facts._SELF_BILLED, facts._NO_INVOICES)
    assert sorted(" ".join(lists).split()) == sorted(known.split())


@pytest.mark.parametrize("kind", [Kind.INVOICE, Kind.CREDIT_NOTE, Kind.CORRECTED_INVOICE])
def test_a_kind_without_a_type_code_gets_the_usual_one(kind: Kind) -> None:
    """And the other way round; the two must go together."""
    code = merge(None, COMPLETE.model_copy(update={"kind": kind, "type_code": None})).type_code
    assert merge(None, COMPLETE.model_copy(update={"kind": None, "type_code": code})).kind is kind
    wrong = "381" if code == "380" else "380"
    with pytest.raises(Refused, match="kind"):
        merge(None, COMPLETE.model_copy(update={"kind": kind, "type_code": wrong}))


def test_without_kind_and_type_it_is_an_invoice_and_says_so() -> None:
    """Most documents are; whoever reads the facts sees that nobody said it."""
    merged = merge(None, COMPLETE.model_copy(update={"kind": None, "type_code": None}))
    assert merged.kind is Kind.INVOICE and "taken as an invoice" in merged.warnings[0]


@pytest.mark.parametrize("number", ["A" * 41, "A\nB", "A\u202eB"])
def test_what_is_no_number_is_not_kept_as_the_corrected_invoices(number: str) -> None:
    """It stands in a column of 40 characters, and in mails; nobody's old number looks like this."""
    facts = merge(stated(type_code="381", preceding=(number,)), None)
    assert facts.corrects == ""
    assert any("BT-25" in warning for warning in facts.warnings)
    assert merge(stated(type_code="381", preceding=("N° 12 / 2019", number)), None).corrects == "N° 12 / 2019"


def test_what_comes_before_an_invoice_is_not_corrected_by_it() -> None:
    """BT-25 of a final invoice names the prepayment."""
    assert merge(stated(preceding=("F0",)), None).corrects == ""
    assert merge(stated(type_code="384", preceding=("F0",)), None).corrects == "F0"


OTHER_KINDS = [kind for kind in Kind if not kind.is_invoice]


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_the_other_kinds_are_what_their_sidecar_says(kind: Kind) -> None:
    """Number, date and contract; the seller is the issuer unless said; no amounts; the XML is not looked at."""
    given = Sidecar(kind=kind, number="2026.1", issue_date=dt.date(2026, 9, 1), contract="C-1")
    merged = merge(STATED, given)
    assert (merged.kind, merged.number, merged.contract, merged.seller, merged.type_code) == (
        kind,
        "2026.1",
        "C-1",
        "",
        "",
    )
    assert (merged.total, merged.currency) == (None, "")
    with_total = merge(None, given.model_copy(update={"total": Decimal(1), "currency": "EUR"}))
    assert with_total.total is None and len(with_total.warnings) == 2


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("key", ["number", "issue_date", "contract"])
def test_the_other_kinds_need_number_date_and_contract(kind: Kind, key: str) -> None:
    """There is nothing else to read them from."""
    given = {"kind": kind, "number": "1", "issue_date": "2026-09-01", "contract": "C-1"}
    del given[key]
    assert refusal(STATED, **given).facts["key"] == key


def test_an_invoice_number_has_no_dot() -> None:
    """BR-FR-02; the other kinds may."""
    assert refusal(None, **COMPLETE.model_dump(exclude={"number"}), number="2026.1").code == "number_format"


# Days.


def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    """Whichever side says so."""
    assert refusal(STATED, period_end=dt.date(2026, 7, 1)).code == "period"


@pytest.mark.parametrize(
    ("day", "code"),
    [
        (dt.date(2026, 9, 16), None),
        (dt.date(2026, 9, 17), "date_in_future"),
        (dt.date(9999, 12, 31), "date_in_future"),
        (dt.date(2000, 1, 1), None),
        (dt.date(1999, 12, 31), "date_too_old"),
        (dt.date(26, 9, 1), "date_too_old"),
    ],
)
def test_an_issue_date_lies_between_the_oldest_and_the_days_ahead(day: dt.date, code: str | None) -> None:
    """The year 0026; tomorrow is allowed, the day after is not."""
    merged = merge(stated(issue_date=day), None)
    if code is None:
        check_dates(merged, dt.date(2026, 9, 15), dt.date(2000, 1, 1), 1)
        return
    with pytest.raises(Refused) as caught:
        check_dates(merged, dt.date(2026, 9, 15), dt.date(2000, 1, 1), 1)
    assert caught.value.code == code


parties = st.sampled_from([Party(), Party(SIREN), Party(OTHER), Party("", VAT), Party(SIREN, VAT)])
sides = st.fixed_dictionaries(
    {},
    optional={
        "number": st.sampled_from(["F1", "F2"]),
        "issue_date": st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 3)),
        "type_code": st.sampled_from(["380", "381", "389"]),
        "contract": st.sampled_from(["C-1", "C-2"]),
        "currency": st.sampled_from(["EUR", "USD"]),
        "total": st.sampled_from([Decimal(1), Decimal("1.0"), Decimal(2)]),
    },
)


@given(
    sides,
    parties,
    parties,
    sides,
    st.sampled_from([None, SIREN, OTHER, VAT]),
    st.sampled_from([None, SIREN, OTHER, VAT]),
)
def test_whatever_both_sides_say_the_documents_own_word_is_never_changed(
    xml: dict[str, Any],
    seller: Party,
    buyer: Party,
    beside: dict[str, Any],
    seller_siren: str | None,
    buyer_siren: str | None,
) -> None:
    """The sealed document shows these to its reader; a SIREN may only complete a foreign VAT number."""
    said = Stated(**xml, seller=seller, buyer=buyer)
    try:
        merged = merge(said, Sidecar(**beside, seller_siren=seller_siren, buyer_siren=buyer_siren))
    except Refused:
        return
    for key in ("number", "issue_date", "type_code", "currency", "total"):
        if key in xml:
            assert getattr(merged, key) == xml[key]
        elif key in beside:
            assert getattr(merged, key) == beside[key]
    for party, known_by in ((seller, merged.seller), (buyer, merged.buyer)):
        if party.siren:
            assert known_by == party.siren
    assert merged.contract == beside.get("contract", xml.get("contract"))
