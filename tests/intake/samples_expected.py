"""What reading says to each of the thirty real documents that TEST_SAMPLES names, found by reading their XML by eye.

They are other people's examples: German and Spanish parties are known by their VAT numbers, several files share one
number, some are broken on purpose. A sidecar stands where a file names no buyer or contract, or holds no XML at all.
"""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class Read:
    """A file that is read: its facts, and the sidecar that completes them."""

    number: str
    issue_date: dt.date
    type_code: str
    seller: str
    buyer: str
    contract: str
    total: Decimal
    profile: str
    pages: int = 1
    corrects: str = ""
    currency: str = "EUR"
    sidecar: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RefusedAs:
    """A file that is refused: the code, and words that must stand in the message."""

    code: str
    words: str
    sidecar: dict[str, str] = field(default_factory=dict)


FOURNISSEUR, BOUTIQUE = "999999998", "787878784"  # the SIREN of their SIRETs, whose own check digits fail
LIEFERANT, SPIEL, MUSTANG, EST, CLIENTE = "DE123456789", "DE136695976", "DE327606228", "DE999999999", "ESA12345674"
SELLERS = (FOURNISSEUR, LIEFERANT, SPIEL, MUSTANG)
# Contract → company, as they must be declared for all that can be read to be accepted.
CONTRACTS = {"MSPE2017": BOUTIQUE, "FROLIVE2017": CLIENTE, "KD-0001": EST}

_KD = {"contract": "KD-0001"}
_KD_AND_BUYER = {"contract": "KD-0001", "buyer_siren": EST}
_BARE = RefusedAs("bare_xml", "send the Factur-X PDF")

EXPECTED: dict[str, Read | RefusedAs] = {
    "Avoir_FR_type380_MINIMUM.pdf": RefusedAs(  # MINIMUM has no reference to an invoice
        "xsd_invalid", "InvoiceReferencedDocument", {"contract": "MSPE2017"}
    ),
    "Avoir_FR_type381_BASIC.pdf": Read(
        "AV-2017-0005", dt.date(2017, 11, 16), "381", FOURNISSEUR, BOUTIQUE, "MSPE2017", Decimal("233.47"),
        "factur-x basic", corrects="FA-2017-0010",
    ),
    "Avoir_FR_type381_EN16931.pdf": Read(
        "AV-2017-0005", dt.date(2017, 11, 16), "381", FOURNISSEUR, BOUTIQUE, "MSPE2017", Decimal("233.47"),
        "factur-x en16931", corrects="FA-2017-0010",
    ),
    "CII_business_example_01.xml": _BARE,
    "CII_example5.xml": _BARE,
    "EN16931_Einfach.cii.xml": _BARE,
    "EN16931_Einfach.pdf": Read(
        "471102", dt.date(2018, 3, 5), "380", LIEFERANT, EST, "KD-0001", Decimal("529.87"),
        "factur-x en16931", pages=2, sidecar=_KD_AND_BUYER,
    ),
    "EN16931_Einfach.ubl.xml": _BARE,
    "EN16931_Elektron.pdf": Read(  # 204, a payment valuation of a building site: an invoice of EN 16931
        "181301674", dt.date(2018, 4, 25), "204", SPIEL, EST, "KD-0001", Decimal(300),
        "factur-x en16931", pages=3, sidecar=_KD_AND_BUYER,
    ),
    "EN16931_Gutschrift.pdf": RefusedAs("type_code", "389 (self-billing)", _KD),
    "EN16931_Gutschrift.ubl.xml": _BARE,
    "Facture_FR_BASICWL.pdf": Read(
        "FA-2017-0010", dt.date(2017, 11, 13), "380", FOURNISSEUR, BOUTIQUE, "MSPE2017", Decimal("671.15"),
        "factur-x basicwl",
    ),
    "Facture_FR_MINIMUM.pdf": Read(  # the same invoice as the one before, with other bytes; MINIMUM has no contract
        "FA-2017-0010", dt.date(2017, 11, 13), "380", FOURNISSEUR, BOUTIQUE, "MSPE2017", Decimal("671.15"),
        "factur-x minimum", sidecar={"contract": "MSPE2017"},
    ),
    "Facture_UE_EN16931.pdf": Read(
        "FA-2017-0008", dt.date(2017, 11, 3), "380", FOURNISSEUR, CLIENTE, "FROLIVE2017", Decimal("2076.76"),
        "factur-x en16931",
    ),
    "MustangBeispiel20221026.pdf": Read(
        "RE1001", dt.date(2022, 10, 26), "380", MUSTANG, EST, "KD-0001", Decimal("963.11"),
        "factur-x en16931", sidecar=_KD_AND_BUYER,
    ),
    "MustangGnuaccountingBeispielRE-20170509_505.pdf": Read(
        "RE-20170509/505", dt.date(2017, 5, 9), "380", SPIEL, EST, "KD-0001", Decimal("571.04"),
        "zugferd1 extended", sidecar=_KD,
    ),
    "MustangGnuaccountingBeispielRE-20190610_507a.pdf": RefusedAs("xsd_invalid", "BuyerReference", _KD),
    "MustangGnuaccountingBeispielRE-20201121_508_withBOM.pdf": Read(
        "RE-20201121/508", dt.date(2020, 11, 21), "380", SPIEL, EST, "KD-0001", Decimal("571.04"),
        "factur-x en16931", sidecar=_KD_AND_BUYER,
    ),
    "MustangGnuaccountingBeispielRE-20201121_508blankoA3.pdf": Read(  # no XML inside: all is the sidecar's
        "BLANKO-508", dt.date(2020, 11, 21), "380", SPIEL, EST, "KD-0001", Decimal("571.04"), "",
        sidecar={
            "kind": "invoice", "number": "BLANKO-508", "issue_date": "2020-11-21", "seller_siren": SPIEL,
            "currency": "EUR", "total": "571.04", **_KD_AND_BUYER,
        },
    ),
    "factur-x-en16931.xml": _BARE,
    "factur-x-invalid-xml-encoding-attribute.pdf": RefusedAs("xml_encoding", "UTF-8-W/O-BOM", _KD_AND_BUYER),
    "factur-x-minimum.xml": _BARE,
    "invalidArithmetics.xml": _BARE,
    "invalidPDF.pdf": Read(  # it fails PDF/A, which nobody is refused for
        "RE-20190610/507", dt.date(2019, 6, 10), "380", SPIEL, EST, "KD-0001", Decimal("571.04"),
        "factur-x en16931", pages=5, sidecar=_KD,
    ),
    "invalidXMP.pdf": RefusedAs("two_xml", "'ZUGFeRD-invoice.xml', 'factur-x.xml'", _KD),
    "invoice_EN16931.pdf": RefusedAs("siren_check", "the buyer: SIREN 987654321"),  # Luhn decides for a SIREN
    "noNetPriceValidation.xml": _BARE,
    "ubl-21-en16931.xml": _BARE,
    "ubl-tc434-creditnote1.xml": _BARE,
    "ubl-tc434-example1.xml": _BARE,
}  # fmt: skip
