"""Documents for the tests of the intake: a good invoice, and every way to spoil one."""

import dataclasses
import datetime as dt
import hashlib
import io
import zlib
from collections.abc import Iterable

import pikepdf

from gateway.config import IntakeSettings
from gateway.intake.read import ReadLimits

TODAY = dt.date(2026, 9, 15)
LIMITS = ReadLimits.of(IntakeSettings())
SELLER = "123456782"
BUYER = "534010764"


def limits(**changes: object) -> ReadLimits:
    """The defaults with these changes."""
    return dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]


def sha256(content: bytes) -> str:
    """Its digest, in hex."""
    return hashlib.sha256(content).hexdigest()


_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>{level}</fx:ConformanceLevel>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def invoice_xml(
    number: str = "F2026-0042",
    *,
    guideline: str = "urn:factur-x.eu:1p0:basicwl",
    type_code: str = "380",
    issued: str = "20260901",
    issued_format: str = "102",
    seller: str = f'<ram:SpecifiedLegalOrganization><ram:ID schemeID="0002">{SELLER}</ram:ID>'
    "</ram:SpecifiedLegalOrganization>",
    buyer: str = f'<ram:SpecifiedLegalOrganization><ram:ID schemeID="0002">{BUYER}</ram:ID>'
    "</ram:SpecifiedLegalOrganization>",
    contract: str = "CARD-S-000123",
    currency: str = "EUR",
    total: str = "120.00",
    period: tuple[str, str] | None = ("20260801", "20260831"),
    preceding: Iterable[str] = (),
    prolog: str = '<?xml version="1.0" encoding="UTF-8"?>',
    tail: str = "",
) -> str:
    """An invoice of level BASIC WL (CII D22B) that passes its schema, unless an argument spoils it."""
    ordered = contract and (
        f"<ram:ContractReferencedDocument><ram:IssuerAssignedID>{contract}</ram:IssuerAssignedID>"
        "</ram:ContractReferencedDocument>"
    )
    billed = period and (
        f"<ram:BillingSpecifiedPeriod>"
        f'<ram:StartDateTime><udt:DateTimeString format="102">{period[0]}</udt:DateTimeString></ram:StartDateTime>'
        f'<ram:EndDateTime><udt:DateTimeString format="102">{period[1]}</udt:DateTimeString></ram:EndDateTime>'
        f"</ram:BillingSpecifiedPeriod>"
    )
    before = "".join(
        f"<ram:InvoiceReferencedDocument><ram:IssuerAssignedID>{one}</ram:IssuerAssignedID>"
        "</ram:InvoiceReferencedDocument>"
        for one in preceding
    )
    return f"""{prolog}
<rsm:CrossIndustryInvoice xmlns:rsm="urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
  xmlns:ram="urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"
  xmlns:udt="urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100">
<rsm:ExchangedDocumentContext><ram:GuidelineSpecifiedDocumentContextParameter><ram:ID>{guideline}</ram:ID>
</ram:GuidelineSpecifiedDocumentContextParameter></rsm:ExchangedDocumentContext>
<rsm:ExchangedDocument><ram:ID>{number}</ram:ID><ram:TypeCode>{type_code}</ram:TypeCode>
<ram:IssueDateTime><udt:DateTimeString format="{issued_format}">{issued}</udt:DateTimeString></ram:IssueDateTime>
</rsm:ExchangedDocument>
<rsm:SupplyChainTradeTransaction><ram:ApplicableHeaderTradeAgreement>
<ram:SellerTradeParty><ram:Name>Réseau Électrique</ram:Name>{seller}
<ram:PostalTradeAddress><ram:CountryID>FR</ram:CountryID></ram:PostalTradeAddress>
<ram:SpecifiedTaxRegistration><ram:ID schemeID="VA">FR03{SELLER}</ram:ID></ram:SpecifiedTaxRegistration>
</ram:SellerTradeParty>
<ram:BuyerTradeParty><ram:Name>APURON PV 2</ram:Name>{buyer}
<ram:PostalTradeAddress><ram:CountryID>FR</ram:CountryID></ram:PostalTradeAddress></ram:BuyerTradeParty>
{ordered or ""}</ram:ApplicableHeaderTradeAgreement>
<ram:ApplicableHeaderTradeDelivery/>
<ram:ApplicableHeaderTradeSettlement><ram:InvoiceCurrencyCode>{currency}</ram:InvoiceCurrencyCode>
<ram:ApplicableTradeTax><ram:CalculatedAmount>20.00</ram:CalculatedAmount><ram:TypeCode>VAT</ram:TypeCode>
<ram:BasisAmount>100.00</ram:BasisAmount><ram:CategoryCode>S</ram:CategoryCode>
<ram:RateApplicablePercent>20.00</ram:RateApplicablePercent></ram:ApplicableTradeTax>
{billed or ""}
<ram:SpecifiedTradePaymentTerms><ram:Description>30 jours</ram:Description></ram:SpecifiedTradePaymentTerms>
<ram:SpecifiedTradeSettlementHeaderMonetarySummation><ram:LineTotalAmount>100.00</ram:LineTotalAmount>
<ram:TaxBasisTotalAmount>100.00</ram:TaxBasisTotalAmount>
<ram:TaxTotalAmount currencyID="EUR">20.00</ram:TaxTotalAmount>
<ram:GrandTotalAmount>{total}</ram:GrandTotalAmount><ram:DuePayableAmount>{total}</ram:DuePayableAmount>
</ram:SpecifiedTradeSettlementHeaderMonetarySummation>{before}
</ram:ApplicableHeaderTradeSettlement></rsm:SupplyChainTradeTransaction></rsm:CrossIndustryInvoice>{tail}"""


