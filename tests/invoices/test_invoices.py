"""The demo's invoices are real Factur-X: what people read, what machines read and what the file claims agree."""

import dataclasses
import datetime as dt
import hashlib
import pickle
import subprocess
import sys
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import facturx
import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pypdf import PdfReader
from stdnum import iban
from stdnum.fr import siret, tva

from gateway import invoices
from gateway.errors import Refused
from gateway.invoices.cii import IBAN, NOTES
from gateway.invoices.facts import energy, history
from tests.peers import program, requires

DAY = dt.date(2026, 11, 3)
ORIGINAL = invoices.Preceding("2026-10-000042", dt.date(2026, 10, 2))
NAMESPACES = {
    prefix: f"urn:un:unece:uncefact:data:standard:{name}:100"
    for prefix, name in (
        ("ram", "ReusableAggregateBusinessInformationEntity"),
        ("rsm", "CrossIndustryInvoice"),
        ("udt", "UnqualifiedDataType"),
    )
}


def _facts(place: int = 0, **changes: Any) -> invoices.InvoiceFacts:
    facts = next(invoices.series(1, DAY, contracts=invoices.CONTRACTS[place:]))[0]
    return dataclasses.replace(facts, **changes)


CASES = {
    "draw-off": _facts(0),
    "injection": _facts(1),
    "draw-off in winter": _facts(2, period_start=dt.date(2026, 1, 1), period_end=dt.date(2026, 1, 31)),
    "credit note": _facts(0, type_code="381", corrects=ORIGINAL),
    "corrected invoice": _facts(1, type_code="384", corrects=ORIGINAL),
}


@pytest.fixture(params=CASES, scope="module")
def facts(request: pytest.FixtureRequest) -> invoices.InvoiceFacts:
    return CASES[request.param]


@pytest.fixture(scope="module")
def pdf(facts: invoices.InvoiceFacts) -> bytes:
    return invoices.make(facts)


@pytest.fixture(scope="module")
def xml(pdf: bytes) -> etree._Element:
    name, content = facturx.get_xml_from_pdf(pdf, check_xsd=False)
    assert name == "factur-x.xml"
    root = etree.fromstring(content)
    assert isinstance(root, etree._Element)
    return root


def _texts(xml: etree._Element, path: str) -> list[str]:
    found = xml.xpath(path, namespaces=NAMESPACES)
    assert isinstance(found, list)
    return [str(element.text) for element in found]  # type: ignore[union-attr]


def _amounts(xml: etree._Element, path: str) -> list[Decimal]:
    return [Decimal(text) for text in _texts(xml, path)]


def test_the_xml_passes_the_schema_of_its_profile(xml: etree._Element) -> None:
    """Intake refuses what fails the XSD: the demo must not."""
    assert facturx.get_level(xml, "factur-x") == "en16931"
    assert facturx.xml_check_xsd(xml, "factur-x", "en16931")


def test_the_xml_says_what_the_facts_say(xml: etree._Element, facts: invoices.InvoiceFacts) -> None:
    """Intake reads these terms; each stands where EN 16931 has it."""
    parties = "//ram:{}TradeParty/ram:SpecifiedLegalOrganization/ram:ID[@schemeID='0002']"
    period = "//ram:ApplicableHeaderTradeSettlement/ram:BillingSpecifiedPeriod/ram:{}DateTime/udt:DateTimeString"
    expected = {
        "//rsm:ExchangedDocument/ram:ID": facts.number,
        "//rsm:ExchangedDocument/ram:TypeCode": facts.type_code,
        "//ram:IssueDateTime/udt:DateTimeString": f"{facts.issue_date:%Y%m%d}",
        parties.format("Seller"): facts.seller.siren,
        parties.format("Buyer"): facts.buyer.siren,
        "//ram:ContractReferencedDocument/ram:IssuerAssignedID": facts.contract.number,
        period.format("Start"): f"{facts.period_start:%Y%m%d}",
        period.format("End"): f"{facts.period_end:%Y%m%d}",
    }
    assert {path: _texts(xml, path) for path in expected} == {path: [text] for path, text in expected.items()}


def test_a_correction_names_its_invoice_and_an_invoice_names_none(
    xml: etree._Element, facts: invoices.InvoiceFacts
) -> None:
    """BT-25 links a credit note to what it corrects."""
    named = _texts(xml, "//ram:InvoiceReferencedDocument/ram:IssuerAssignedID")
    assert named == ([ORIGINAL.number] if facts.corrects else [])


