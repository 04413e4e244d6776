"""The XML inside: no DTD in any encoding, a level that the standard knows, facts that are what they should be."""

import datetime as dt
import re
import time
from decimal import Decimal

import pytest

from gateway.errors import Refused
from gateway.intake import facturx
from tests.intake.makers import invoice_xml, legal

DOCTYPE = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE rsm:CrossIndustryInvoice'


def read(xml: str | bytes, *, xsd: bool = True) -> facturx.Invoice:
    return facturx.read(facturx.parse(xml.encode() if isinstance(xml, str) else xml), xsd=xsd)


def code_of(xml: str | bytes, *, xsd: bool = False) -> str:
    """Why it is refused; within a second, whatever it is."""
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        read(xml, xsd=xsd)
    assert time.process_time() - started < 1
    assert caught.value.message.isprintable()
    return caught.value.code


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    "dtd",
    [
        ' SYSTEM "http://127.0.0.1:9/x.dtd">',
        ' SYSTEM "file:///etc/passwd">',
        ' [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        ' [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>',
        f" [{BOMB}]>",
        f' [<!ENTITY a "{"x" * 100_000}">]>',
        " [<!ELEMENT a ANY>]>",
        " [<!ATTLIST a b CDATA 'c'>]>",
        ">",
        " PUBLIC '-//x' 'x'>",
    ],
    ids=["external", "file", "XXE", "parameter entity", "bomb", "quadratic", "element", "attlist", "bare", "public"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "cp1252"])
def test_any_dtd_is_refused_before_anything_is_parsed(dtd: str, encoding: str) -> None:
    """10⁵ characters of entity expansion pass lxml's own limits; an external one is a request to somewhere."""
    named = {"utf-8-sig": "utf-8", "cp1252": "windows-1252"}.get(
        encoding, encoding[:6] if "16" in encoding else encoding
    )
    xml = invoice_xml(prolog=f"{DOCTYPE}{dtd}".replace('"UTF-8"', f'"{named}"'))
    assert code_of(xml.encode(encoding)) == "dtd"


def test_a_dtd_cannot_hide_in_a_comment_or_behind_white_space() -> None:
    """What is searched is what is parsed; in a comment it is harmless, and refused all the same."""
    assert code_of(invoice_xml(prolog=f"\n \n{DOCTYPE}>")) in ("dtd", "xml_broken")
    assert code_of(invoice_xml(prolog="<!-- x --><!DOCTYPE x>")) == "dtd"


@pytest.mark.parametrize(
    "declared", ["UTF-7", "UTF-8-W/O-BOM", "UTF-32", "EBCDIC-CP-US", "utf-16", "unicode", "cp037", "hz", ""]
)
def test_an_encoding_in_which_a_dtd_could_hide_is_refused(declared: str) -> None:
    """In UTF-7, `+ADwAIQ-DOCTYPE` is a document type to the parser and nothing to a search."""
    assert code_of(invoice_xml(prolog=f'<?xml version="1.0" encoding="{declared}"?>')) == "xml_encoding"


@pytest.mark.parametrize(
    "raw",
    [
        invoice_xml().encode("utf-32"),
        invoice_xml().encode("cp037"),
        b"\xfe\xff" + invoice_xml().encode(),
        invoice_xml(number="F").encode("utf-16")[:-1],
        b"",
        b"\x00" * 100,
        b"no XML",
    ],
    ids=["utf-32", "ebcdic", "false mark", "odd length", "empty", "zeros", "text"],
)
def test_bytes_that_are_not_what_they_say_are_refused(raw: bytes) -> None:
    """Never a traceback."""
    assert code_of(raw) in ("xml_encoding", "xml_broken")


