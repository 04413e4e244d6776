"""Identifiers of the field: what they look like and how they are checked. Pure functions; Refused says why."""

import ipaddress
import re

from stdnum import luhn
from stdnum.exceptions import ValidationError

from ..errors import Refused

CONTRACT = re.compile(r"[A-Za-z0-9._/-]{1,40}")
NUMBER = re.compile(r"[A-Za-z0-9+_/-]{1,35}")  # BR-FR-02
DOCUMENT_NUMBER = re.compile(r"[A-Za-z0-9+_/.-]{1,40}")  # the kinds that are not invoices
USER_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
VAT = re.compile(r"[A-Z]{2}(?=[A-Z]*[0-9])[A-Z0-9]{2,13}")  # every country's has a digit
_SEPARATORS = re.compile(r"[\s.]")


def siren(value: str) -> str:
    """A SIREN in compact form (9 digits, Luhn); spaces and dots are dropped. Refused says what is wrong."""
    compact = _SEPARATORS.sub("", value)
    if not re.fullmatch(r"[0-9]{9}", compact):
        raise Refused(f"a SIREN has nine digits, this one reads {value[:40]!r}", code="siren_format")
    try:
        luhn.validate(compact)
    except ValidationError:
        raise Refused(f"SIREN {compact} fails its check digit (Luhn)", code="siren_check") from None
    return compact


def siren_of_siret(value: str) -> tuple[str, bool]:
    """The SIREN of a SIRET (14 digits) and whether the SIRET's own Luhn holds, which only warrants a warning."""
    compact = _SEPARATORS.sub("", value)
    if not re.fullmatch(r"[0-9]{14}", compact):
        raise Refused(f"a SIRET has fourteen digits, this one reads {value[:40]!r}", code="siret_format")
    return siren(compact[:9]), luhn.is_valid(compact)


def contract_number(value: str) -> str:
    """A contract number: opaque, `^[A-Za-z0-9._/-]{1,40}$`."""
    if not CONTRACT.fullmatch(value):
        raise Refused(
            f"a contract number is 1 to 40 of A-Z a-z 0-9 . _ / -, this one reads {value[:60]!r}",
            code="contract_format",
        )
    return value


def invoice_number(value: str) -> str:
    """An invoice number, `^[A-Za-z0-9+_/-]{1,35}$` (BR-FR-02)."""
    if not NUMBER.fullmatch(value):
        raise Refused(
            f"an invoice number is 1 to 35 of A-Z a-z 0-9 + _ / -, this one reads {value[:60]!r}", code="number_format"
        )
    return value


def document_number(value: str) -> str:
    """The number of a document that is not an invoice."""
    if not DOCUMENT_NUMBER.fullmatch(value):
        raise Refused(
            f"a document number is 1 to 40 of A-Z a-z 0-9 + _ / . -, this one reads {value[:60]!r}",
            code="number_format",
        )
    return value


def vat_number(value: str) -> str:
    """A VAT number, upper case, without separators; the form only: its check is the country's."""
    compact = re.sub(r"[\s.-]", "", value).upper()
    if not VAT.fullmatch(compact):
        raise Refused(
            f"a VAT number is two letters and up to 13 characters, this one reads {value[:40]!r}", code="vat_format"
        )
    return compact


def siren_of_vat(number: str) -> str | None:
    """The SIREN in a French VAT number (FR, two characters, SIREN) in compact form; None in any other."""
    held = number[4:]
    if number.startswith("FR") and re.fullmatch(r"[0-9]{9}", held) and luhn.is_valid(held):
        return held
    return None


def party(value: str) -> str:
    """A seller or buyer: a SIREN, a SIRET or a French VAT number (its SIREN counts), or a foreign VAT number."""
    compact = re.sub(r"[\s.-]", "", value).upper()
    if compact.isdigit():
        return siren_of_siret(compact)[0] if len(compact) == 14 else siren(compact)
    number = vat_number(compact)
    return siren_of_vat(number) or number


def user_name(value: str) -> str:
    """A log-in name of a drop folder; checked before any look-up."""
    if not USER_NAME.fullmatch(value):
        raise Refused("a user name is 1 to 64 of A-Z a-z 0-9 . _ @ -", code="user_name_format")
    return value


_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]"
)


def network_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address as a socket names its peer, an IPv4 one in IPv6 as what it is; None for anything else."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def mail_address(value: str) -> str:
    """An e-mail address that SMTP without SMTPUTF8 can carry (RFC 5321 4.1.2, dot-string); the domain in lower case."""
    if len(value) > 254 or not _ADDRESS.fullmatch(value) or len(value.rpartition("@")[0]) > 64:
        raise Refused(f"not an e-mail address: {value[:80]!r}", code="address_format")
    local, _, domain = value.rpartition("@")
    return f"{local}@{domain.lower()}"
