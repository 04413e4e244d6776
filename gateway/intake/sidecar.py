"""A sidecar: one JSON object that states facts of a document beside its PDF (`X.pdf.json`, or a part of the upload).

All keys are optional here; which are needed depends on what the PDF states itself (facts.merge). Input is hostile:
over 64 KB, not UTF-8, not one flat JSON object, an unknown or repeated key, a value of another form is Refused, and
the message names the key. A key whose value is null counts as absent.
"""

import datetime as dt
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from ..domain import identifiers
from ..domain.states import Kind
from ..errors import Refused, TooLarge

MAX_BYTES = 64 * 1024
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT = re.compile(r"-?[0-9]{1,14}(?:\.[0-9]{1,4})?")  # what the column of amounts can hold
_CURRENCY = re.compile(r"[A-Z]{3}")
_TYPE_CODE = re.compile(r"[0-9]{1,3}")


class _Number(str):
    """A JSON number as it was written: 1e2, 0.10 and a SIREN without its leading zero stay visible."""

    __slots__ = ()


def _text(value: object) -> str:
    if not isinstance(value, str) or isinstance(value, _Number):
        raise Refused('is a text, in quotes: "…"', code="sidecar_invalid")
    return value


def _kind(value: object) -> Kind:
    try:
        return Kind(_text(value))
    except ValueError:
        raise Refused(f"is one of {', '.join(Kind)}", code="sidecar_invalid") from None


def _day(value: object) -> dt.date:
    text = value.isoformat() if type(value) is dt.date else _text(value)
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return dt.date.fromisoformat(text)
    except ValueError:
        raise Refused(f"is a day of the calendar, YYYY-MM-DD; it reads {text[:40]!r}", code="date_format") from None


def _amount(value: object) -> Decimal:
    text = format(value, "f") if isinstance(value, Decimal) else value
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise Refused('is an amount with at most four decimals, such as "1234.56"', code="amount_format")
    return Decimal(text)


def _currency(value: object) -> str:
    if not _CURRENCY.fullmatch(text := _text(value)):
        raise Refused("is a currency of three capital letters (ISO 4217), such as EUR", code="currency_format")
    return text


def _type_code(value: object) -> str:
    if not isinstance(value, str) or not _TYPE_CODE.fullmatch(value):
        raise Refused("is a document type of up to three digits (UNTDID 1001), such as 380", code="type_code")
    return str(value)


def _checked(check: Callable[[Any], object]) -> BeforeValidator:
    """`check` for pydantic, which must learn the key that a refusal belongs to."""

    def validate(value: object) -> object:
        try:
            return None if value is None else check(value)
        except Refused as refused:
            facts = {"reason": refused.message, "code": refused.code}
            raise PydanticCustomError("refused", "{reason}", facts) from None

    return BeforeValidator(validate)


def _identifier(check: Callable[[str], str]) -> BeforeValidator:
    return _checked(lambda value: check(_text(value)))


_Party = Annotated[str | None, _identifier(identifiers.party)]
_Day = Annotated[dt.date | None, _checked(_day)]


class Sidecar(BaseModel):
    """What a sidecar states; None: nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[Kind | None, _checked(_kind)] = None
    number: Annotated[str | None, _identifier(identifiers.document_number)] = None
    issue_date: _Day = None
    type_code: Annotated[str | None, _checked(_type_code)] = None  # UNTDID 1001
    contract: Annotated[str | None, _identifier(identifiers.contract_number)] = None
    seller_siren: _Party = None  # a SIREN, a SIRET or a VAT number; kept as SIREN, or as foreign VAT number
    buyer_siren: _Party = None
    currency: Annotated[str | None, _checked(_currency)] = None
    total: Annotated[Decimal | None, _checked(_amount)] = None  # with VAT (BT-112)
    period_start: _Day = None
    period_end: _Day = None
    corrects: Annotated[str | None, _identifier(identifiers.invoice_number)] = None  # number of the invoice (BT-25)


def parse(raw: bytes) -> Sidecar:
    """The sidecar in these bytes (JSON, UTF-8, a byte order mark is tolerated); Refused, with `key` in its facts."""
    if len(raw) > MAX_BYTES:
        raise TooLarge(f"the sidecar has {len(raw)} bytes, over the limit of {MAX_BYTES}", code="sidecar_too_large")
    try:
        values = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_without_repeats,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        raise Refused("the sidecar is not in UTF-8", code="sidecar_invalid") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(f"the sidecar is not JSON: {error.msg} at {where}", code="sidecar_invalid") from None
    except RecursionError:
        raise Refused("the sidecar is nested too deep", code="sidecar_invalid") from None
    if not isinstance(values, dict):
        raise Refused("the sidecar is not one JSON object {…}", code="sidecar_invalid")
    return _validated(values)


def _validated(values: dict[str, object]) -> Sidecar:
    try:
        return Sidecar.model_validate(values)
    except pydantic.ValidationError as errors:
        first = errors.errors()[0]
    key = str(first["loc"][0])[:40] if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = ", ".join(Sidecar.model_fields)
        raise Refused(f"sidecar: no such key: {key!r}; the keys are {known}", code="sidecar_invalid", key=key)
    raise Refused(f"sidecar: {key}: {first['msg']}", code=first.get("ctx", {}).get("code", "sidecar_invalid"), key=key)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise Refused(f"sidecar: the key {key[:40]!r} stands twice", code="sidecar_invalid", key=key[:40])
        values[key] = value
    return values


def _no_constant(name: str) -> object:
    raise Refused(f"the sidecar holds {name}, which is no JSON value", code="sidecar_invalid")