def test_the_amounts_agree_to_the_cent(xml: etree._Element) -> None:
    """BR-CO-10 to BR-CO-17: lines, bases and tax add up to what is to be paid."""
    summation = "//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:"
    (net,) = _amounts(xml, summation + "TaxBasisTotalAmount")
    (tax,) = _amounts(xml, summation + "TaxTotalAmount")
    (gross,) = _amounts(xml, summation + "GrandTotalAmount")
    vat = "//ram:ApplicableHeaderTradeSettlement/ram:ApplicableTradeTax/ram:"
    assert sum(_amounts(xml, "//ram:LineTotalAmount")) == 2 * net  # of the lines, and their sum in the summation
    assert sum(_amounts(xml, vat + "BasisAmount")) == net
    assert sum(_amounts(xml, vat + "CalculatedAmount")) == tax
    assert gross == net + tax == _amounts(xml, summation + "DuePayableAmount")[0]


def test_the_notes_that_french_rules_ask_for_are_there(xml: etree._Element) -> None:
    """BR-FR-05: late payment, recovery costs, early payment."""
    assert _texts(xml, "//ram:IncludedNote/ram:SubjectCode") == list(NOTES)


@given(kwh=st.integers(0, 5_000_000), power=st.integers(1, 20_000), place=st.integers(0, 2), month=st.integers(1, 12))
def test_totals_hold_for_any_energy(kwh: int, power: int, place: int, month: int) -> None:
    """Rounding happens a line and a rate, never a sum; the time classes share out all the energy."""
    contract = dataclasses.replace(invoices.CONTRACTS[place][1], power_kw=power)
    start = dt.date(2026, month, 1)
    facts = _facts(place, kwh=kwh, contract=contract, period_start=start)
    lines = invoices.lines(facts)
    totals = invoices.totals(lines)
    assert sum(part for _, part, _ in energy(facts)) == kwh
    assert totals.net == sum(line.net for line in lines)
    assert all(abs(share.tax - share.basis * share.rate / 100) <= Decimal("0.005") for share in totals.vat)
    assert all(-int(amount.as_tuple().exponent) <= 2 for amount in (totals.net, totals.tax, totals.gross))


def test_what_people_read_is_what_machines_read(pdf: bytes, facts: invoices.InvoiceFacts) -> None:
    """The amount to pay, the number and the parties stand on page 1, searchable."""
    text = PdfReader(BytesIO(pdf)).pages[0].extract_text().replace("\xa0", " ")
    gross = invoices.totals(invoices.lines(facts)).gross
    shown = f"{gross:,.2f}".replace(",", " ").replace(".", ",") + " €"
    for expected in (shown, facts.number, facts.seller.name, facts.buyer.name, facts.contract.number):
        assert expected in text


def test_the_same_facts_give_the_same_bytes_in_another_process() -> None:
    """Intake knows a document again by its bytes; a clock, a random id or an order of hashing would change them."""
    code = (
        "import hashlib, pickle, sys; from gateway import invoices\n"
        "for facts in pickle.load(sys.stdin.buffer): print(hashlib.sha256(invoices.make(facts)).hexdigest())"
    )
    every = list(CASES.values())
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(every), capture_output=True, check=True)
    assert done.stdout.decode().split() == [hashlib.sha256(invoices.make(facts)).hexdigest() for facts in every]


def test_the_file_is_sound_and_of_a_usual_size(pdf: bytes) -> None:
    """Three pages of 40 to 90 KB, as an issuer's invoices are; no repair needed to read them."""
    with pikepdf.open(BytesIO(pdf)) as opened:
        assert opened.check_pdf_syntax() == []
        assert len(opened.pages) == 3
    assert 40_000 < len(pdf) < 90_000


def test_every_font_is_embedded_and_maps_to_text(pdf: bytes) -> None:
    """ISO 19005-3, 6.2.11.4: an archive must not depend on the reader's fonts."""
    with pikepdf.open(BytesIO(pdf)) as opened:
        for page in opened.pages:
            fonts = [font for _, font in page.obj.Resources.Font.items()]
            assert len(fonts) == 2
            assert all("/FontFile2" in font.FontDescriptor and "/ToUnicode" in font for font in fonts)


