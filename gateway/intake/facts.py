"""The facts of a document: what its XML states and what a sidecar states, made one.

A sidecar gives what the XML does not state. Where both state the same thing:

- number, issue date, kind and type code, seller, buyer, currency, total, corrected invoice: they must agree, else
  `sidecar_contradicts`. They stand printed in the document that is sealed, and a file that was paired with another
  file's sidecar must not reach another client.
- contract and period: the sidecar wins, with a warning. BT-12 often holds a reference of another kind than the
  issuer's contract number. This cannot send the document to somebody else: the buyer is not the sidecar's to change,
  and accept.py refuses a contract that is not of the buyer's company.
- a party that the XML names by a foreign VAT number only: a SIREN completes it, for a foreign company may have both.

Pure functions. Refused says which fact is missing or wrong and by which key of a sidecar it is given.
"""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from ..domain import identifiers
from ..domain.states import Kind
from ..errors import Refused
from .sidecar import Sidecar

T = TypeVar("T")

# UNTDID 1001 as EN 16931 restricts it (BR-CL-01).
_CREDIT_NOTES = "81 83 262 296 308 381 396 420 458 503 532"
_CORRECTED = "384 472"
_INVOICES = (
    "80 82 84 202 203 204 211 218 219 295 326 331 380 382 383 385 386 387 388 390 393 394 395 456 457 553 575 623 633"
    " 780 817 870 875 876 877 935"
)
_SELF_BILLED = "261 389 471 473 500 501 502 527"  # written by the buyer: it would go to whom it comes from
_NO_INVOICES = "71 102 130 325 751"  # payment request, tax demand, data sheet, pro forma, accounting information
TYPE_CODES = {
    **dict.fromkeys(_INVOICES.split(), Kind.INVOICE),
    **dict.fromkeys(_CREDIT_NOTES.split(), Kind.CREDIT_NOTE),
    **dict.fromkeys(_CORRECTED.split(), Kind.CORRECTED_INVOICE),
}
_LONGEST_NUMBER = 40  # other sellers' and older numbers may be of another form than ours
_USUAL_CODE = {Kind.INVOICE: "380", Kind.CREDIT_NOTE: "381", Kind.CORRECTED_INVOICE: "384"}


@dataclass(frozen=True)
class Party:
    """A seller or buyer as the XML states it; a French VAT number counts as its SIREN."""

    siren: str = ""
    vat: str = ""
    name: str = ""

    @property
    def known_by(self) -> str:
        """Its SIREN; a foreign party's VAT number; empty when neither is stated."""
        return self.siren or self.vat


@dataclass(frozen=True)
class Stated:
    """What the XML of an invoice states; empty or None: nothing. EN 16931's terms in brackets."""

    number: str = ""  # BT-1
    issue_date: dt.date | None = None  # BT-2
    type_code: str = ""  # BT-3
    seller: Party = field(default_factory=Party)  # BG-4
    buyer: Party = field(default_factory=Party)  # BG-7
    contract: str = ""  # BT-12, as it stands there
    currency: str = ""  # BT-5
    total: Decimal | None = None  # BT-112
    due: Decimal | None = None  # BT-115
    period_start: dt.date | None = None  # BT-73
    period_end: dt.date | None = None  # BT-74
    preceding: tuple[str, ...] = ()  # BT-25


