"""What is served of a document: the sealed bytes, the stamped duplicate made once, or what was received."""

import asyncio
from collections.abc import Iterator

import pikepdf
import pytest

from gateway.domain.documents import Duplicate
from gateway.domain.states import DocumentState, Nature
from gateway.errors import Conflict, NotFound
from gateway.sealing.renditions import Rendition
from gateway.store.blobs import read
from tests import journey
from tests.intake import makers
from tests.journey import CARD_S, ISSUED, NOT_SUBSCRIBED, Journey


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    with journey.opened(tmp_path_factory.mktemp("gateway"), intake={"workers": 1}, seal={"workers": 1}) as made:
        yield made


def content(gate: Journey, document: str) -> Rendition:
    return gate.run(gate.core.renditions.content(document))


def test_an_original_is_served_sealed_under_its_published_name(gate: Journey) -> None:
    """The same bytes by every way."""
    number = journey.number()
    document = gate.submit(journey.invoice(number)).document_id
    gate.seal()
    row, served = gate.document(document), content(gate, document)
    assert (served.sha256, served.size) == (row.sealed_sha256, row.sealed_size)
    assert served.file_name == f"20250303_{CARD_S}_{number}_ORIG.pdf"


def test_before_it_is_sealed_there_is_nothing_to_serve(gate: Journey) -> None:
    """The received bytes of an original are nobody's original."""
    document = gate.submit(journey.invoice(journey.number())).document_id
    with pytest.raises(Conflict) as caught:
        content(gate, document)
    assert caught.value.code == "not_ready"
    gate.seal()


def test_a_document_without_a_subscription_is_served_as_a_stamped_duplicate(gate: Journey) -> None:
    """Never its received bytes: the stamp names their SHA-256, the XML is left out."""
    number = journey.number()
    received = journey.invoice(number, NOT_SUBSCRIBED)
    document = gate.submit(received).document_id
    served = content(gate, document)
    assert served.file_name == f"20250303_{NOT_SUBSCRIBED}_{number}_DUPLICATA.pdf"
    stamped = read(gate.core.blobs, served.sha256)
    assert len(stamped) == served.size and served.sha256 != makers.sha256(received)
    with makers.opened(stamped) as pdf:
        assert len(pdf.attachments) == 0
    assert gate.events(document=document) == ["document.received", "duplicate.made"]
    assert gate.leftovers() == []


def test_the_first_duplicate_is_kept_and_served_from_then_on(gate: Journey) -> None:
    """Requests at once, and later ones: the same bytes, one record."""
    document = gate.submit(journey.invoice(journey.number(), NOT_SUBSCRIBED)).document_id

    async def at_once() -> list[Rendition]:
        return list(await asyncio.gather(*(gate.core.renditions.content(document) for _ in range(3))))

    served = [*gate.run(at_once()), content(gate, document)]
    assert len({one.sha256 for one in served}) == 1
    assert gate.events(document=document).count("duplicate.made") == 1
    kept = gate.db.read(lambda tx: tx.get_one(Duplicate, document))
    assert (kept.sha256, kept.size) == (served[0].sha256, served[0].size)


def test_the_other_kinds_are_served_as_received(gate: Journey) -> None:
    received = makers.pdf()
    facts = {"kind": "contract", "number": "K-1", "issue_date": ISSUED.isoformat(), "contract": CARD_S}
    document = gate.submit(received, facts).document_id
    served = content(gate, document)
    assert read(gate.core.blobs, served.sha256) == received
    assert served.file_name == f"20250303_{CARD_S}_K-1_contract.pdf"


def test_what_waits_in_quarantine_is_not_served(gate: Journey) -> None:
    """Nobody has decided what it is worth."""
    with makers.opened(journey.invoice(journey.number())) as pdf:
        pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS=pikepdf.String("app.alert(1)"))
        document = gate.submit(makers.saved(pdf)).document_id
    row = gate.document(document)
    assert (row.state, row.nature) == (DocumentState.QUARANTINED, None)
    with pytest.raises(Conflict):
        content(gate, document)


def test_a_duplicate_whose_bytes_are_missing_is_not_found(gate: Journey) -> None:
    """And nothing half made is kept."""
    document = gate.submit(journey.invoice(journey.number(), NOT_SUBSCRIBED)).document_id
    row = gate.document(document)
    assert row.nature is Nature.DUPLICATE
    gate.core.blobs.remove(row.received_sha256)
    with pytest.raises(NotFound):
        content(gate, document)
    assert "duplicate.made" not in gate.events(document=document)
    assert gate.leftovers() == []


def test_an_unknown_document_is_not_found(gate: Journey) -> None:
    with pytest.raises(NotFound):
        content(gate, "doc_none")