def test_the_file_makes_the_claims_of_pdf_a_3_and_keeps_those_we_can_check(pdf: bytes) -> None:
    """ISO 19005-3 and Factur-X 1.0: claim in XMP, colour profile, associated file, Info and XMP in step."""
    with pikepdf.open(BytesIO(pdf)) as opened:
        root = opened.Root
        metadata = bytes(root.Metadata.read_raw_bytes()).decode("utf-8")
        assert 'pdfaid:part="3" pdfaid:conformance="B"' in metadata
        assert 'fx:ConformanceLevel="EN 16931"' in metadata
        assert etree.fromstring(metadata.encode("utf-8").strip()) is not None
        assert str(opened.docinfo.Title) in metadata
        assert bytes(root.OutputIntents[0].DestOutputProfile.read_bytes())[36:40] == b"acsp"
        assert root.AF[0].objgen == root.Names.EmbeddedFiles.Names[1].objgen
        assert root.AF[0].AFRelationship == pikepdf.Name.Alternative
        file = root.AF[0].EF.F
        assert bytes(file.Params.CheckSum) == hashlib.md5(file.read_bytes()).digest()


def test_a_series_is_as_many_different_invoices_as_asked() -> None:
    """Numbers run on from the first; contracts take turns; nothing repeats."""
    made = list(invoices.series(6, DAY, first=123))
    assert [facts.number for facts, _ in made] == [f"2026-11-{number:06d}" for number in range(123, 129)]
    assert [facts.contract for facts, _ in made] == 2 * [contract for _, contract in invoices.CONTRACTS]
    assert len({hashlib.sha256(pdf).digest() for _, pdf in made}) == 6
    assert {(facts.period_start, facts.period_end) for facts, _ in made} == {
        (dt.date(2026, 10, 1), dt.date(2026, 10, 31))
    }


def test_the_history_ends_with_the_invoiced_month() -> None:
    """The bars on page 2 and the amount on page 1 speak of the same energy."""
    facts = _facts(0, period_start=dt.date(2026, 2, 1))
    months = history(facts)
    assert months[-1] == (dt.date(2026, 2, 1), facts.kwh)
    assert [month for month, _ in months[:2]] == [dt.date(2025, 2, 1), dt.date(2025, 3, 1)]
    assert len(months) == 13


@pytest.mark.parametrize("company", [invoices.DISTRIBUTOR, invoices.FOUNDRY, invoices.SOLAR])
def test_invented_companies_have_identifiers_that_check(company: invoices.Company) -> None:
    """Intake checks them by the same rules as real ones."""
    assert siret.is_valid(company.siret)
    assert tva.is_valid(company.vat_number)


def test_the_account_number_checks() -> None:
    """A reader that validates IBANs finds nothing to complain about."""
    assert iban.is_valid(IBAN, check_country=False)


@pytest.mark.parametrize(("type_code", "corrects"), [("380", ORIGINAL), ("381", None), ("384", None)])
def test_a_correction_without_its_invoice_cannot_be_made(type_code: str, corrects: Any) -> None:
    """A credit note that names nothing is a mistake of the caller's."""
    with pytest.raises(ValueError, match=type_code):
        _facts(0, type_code=type_code, corrects=corrects)


def test_a_number_that_french_rules_forbid_cannot_be_made() -> None:
    """BR-FR-02."""
    with pytest.raises(Refused):
        _facts(0, number="2026.11 1")


def test_whoever_tries_the_gateway_gets_invoices_and_what_to_register(tmp_path: Path) -> None:
    """The names are the numbers; what is there stays, so that the same call again changes nothing."""
    command = [sys.executable, "-m", "gateway.invoices", str(tmp_path / "samples"), "--count", "2"]
    for content in (b"%PDF", b"mine"):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        first, second = map(Path, told[:2])
        assert (first.name[-10:], second.name[-10:]) == ("000001.pdf", "000002.pdf")
        assert first.read_bytes().startswith(content)
        first.write_bytes(b"mine")
    assert told[2] == f"seller {invoices.DISTRIBUTOR.siren}, buyer {invoices.FOUNDRY.siren}, contract CARD-S-000101"


@requires("qpdf", "pdftotext")
def test_other_readers_agree(pdf: bytes, facts: invoices.InvoiceFacts, tmp_path: Path) -> None:
    """qpdf finds nothing to repair; poppler reads French, signs of currency included."""
    path = tmp_path / "invoice.pdf"
    path.write_bytes(pdf)
    checked = subprocess.run([program("qpdf"), "--check", path], capture_output=True, text=True, check=True)
    assert "No syntax or stream encoding errors found" in checked.stdout
    read = subprocess.run([program("pdftotext"), path, "-"], capture_output=True, text=True, check=True)
    assert all(word in read.stdout for word in ("Période facturée", "€", facts.number, "Énergie", "d’acheminement"))
