"""The thirty real documents that TEST_SAMPLES names, one by one through the whole intake, then sealed and validated."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import clock
from gateway.domain.states import DocumentState, Nature
from gateway.errors import Refused
from gateway.intake.accept import Outcome
from gateway.keys.trust import Trust
from gateway.parties import registry, subscriptions
from gateway.sealing.validate import full_validate
from gateway.store.blobs import read
from gateway.store.database import Transaction
from tests import journey
from tests.intake.samples_expected import CONTRACTS, EXPECTED, SELLERS, Read, RefusedAs
from tests.journey import OPERATOR, TODAY, Journey

# Two files repeat the number of the one before them, with other bytes.
SECOND_OF_A_NUMBER = {
    "Avoir_FR_type381_EN16931.pdf": "Avoir_FR_type381_BASIC.pdf",
    "Facture_FR_MINIMUM.pdf": "Facture_FR_BASICWL.pdf",
}
ACCEPTED = [name for name, it in EXPECTED.items() if isinstance(it, Read) and name not in SECOND_OF_A_NUMBER]
REFUSED = [name for name, it in EXPECTED.items() if isinstance(it, RefusedAs)]


@dataclass
class Run:
    """What became of every file."""

    gate: Journey
    answers: dict[str, Outcome | Refused] = field(default_factory=dict)


@pytest.fixture(scope="module")
def run(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Every file, in the order of names, with the sidecar that its billing system would write."""
    with journey.opened(tmp_path_factory.mktemp("gateway"), issuer={"sellers": SELLERS}) as gate:
        gate.db.write(_declare)
        made = Run(gate)
        for name, expected in EXPECTED.items():
            try:
                made.answers[name] = gate.submit((samples / "invoices" / name).read_bytes(), expected.sidecar)
            except Refused as error:
                made.answers[name] = error
        while gate.seal():
            pass
        yield made


def _declare(tx: Transaction) -> None:
    for number, company in CONTRACTS.items():
        client = registry.create_client(tx, OPERATOR, f"Client {company}")
        registry.create_company(tx, OPERATOR, company, f"Company {company}", client.id)
        registry.create_contract(tx, OPERATOR, number, "CARD_S", company, today=TODAY)
        subscriptions.subscribe(
            tx, OPERATOR, client.id, [number], dt.date(2017, 1, 1), terms_version="1", today=TODAY, reason="samples"
        )


def outcome(run: Run, name: str) -> Outcome:
    answer = run.answers[name]
    assert isinstance(answer, Outcome), answer
    return answer


def test_all_thirty_were_looked_at(run: Run) -> None:
    assert len(run.answers) == len(EXPECTED) == 30
    assert len(ACCEPTED) + len(SECOND_OF_A_NUMBER) + len(REFUSED) == 30
    assert len(run.gate.documents()) == len(ACCEPTED) + len(SECOND_OF_A_NUMBER)
    assert run.gate.leftovers() == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_real_document_is_accepted_for_its_client_as_an_original(run: Run, name: str) -> None:
    """With the facts that reading found, in its row; then sealed, and the seal is good for a validator not ours."""
    expected, answer = EXPECTED[name], outcome(run, name)
    assert isinstance(expected, Read)
    assert (answer.outcome, answer.nature) == ("new", Nature.ORIGINAL)
    row = run.gate.document(answer.document_id)
    assert (row.number, row.issue_date, row.type_code, row.total, row.currency, row.corrects) == (
        expected.number, expected.issue_date, expected.type_code, expected.total, expected.currency, expected.corrects,
    )  # fmt: skip
    assert row.state is DocumentState.SEALED and row.sealed_sha256 is not None
    assert (row.xml_sha256 is None) is (expected.profile == "")
    sealed = read(run.gate.core.blobs, row.sealed_sha256)
    assert sealed.startswith(read(run.gate.core.blobs, row.received_sha256))
    validated = full_validate(sealed, Trust.load((run.gate.authority.root,)), clock.now())
    assert validated["signatures"] >= 1


@pytest.mark.parametrize(("name", "first"), SECOND_OF_A_NUMBER.items())
def test_a_real_document_that_repeats_a_number_is_quarantined(run: Run, name: str, first: str) -> None:
    """The first one stays, sealed."""
    answer = outcome(run, name)
    assert (answer.outcome, answer.state, answer.nature) == ("quarantined", DocumentState.QUARANTINED, None)
    assert outcome(run, first).document_id in answer.reason
    assert run.gate.document(answer.document_id).sealed_sha256 is None


@pytest.mark.parametrize("name", REFUSED)
def test_a_real_document_that_is_refused_leaves_its_reason(run: Run, name: str) -> None:
    """To the sender, and in the ledger."""
    expected, answer = EXPECTED[name], run.answers[name]
    assert isinstance(expected, RefusedAs)
    assert isinstance(answer, Refused), answer
    assert answer.code == expected.code and expected.words in answer.message
    assert answer.message in [json.loads(row.body)["facts"]["reason"] for row in run.gate.records("document.refused")]


def test_the_same_files_again_get_the_same_answers(run: Run, samples: Path) -> None:
    """Nothing new in the database but the records that they came again."""
    rows = len(run.gate.documents())
    for name in (*ACCEPTED[:3], *SECOND_OF_A_NUMBER):
        again = run.gate.submit((samples / "invoices" / name).read_bytes(), EXPECTED[name].sidecar)
        assert again.document_id == outcome(run, name).document_id
    assert len(run.gate.documents()) == rows