class Facts(BaseModel):
    """All that is known of a document; absent texts are empty. Dumped as JSON into the document's row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    number: str
    issue_date: dt.date
    contract: str
    type_code: str = ""  # UNTDID 1001; empty for the kinds that are no invoices
    seller: str = ""  # SIREN, or VAT number of a foreign one; empty: not stated (kinds that are no invoices)
    seller_name: str = ""
    buyer: str = ""
    buyer_name: str = ""
    currency: str = ""
    total: Decimal | None = None  # with VAT
    due: Decimal | None = None
    period_start: dt.date | None = None
    period_end: dt.date | None = None
    corrects: str = ""  # number of the invoice that a credit note or corrected invoice corrects
    profile: str = ""  # flavour and level of the XML, such as "factur-x en16931"; empty: no XML
    xml_name: str = ""
    pages: int = 0
    warnings: tuple[str, ...] = ()
    layers_ran: tuple[str, ...] = ()  # of pdf, xsd, en16931, br-fr
    layers_skipped: tuple[str, ...] = ()


def merge(stated: Stated | None, sidecar: Sidecar | None) -> Facts:
    """What both say together, by the rules of this module; Refused: sidecar_contradicts, missing_fact, type_code, …"""
    given = sidecar or Sidecar()
    if given.kind is not None and not given.kind.is_invoice:
        return _of_another_kind(given.kind, given)
    return _of_an_invoice(stated or Stated(), given)


def _of_an_invoice(stated: Stated, given: Sidecar) -> Facts:
    warnings: list[str] = []
    number = _agreed("number", stated.number, given.number)
    issue_date = _agreed("issue_date", stated.issue_date, given.issue_date)
    kind, type_code = _kind(stated.type_code, given, warnings)
    facts = Facts(
        kind=kind,
        number=identifiers.invoice_number(_needed("number", number)),
        issue_date=_needed("issue_date", issue_date),
        contract=_contract(stated.contract, given.contract, warnings),
        type_code=type_code,
        seller=_needed("seller_siren", _party("seller_siren", stated.seller, given.seller_siren)),
        seller_name=stated.seller.name,
        buyer=_party("buyer_siren", stated.buyer, given.buyer_siren),
        buyer_name=stated.buyer.name,
        currency=_agreed("currency", stated.currency, given.currency) or "",
        total=_agreed("total", stated.total, given.total),
        due=stated.due,
        period_start=_overridden("period_start", stated.period_start, given.period_start, warnings),
        period_end=_overridden("period_end", stated.period_end, given.period_end, warnings),
        corrects=_corrects(kind, stated.preceding, given.corrects, warnings),
    )
    if facts.total is not None and not facts.currency:
        warnings.append("a total is stated without its currency")
    _check_period(facts)
    return facts.model_copy(update={"warnings": tuple(warnings)})


def _of_another_kind(kind: Kind, given: Sidecar) -> Facts:
    """A contract, amendment, continuity report or management sheet: what the sidecar says, and no amounts."""
    of_invoices = ("type_code", "currency", "total", "corrects")
    unused = [key for key in of_invoices if getattr(given, key) is not None]
    facts = Facts(
        kind=kind,
        number=_needed("number", given.number),
        issue_date=_needed("issue_date", given.issue_date),
        contract=_needed("contract", given.contract),
        seller=given.seller_siren or "",
        buyer=given.buyer_siren or "",
        period_start=given.period_start,
        period_end=given.period_end,
        warnings=tuple(f"{key} of the sidecar is not used: a {kind} has none" for key in unused),
    )
    _check_period(facts)
    return facts


def check_dates(facts: Facts, today: dt.date, oldest: dt.date, max_days_ahead: int) -> None:
    """Refuse an issue date before `oldest`, or more than `max_days_ahead` after `today` (the issuer's day)."""
    if facts.issue_date < oldest:
        raise Refused(f"issue date {facts.issue_date} is before {oldest}, the oldest accepted", code="date_too_old")
    if (facts.issue_date - today).days > max_days_ahead:
        raise Refused(f"issue date {facts.issue_date} is in the future (today is {today})", code="date_in_future")


def _agreed(key: str, stated: T | None, given: T | None) -> T | None:
    """The one value of both sides; an amount is the same with more or fewer zeros at its end."""
    if stated in (None, ""):
        return given
    if given is not None and given != stated:
        raise _contradiction(key, stated, given)
    return stated


def _overridden(key: str, stated: T | None, given: T | None, warnings: list[str]) -> T | None:
    if given is None:
        return stated
    if stated not in (None, "") and given != stated:
        warnings.append(f"{key}: the XML says {_shown(stated)}, the sidecar's {_shown(given)} is used")
    return given


def _contract(stated: str, given: str | None, warnings: list[str]) -> str:
    contract = _overridden("contract", stated, given, warnings)
    return identifiers.contract_number(_needed("contract", contract))


def _party(key: str, stated: Party, given: str | None) -> str:
    if given is None or given in (stated.siren, stated.vat) or (given.isdigit() and not stated.siren):
        return stated.siren or (given if given and given.isdigit() else "") or stated.vat
    if stated.known_by:
        raise _contradiction(key, stated.known_by, given)
    return given


def _kind(stated: str, given: Sidecar, warnings: list[str]) -> tuple[Kind, str]:
    code = _agreed("type_code", stated, given.type_code)
    if code:
        kind = _kind_of(code)
        if given.kind is not None and given.kind is not kind:
            said = f"type {code} is of kind {kind}, the sidecar says {given.kind}"
            raise Refused(f"sidecar: kind: {said}; is it another document's?", code="sidecar_contradicts", key="kind")
        return kind, code
    if given.kind is None:
        warnings.append("neither kind nor type is stated: taken as an invoice (380)")
    kind = given.kind or Kind.INVOICE
    return kind, _USUAL_CODE[kind]


def _kind_of(code: str) -> Kind:
    """UNTDID 1001 → our kinds; Refused for what the gateway cannot deliver and for what EN 16931 does not know."""
    if code in _SELF_BILLED.split():
        raise Refused(f"type {code} (self-billing) is written by the buyer: nothing to deliver to it", code="type_code")
    if code in _NO_INVOICES.split():
        raise Refused(f"type {code} is no invoice and no credit note (UNTDID 1001)", code="type_code")
    if code not in TYPE_CODES:
        raise Refused(f"type {code[:10]!r} is no document type of EN 16931 (UNTDID 1001)", code="type_code")
    return TYPE_CODES[code]


def _corrects(kind: Kind, preceding: tuple[str, ...], given: str | None, warnings: list[str]) -> str:
    """Of an invoice, BT-25 names what went before it, such as a prepayment: it corrects nothing."""
    if kind is Kind.INVOICE:
        return given or ""
    stated = tuple(number for number in preceding if len(number) <= _LONGEST_NUMBER and number.isprintable())
    if len(stated) < len(preceding):
        warnings.append("it names an invoice that it corrects (BT-25) by what is no number: not kept")
    if not stated:
        return given or ""
    if given is not None and given not in stated:
        raise _contradiction("corrects", ", ".join(stated), given)
    if len(stated) > 1:
        warnings.append(f"it corrects several invoices, {_shown(', '.join(stated))}: linked to {given or stated[0]}")
    return given or stated[0]


def _check_period(facts: Facts) -> None:
    if facts.period_start and facts.period_end and facts.period_end < facts.period_start:
        raise Refused(f"the period ends on {facts.period_end}, before it starts on {facts.period_start}", code="period")


def _needed(key: str, value: T | None) -> T:
    if value is None or value == "":
        name = {"seller_siren": "seller (SIREN, or VAT number of a foreign one)"}.get(key, key.replace("_", " "))
        raise Refused(f"the {name} is stated nowhere: give it as {key!r} in a sidecar", code="missing_fact", key=key)
    return value


def _contradiction(key: str, stated: object, given: object) -> Refused:
    said = f"the XML says {_shown(stated)}, the sidecar {_shown(given)}"
    return Refused(f"sidecar: {key}: {said}; is it another document's?", code="sidecar_contradicts", key=key)


def _shown(value: object) -> str:
    return repr(str(value)[:100])
