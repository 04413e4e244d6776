"""A test document: whole for a program, and marked so that nobody takes it for an invoice."""

import dataclasses
import datetime as dt
import io

import pypdf

from gateway import invoices
from gateway.intake import facturx
from gateway.sealing import trial

BUYER, CONTRACT = invoices.CONTRACTS[0]
DAY = dt.date(2026, 11, 24)
FACTS = invoices.InvoiceFacts(
    "TEST-20261124-201530123-01", DAY, dt.date(2026, 10, 1), dt.date(2026, 10, 31), BUYER, CONTRACT, 1000,
    seller=invoices.TESTER, note=trial.NOTE,
)  # fmt: skip


def test_every_page_says_test_in_a_word_across_it_and_in_a_line_below() -> None:
    """One page of a print-out must be enough."""
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(trial.make(FACTS))).pages]
    assert len(pages) == 3
    for text in pages:
        assert f"\n{trial.WORD} " in text or f"\n{trial.WORD}\n" in text
        assert trial.NOTE in " ".join(text.split())


def test_the_xml_inside_is_the_xml_beside_it_and_says_test_in_number_and_note() -> None:
    """A program that reads the one must find the same in the other; a person who reads the XML must see it too."""
    (inside,) = pypdf.PdfReader(io.BytesIO(trial.make(FACTS))).attachments["factur-x.xml"]
    assert inside == invoices.xml(FACTS)
    found = facturx.read(facturx.parse(inside), xsd=True)
    assert found.stated.number == FACTS.number
    assert trial.NOTE.encode() in inside and trial.NOTE.startswith("TEST")


def test_nobody_sealed_it_and_no_invoice_is_like_it() -> None:
    """Never an original: no signature, a seller that is no issuer, other bytes than without the mark."""
    made = trial.make(FACTS)
    assert b"/ByteRange" not in made and b"/Sig" not in made
    assert made != invoices.make(FACTS)
    assert invoices.TESTER.siren not in {one.siren for one in (invoices.DISTRIBUTOR, invoices.FOUNDRY, invoices.SOLAR)}


def test_the_same_facts_give_the_same_bytes_and_others_give_others() -> None:
    assert trial.make(FACTS) == trial.make(FACTS)
    assert trial.make(FACTS) != trial.make(dataclasses.replace(FACTS, kwh=1001))