def test_what_is_no_xml_is_not_called_an_encoding() -> None:
    """The sender looks for what the message says."""
    assert code_of(b"no XML") == "xml_broken"


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-8", "utf8"),
        ("utf-16", "UTF-16"),
        ("iso-8859-1", "ISO-8859-1"),
        ("cp1252", "windows-1252"),
    ],
)
def test_plain_encodings_are_read_alike(encoding: str, declared: str) -> None:
    """A name with accents comes out the same."""
    xml = invoice_xml(prolog=f'<?xml version="1.0" encoding="{declared}"?>')
    assert read(xml.encode(encoding)).stated.seller.name == "Réseau Électrique"


@pytest.mark.parametrize(
    "xml",
    [
        invoice_xml()[:-30],
        invoice_xml(tail="<x/>"),
        invoice_xml(number="\x01"),
        invoice_xml(number="&undefined;"),
        "<a>" * 100_000,
        "<a " + " ".join(f'b{n}="x"' for n in range(3)) + ' b1="x"/>',
        invoice_xml().encode()[:500] + b"\xff\xfe" + invoice_xml().encode()[500:],
    ],
    ids=["cut", "two roots", "control", "entity", "deep", "attribute twice", "no utf-8"],
)
def test_an_xml_that_is_not_well_formed_is_refused(xml: str | bytes) -> None:
    """Nothing is repaired: what a repair makes of it is not what the issuer wrote."""
    assert code_of(xml) == "xml_broken"


@pytest.mark.parametrize(
    ("guideline", "profile"),
    [
        ("urn:factur-x.eu:1p0:minimum", "factur-x minimum"),
        ("urn:factur-x.eu:1p0:basicwl", "factur-x basicwl"),
        ("urn:zugferd.de:2p0:minimum", "factur-x minimum"),
        ("urn:cen.eu:en16931:2017#compliant#urn:factur-x.eu:1p0:basic", "factur-x basic"),
        ("urn:cen.eu:en16931:2017:compliant:factur-x.eu:1p0:basic", "factur-x basic"),
        ("urn:cen.eu:en16931:2017", "factur-x en16931"),
        ("urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0", "factur-x en16931"),
        ("urn:cen.eu:en16931:2017#conformant#urn:factur-x.eu:1p0:extended", "factur-x extended"),
        ("urn:cen.eu:en16931:2017#conformant#urn.cpro.gouv.fr:1p0:extended-ctc-fr", "factur-x extended-ctc-fr"),
    ],
)
def test_every_level_of_the_standard_is_known(guideline: str, profile: str) -> None:
    """BT-24; national narrowings of EN 16931 pass its schema and count as it."""
    assert read(invoice_xml(guideline=guideline), xsd=False).profile == profile


@pytest.mark.parametrize(
    "guideline",
    [
        "",
        "urn:factur-x.eu:1p0:premium",
        "urn:cen.eu:en16931:2017#compliant#urn:factur-x.eu:1p0:premium",
        "urn:cen.eu:en16931:2017#conformant#urn:example:wider",
        "urn:cen.eu:en16931:2017x",
        "basic",
        "urn:factur-x.eu:1p0:basic\u202e",
    ],
)
def test_a_level_that_the_standard_does_not_know_is_refused(guideline: str) -> None:
    """Which rules it follows cannot be told."""
    assert code_of(invoice_xml(guideline=guideline)) == "xml_level"


def test_every_level_has_its_schema() -> None:
    """The paths follow the package that ships them; a new release may move them."""
    for level in facturx.SCHEMAS:
        assert facturx._schema(level) is not None


def test_the_schema_is_checked_only_where_the_profile_asks_for_it() -> None:
    """`profile = "none"` takes what an old billing system writes; the message names line and element."""
    xml = invoice_xml().replace("<ram:ApplicableHeaderTradeDelivery/>", "")
    assert read(xml, xsd=False).stated.number == "F2026-0042"
    with pytest.raises(Refused, match=r"line [0-9]+.*ApplicableHeaderTrade") as caught:
        read(xml)
    assert caught.value.code == "xsd_invalid" and "urn:" not in caught.value.message


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ('<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"/>', "UBL"),
        ('<CreditNote xmlns="urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2"/>', "UBL"),
        ('<a:SCRDMCCBDACIOMessageStructure xmlns:a="urn:un:unece:uncefact:data:standard:order"/>', "order"),
        ("<CrossIndustryInvoice/>", "namespace"),
        ("<html/>", "<html>"),
    ],
)
def test_another_kind_of_xml_is_named_and_refused(xml: str, words: str) -> None:
    """Under the invoice's name it must be one."""
    with pytest.raises(Refused, match=words) as caught:
        read(xml)
    assert caught.value.code == "xml_flavour"