def legal(identifier: str, scheme: str = "0002") -> str:
    """A party's legal registration, for `seller` and `buyer` of invoice_xml."""
    return (
        f'<ram:SpecifiedLegalOrganization><ram:ID schemeID="{scheme}">{identifier}</ram:ID>'
        "</ram:SpecifiedLegalOrganization>"
    )


def factur_x(xml: str | bytes | None = None, *, level: str = "BASIC WL", **facts: str) -> bytes:
    """A Factur-X PDF around `xml`, or around an invoice with these facts."""
    content = invoice_xml(**facts) if xml is None else xml  # type: ignore[arg-type]
    raw = content.encode() if isinstance(content, str) else content
    return pdf(attached={"factur-x.xml": raw}, xmp=_XMP.format(level=level))


def pdf(
    attached: dict[str, bytes] | None = None, *, pages: int = 1, xmp: str | bytes | None = None, **root: pikepdf.Object
) -> bytes:
    """A PDF with blank pages, these files inside (associated, in the name tree), this XMP, these keys in its root."""
    made = pikepdf.new()
    for _ in range(pages):
        made.add_blank_page()
    for name, content in (attached or {}).items():
        made.attachments[name] = pikepdf.AttachedFileSpec(made, content, filename=name, mime_type=_media_type(name))
    specifications = [made.attachments[name].obj for name in attached or {}]
    if specifications:
        made.Root.AF = pikepdf.Array(specifications)
    if xmp is not None:
        packet = xmp.encode() if isinstance(xmp, str) else xmp
        made.Root.Metadata = pikepdf.Stream(made, packet, Type=pikepdf.Name.Metadata, Subtype=pikepdf.Name.XML)
    for key, value in root.items():
        made.Root[f"/{key}"] = value
    return saved(made)


def saved(made: pikepdf.Pdf, **options: object) -> bytes:
    """Its bytes, without object streams unless asked for."""
    out = io.BytesIO()
    plain = {"object_stream_mode": pikepdf.ObjectStreamMode.disable, "fix_metadata_version": False}
    made.save(out, **{**plain, **options})
    return out.getvalue()


def opened(document: bytes) -> pikepdf.Pdf:
    """To change it."""
    return pikepdf.open(io.BytesIO(document))


def raw_pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, 1 the catalog, with a true cross-reference table: what no library would write."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    return out.getvalue()


CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << >> >>"


def stream(content: bytes, keys: bytes = b"") -> bytes:
    """A stream object, its content as given."""
    return b"<< %b /Length %d >>\nstream\n%b\nendstream" % (keys, len(content), content)


def with_xml_stream(packed: bytes, keys: bytes) -> bytes:
    """A PDF whose factur-x.xml is this stream, packed as `keys` say."""
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R /AF [4 0 R] >>",
        PAGES,
        PAGE,
        b"<< /Type /Filespec /F (factur-x.xml) /UF (factur-x.xml) /EF << /F 5 0 R >> >>",
        stream(packed, b"/Type /EmbeddedFile /Subtype /text#2fxml " + keys),
    )


def deflate_bomb(megabytes: int, start: bytes = b"") -> bytes:
    """A zlib stream of `start` and then so many MB of blanks, in some KB: one flushed block again and again."""
    packer = zlib.compressobj(9)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * megabytes + packer.flush()


def with_object_stream(packed: bytes) -> bytes:
    """A PDF whose object 5 lies in an object stream (object 4) of these deflated bytes."""
    out = io.BytesIO()
    out.write(b"%PDF-1.5\n")
    offsets = []
    keys = b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode"
    catalog = b"<< /Type /Catalog /Pages 2 0 R /OpenAction 5 0 R >>"
    for number, content in enumerate((catalog, PAGES, PAGE, stream(packed, keys)), 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, content))
    start = out.tell()
    rows = b"\0\0\0\0\0\xff" + b"".join(b"\1" + offset.to_bytes(4, "big") + b"\0" for offset in offsets)
    rows += b"\2\0\0\0\4\0" + b"\1" + start.to_bytes(4, "big") + b"\0"
    table = stream(rows, b"/Type /XRef /Size 7 /W [1 4 1] /Root 1 0 R")
    out.write(b"6 0 obj\n%b\nendobj\nstartxref\n%d\n%%%%EOF\n" % (table, start))
    return out.getvalue()


def _media_type(name: str) -> str:
    return "text/xml" if name.lower().endswith(".xml") else "application/octet-stream"
