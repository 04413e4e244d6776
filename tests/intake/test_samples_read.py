"""Real documents, file by file: what reading says to each, and why (samples_expected.py)."""

import json
from pathlib import Path

import pytest

from gateway.domain import identifiers
from gateway.errors import Refused
from gateway.intake import read, sidecar
from tests.intake.makers import LIMITS, TODAY
from tests.intake.samples_expected import CONTRACTS, EXPECTED, SELLERS, Read, RefusedAs


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    read.prepare()


@pytest.fixture(scope="module")
def invoices(samples: Path) -> Path:
    return samples / "invoices"


def reading(path: Path) -> read.Reading:
    given = EXPECTED[path.name].sidecar
    beside = sidecar.parse(json.dumps(given).encode()) if given else None
    return read.read(path.read_bytes(), beside, LIMITS, TODAY)[0]


def test_every_file_of_the_folder_is_pinned(invoices: Path) -> None:
    """A file that is added says nothing until someone has looked at it."""
    assert {path.name for path in invoices.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", [name for name, verdict in EXPECTED.items() if isinstance(verdict, Read)])
def test_a_real_document_that_can_be_delivered_is_read(invoices: Path, name: str) -> None:
    """With the sidecar that its billing system would write."""
    expected = EXPECTED[name]
    assert isinstance(expected, Read)
    got = reading(invoices / name)
    facts = got.facts
    for key in ("number", "issue_date", "type_code", "seller", "buyer", "contract", "currency", "total"):
        assert getattr(facts, key) == getattr(expected, key), key
    assert (facts.profile, facts.pages, facts.corrects) == (expected.profile, expected.pages, expected.corrects)
    assert got.quarantine is None
    assert facts.layers_ran == (("pdf", "xsd") if facts.profile else ("pdf",))


@pytest.mark.parametrize("name", [name for name, verdict in EXPECTED.items() if isinstance(verdict, RefusedAs)])
def test_a_real_document_that_cannot_be_delivered_is_refused_with_its_reason(invoices: Path, name: str) -> None:
    """The reason is the file's own, not a missing contract: its sidecar gives that."""
    expected = EXPECTED[name]
    assert isinstance(expected, RefusedAs)
    with pytest.raises(Refused) as caught:
        reading(invoices / name)
    assert caught.value.code == expected.code
    assert expected.words in caught.value.message


def test_sirets_of_the_french_samples_fail_their_check_and_only_warn(invoices: Path) -> None:
    """99999999800010: its SIREN 999999998 holds."""
    warnings = reading(invoices / "Facture_FR_BASICWL.pdf").facts.warnings
    assert any("99999999800010" in warning and "its SIREN holds" in warning for warning in warnings)


def test_sellers_and_companies_of_the_table_are_identifiers() -> None:
    """They can be declared as they stand there."""
    for party in (*SELLERS, *CONTRACTS.values()):
        assert identifiers.party(party) == party
