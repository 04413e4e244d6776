"""The invoice as data: UN/CEFACT Cross Industry Invoice, Factur-X profile EN 16931.

Made to pass the profile's XSD and its rules (EN 16931, and the French BR-FR rules: notes PMD, PMT and AAB, process
S1, electronic addresses of scheme 0225).
"""

import datetime as dt
from collections.abc import Callable
from functools import partial

from lxml import etree

from .facts import Company, InvoiceFacts, Line, Totals, VatBreakdown

_STANDARD = "urn:un:unece:uncefact:data:standard:"
_NAMESPACES = {
    "rsm": f"{_STANDARD}CrossIndustryInvoice:100",
    "ram": f"{_STANDARD}ReusableAggregateBusinessInformationEntity:100",
    "udt": f"{_STANDARD}UnqualifiedDataType:100",
    "qdt": f"{_STANDARD}QualifiedDataType:100",
}


class Vocabulary:
    """Makes elements of one namespace, children in order: `RAM.ID("000000018", schemeID="0002")`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __getattr__(self, name: str) -> Callable[..., etree._Element]:
        return partial(_element, f"{{{self._uri}}}{name}")


def _element(tag: str, *content: etree._Element | str, **attributes: str) -> etree._Element:
    element = etree.Element(tag, attributes, nsmap=_NAMESPACES)
    for part in content:
        if isinstance(part, str):
            element.text = part
        else:
            element.append(part)
    return element


RSM, RAM, UDT, QDT = map(Vocabulary, _NAMESPACES.values())

IBAN = "FR7699999000010000000000115"  # no such bank
NOTES = {
    "PMD": "Tout retard de paiement entraîne des pénalités égales à trois fois le taux d’intérêt légal.",
    "PMT": "Indemnité forfaitaire pour frais de recouvrement en cas de retard de paiement : 40 €.",
    "AAB": "Aucun escompte n’est accordé en cas de paiement anticipé.",
}  # UNTDID 4451: late payment, recovery costs, early payment (BR-FR-05)


def invoice(facts: InvoiceFacts, lines: tuple[Line, ...], totals: Totals) -> bytes:
    """factur-x.xml, UTF-8."""
    root = RSM.CrossIndustryInvoice(
        RSM.ExchangedDocumentContext(
            RAM.BusinessProcessSpecifiedDocumentContextParameter(RAM.ID("S1")),
            RAM.GuidelineSpecifiedDocumentContextParameter(RAM.ID("urn:cen.eu:en16931:2017")),
        ),
        RSM.ExchangedDocument(
            RAM.ID(facts.number),
            RAM.TypeCode(facts.type_code),
            RAM.IssueDateTime(_date(facts.issue_date)),
            *([RAM.IncludedNote(RAM.Content(facts.note))] if facts.note else []),
            *(RAM.IncludedNote(RAM.Content(text), RAM.SubjectCode(code)) for code, text in NOTES.items()),
        ),
        RSM.SupplyChainTradeTransaction(
            *(_line(place, line) for place, line in enumerate(lines, start=1)),
            _agreement(facts),
            RAM.ApplicableHeaderTradeDelivery(
                RAM.ActualDeliverySupplyChainEvent(RAM.OccurrenceDateTime(_date(facts.period_end)))
            ),
            _settlement(facts, totals),
        ),
    )
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _date(day: dt.date, maker: Vocabulary = UDT) -> etree._Element:
    return maker.DateTimeString(f"{day:%Y%m%d}", format="102")


def _line(place: int, line: Line) -> etree._Element:
    return RAM.IncludedSupplyChainTradeLineItem(
        RAM.AssociatedDocumentLineDocument(RAM.LineID(str(place))),
        RAM.SpecifiedTradeProduct(RAM.SellerAssignedID(line.code), RAM.Name(line.name), RAM.Description(line.group)),
        RAM.SpecifiedLineTradeAgreement(RAM.NetPriceProductTradePrice(RAM.ChargeAmount(str(line.price)))),
        RAM.SpecifiedLineTradeDelivery(RAM.BilledQuantity(str(line.quantity), unitCode=line.unit)),
        RAM.SpecifiedLineTradeSettlement(
            RAM.ApplicableTradeTax(
                RAM.TypeCode("VAT"), RAM.CategoryCode("S"), RAM.RateApplicablePercent(str(line.vat_rate))
            ),
            RAM.SpecifiedTradeSettlementLineMonetarySummation(RAM.LineTotalAmount(str(line.net))),
        ),
    )


def _party(company: Company) -> list[etree._Element]:
    return [
        RAM.GlobalID(company.siret, schemeID="0009"),
        RAM.Name(company.name),
        RAM.SpecifiedLegalOrganization(RAM.ID(company.siren, schemeID="0002")),
        RAM.PostalTradeAddress(
            RAM.PostcodeCode(company.postcode),
            RAM.LineOne(company.street),
            RAM.CityName(company.city),
            RAM.CountryID("FR"),
        ),
        RAM.URIUniversalCommunication(RAM.URIID(company.siren, schemeID="0225")),
        RAM.SpecifiedTaxRegistration(RAM.ID(company.vat_number, schemeID="VA")),
    ]


def _agreement(facts: InvoiceFacts) -> etree._Element:
    return RAM.ApplicableHeaderTradeAgreement(
        RAM.SellerTradeParty(*_party(facts.seller)),
        RAM.BuyerTradeParty(*_party(facts.buyer)),
        RAM.ContractReferencedDocument(RAM.IssuerAssignedID(facts.contract.number)),
        RAM.AdditionalReferencedDocument(  # BT-18, the object invoiced: the delivery point
            RAM.IssuerAssignedID(facts.contract.prm), RAM.TypeCode("130"), RAM.ReferenceTypeCode("AVE")
        ),
    )


def _settlement(facts: InvoiceFacts, totals: Totals) -> etree._Element:
    return RAM.ApplicableHeaderTradeSettlement(
        RAM.PaymentReference(facts.number),
        RAM.InvoiceCurrencyCode("EUR"),
        RAM.SpecifiedTradeSettlementPaymentMeans(
            RAM.TypeCode("58"), RAM.PayeePartyCreditorFinancialAccount(RAM.IBANID(IBAN))
        ),
        *(_vat(share) for share in totals.vat),
        RAM.BillingSpecifiedPeriod(
            RAM.StartDateTime(_date(facts.period_start)), RAM.EndDateTime(_date(facts.period_end))
        ),
        RAM.SpecifiedTradePaymentTerms(RAM.DueDateDateTime(_date(facts.due_date))),
        _summation(totals),
        *_preceding(facts),
    )


def _vat(share: VatBreakdown) -> etree._Element:
    return RAM.ApplicableTradeTax(
        RAM.CalculatedAmount(str(share.tax)),
        RAM.TypeCode("VAT"),
        RAM.BasisAmount(str(share.basis)),
        RAM.CategoryCode("S"),
        RAM.RateApplicablePercent(str(share.rate)),
    )


def _summation(totals: Totals) -> etree._Element:
    return RAM.SpecifiedTradeSettlementHeaderMonetarySummation(
        RAM.LineTotalAmount(str(totals.net)),
        RAM.TaxBasisTotalAmount(str(totals.net)),
        RAM.TaxTotalAmount(str(totals.tax), currencyID="EUR"),
        RAM.GrandTotalAmount(str(totals.gross)),
        RAM.TotalPrepaidAmount("0.00"),
        RAM.DuePayableAmount(str(totals.gross)),
    )


def _preceding(facts: InvoiceFacts) -> list[etree._Element]:
    if facts.corrects is None:
        return []
    return [
        RAM.InvoiceReferencedDocument(
            RAM.IssuerAssignedID(facts.corrects.number),
            RAM.FormattedIssueDateTime(_date(facts.corrects.issue_date, QDT)),
        )
    ]