ZUGFERD1 = """<rsm:CrossIndustryDocument xmlns:rsm="urn:ferd:CrossIndustryDocument:invoice:1p0"
 xmlns:ram="urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:12"
 xmlns:udt="urn:un:unece:uncefact:data:standard:UnqualifiedDataType:15">
<rsm:SpecifiedExchangedDocumentContext><ram:GuidelineSpecifiedDocumentContextParameter>
<ram:ID>urn:ferd:CrossIndustryDocument:invoice:1p0:comfort</ram:ID>
</ram:GuidelineSpecifiedDocumentContextParameter></rsm:SpecifiedExchangedDocumentContext>
<rsm:HeaderExchangedDocument><ram:ID>RE-1/2</ram:ID><ram:TypeCode>380</ram:TypeCode>
<ram:IssueDateTime><udt:DateTimeString format="102">20170509</udt:DateTimeString></ram:IssueDateTime>
</rsm:HeaderExchangedDocument>
<rsm:SpecifiedSupplyChainTradeTransaction><ram:ApplicableSupplyChainTradeAgreement>
<ram:SellerTradeParty><ram:Name>Lieferant</ram:Name>
<ram:SpecifiedTaxRegistration><ram:ID schemeID="FC">22/815</ram:ID></ram:SpecifiedTaxRegistration>
<ram:SpecifiedTaxRegistration><ram:ID schemeID="VA">DE136695976</ram:ID></ram:SpecifiedTaxRegistration>
</ram:SellerTradeParty><ram:BuyerTradeParty><ram:Name>Kunde</ram:Name></ram:BuyerTradeParty>
<ram:ContractReferencedDocument><ram:ID>V-7</ram:ID></ram:ContractReferencedDocument>
</ram:ApplicableSupplyChainTradeAgreement><ram:ApplicableSupplyChainTradeSettlement>
<ram:InvoiceCurrencyCode>EUR</ram:InvoiceCurrencyCode><ram:SpecifiedTradeSettlementMonetarySummation>
<ram:GrandTotalAmount currencyID="EUR">571.04</ram:GrandTotalAmount>
</ram:SpecifiedTradeSettlementMonetarySummation></ram:ApplicableSupplyChainTradeSettlement>
</rsm:SpecifiedSupplyChainTradeTransaction></rsm:CrossIndustryDocument>"""


def test_zugferd_1_is_read() -> None:
    """Its elements have other names; files of 2014 to 2019."""
    invoice = read(ZUGFERD1, xsd=False)
    stated = invoice.stated
    assert invoice.profile == "zugferd1 comfort"
    assert (stated.number, stated.issue_date, stated.contract) == ("RE-1/2", dt.date(2017, 5, 9), "V-7")
    assert (stated.seller.known_by, stated.total) == ("DE136695976", Decimal("571.04"))


# Parties.


@pytest.mark.parametrize(
    ("seller", "siren", "warns"),
    [
        (legal("123456782"), "123456782", False),
        (legal("123 456 782"), "123456782", False),
        (legal("12345678200010"), "123456782", False),
        (legal("12345678200011"), "123456782", True),  # the SIRET's own check: La Poste's do not follow it
        (legal("12345678200010", "0009"), "123456782", False),
        (
            "<ram:SpecifiedLegalOrganization><ram:ID>HRA 12345</ram:ID></ram:SpecifiedLegalOrganization>",
            "123456782",
            False,
        ),
        ("", "123456782", False),  # from its French VAT number
        (legal("732829320"), "732829320", True),  # within a VAT group the number holds another SIREN
    ],
)
def test_a_french_party_is_known_by_its_siren(seller: str, siren: str, warns: bool) -> None:
    """Scheme 0002 with 14 digits is a SIRET; Luhn decides for a SIREN and only warns for a SIRET."""
    invoice = read(invoice_xml(seller=seller), xsd=False)
    assert invoice.stated.seller.siren == siren
    assert bool(invoice.warnings) == warns


@pytest.mark.parametrize(
    ("buyer", "code"),
    [
        (legal("534010765"), "siren_check"),
        (legal("53401076"), "siren_format"),
        (legal("53401076500012"), "siren_check"),
    ],
)
def test_a_siren_that_fails_its_check_is_refused_and_whose_it_is_said(buyer: str, code: str) -> None:
    """A digit that was mistyped is another company, or none."""
    with pytest.raises(Refused, match="the buyer: ") as caught:
        read(invoice_xml(buyer=buyer), xsd=False)
    assert caught.value.code == code


def test_a_global_identifier_of_the_sirene_register_counts_where_there_is_no_legal_one() -> None:
    """BT-46 with scheme 0009: older French files."""
    xml = invoice_xml(buyer="").replace(
        "<ram:Name>APURON", '<ram:GlobalID schemeID="0009">53401076400012</ram:GlobalID><ram:Name>APURON'
    )
    assert read(xml, xsd=False).stated.buyer.siren == "534010764"


# Dates and amounts.


@pytest.mark.parametrize(
    "issued", ["20270229", "20261301", "2026-09-01", "260901", "20260901x", "00000101", "٢٠٢٦٠٩٠١"]
)
def test_a_day_that_is_not_in_the_calendar_is_refused(issued: str) -> None:
    """29 February 2027; digits of another script."""
    assert code_of(invoice_xml(issued=issued)) == "date_format"


def test_a_day_in_another_format_is_refused() -> None:
    """203 has minutes; which day it is depends on the zone."""
    assert code_of(invoice_xml(issued="202609010000", issued_format="203")) == "date_format"


@pytest.mark.parametrize("total", ["NaN", "INF", "-INF", "1e3", "0x10", "1.23456", "1" * 15, "12,5", "--1", "."])
def test_what_is_no_amount_is_refused(total: str) -> None:
    """At most four decimals, as the column holds."""
    assert code_of(invoice_xml(total=total)) == "amount_format"


@pytest.mark.parametrize(
    ("total", "value"),
    [("120", "120"), ("-233.47", "-233.47"), ("+1.5", "1.5"), ("0.1234000", "0.1234"), ("-.5", "-0.5")],
)
def test_an_amount_stays_exact(total: str, value: str) -> None:
    """No binary float in between."""
    assert read(invoice_xml(total=total), xsd=False).stated.total == Decimal(value)


def test_of_several_totals_the_one_in_the_invoices_currency_counts() -> None:
    """A second one in the accounting currency is allowed in EXTENDED."""
    total = '<ram:GrandTotalAmount currencyID="{}">{}</ram:GrandTotalAmount>'
    two = total.format("USD", 1) + total.format("EUR", 2)
    xml = re.sub("<ram:GrandTotalAmount>.*?</ram:GrandTotalAmount>", two, invoice_xml())
    assert read(xml, xsd=False).stated.total == 2


def test_the_number_and_the_currency_have_their_form() -> None:
    """They become file names, columns, lines of a mail."""
    assert code_of(invoice_xml(number="F 1")) == "number_format"
    assert code_of(invoice_xml(number="F" * 36)) == "number_format"
    assert code_of(invoice_xml(currency="euros")) == "currency_format"


def test_a_year_that_nobody_means_is_still_a_day() -> None:
    """0026 is refused by its age (facts.check_dates), not by its form."""
    assert read(invoice_xml(issued="00260901"), xsd=False).stated.issue_date == dt.date(26, 9, 1)
