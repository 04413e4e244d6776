"""Accept documents exactly once, in one transaction: holder, subscription, nature, number.

The same number with the same bytes gets the same answer; with other bytes it goes to quarantine and the first stays.
Each document of a batch is answered for itself. Failures: Refused with a code.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog
from sqlmodel import col, select

from .. import clock
from ..config import IssuerSettings
from ..delivery import plan
from ..domain import nature
from ..domain.documents import Document
from ..domain.states import DocumentState, Nature
from ..errors import Refused
from ..evidence import Fact, record_all
from ..parties import holders, subscriptions
from ..store import database
from ..store.blobs import Blob
from ..store.database import Transaction
from .facts import Facts
from .read import Reading

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The answer to the door. `outcome`: new, again (the same answer as before) or quarantined."""

    document_id: str
    number: str
    outcome: str
    state: DocumentState
    nature: Nature | None
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A document that was read and whose bytes are kept, on its way to a row."""

    reading: Reading
    blob: Blob
    xml: Blob | None
    source: str
    actor: str


def accept(tx: Transaction, issuer: IssuerSettings, candidates: Sequence[Candidate]) -> list[Outcome | Refused]:
    """Accept candidates in their order; each is answered for itself."""
    batch = _Batch(tx, issuer, candidates)
    answers = [batch.answer(candidate) for candidate in candidates]
    batch.write()
    return answers


class _Batch:
    """One transaction's worth of acceptances: looks everything up in a few statements, then decides one by one."""

    def __init__(self, tx: Transaction, issuer: IssuerSettings, candidates: Sequence[Candidate]) -> None:
        self._tx = tx
        self._issuer = issuer
        self._now = database.now(tx)
        facts = [candidate.reading.facts for candidate in candidates]
        self._known = _known(tx, {key_of(fact) for fact in facts})
        self._holders = holders.holders_on(tx, [(fact.contract, fact.issue_date) for fact in facts])
        self._same_bytes = _same_bytes(tx, {candidate.blob.sha256 for candidate in candidates})
        self._corrected = _corrected(tx, facts)
        self._coverage = _Coverage(tx, issuer.original_channel, self._held())
        self._new: list[Document] = []
        self._facts: list[Fact] = []

    def _held(self) -> list[tuple[str, dt.date]]:
        found = self._holders.items()
        return [(holder.contract_id, day) for (_, day), holder in found if isinstance(holder, holders.Holder)]

    def answer(self, candidate: Candidate) -> Outcome | Refused:
        try:
            return self._decide(candidate)
        except Refused as error:
            self._facts.append(refusal(error, candidate.source, candidate.actor, candidate.blob.sha256))
            return error

    def _decide(self, candidate: Candidate) -> Outcome:
        facts = candidate.reading.facts
        self._check_seller(facts)
        holder = self._holder(facts)
        known = self._known.setdefault(key_of(facts), [])
        for document in known:
            if document.received_sha256 == candidate.blob.sha256 and _still_stands(document):
                return self._again(document, candidate)
        taken = next((document for document in known if document.accepted_key is not None), None)
        document = self._document(candidate, holder, taken)
        known.append(document)
        if document.accepted_key is not None:  # its credit note may be in the same batch
            self._corrected.setdefault((facts.seller, facts.number), []).append(document)
        self._new.append(document)
        self._facts += self._facts_of(document, candidate)
        outcome = "quarantined" if document.state is DocumentState.QUARANTINED else "new"
        return _outcome(document, outcome)

    def _again(self, document: Document, candidate: Candidate) -> Outcome:
        facts = {"source": candidate.source, "actor": candidate.actor}
        self._facts.append(Fact("document.submitted_again", document.id, document.id, facts))
        return _outcome(document, "quarantined" if document.state is DocumentState.QUARANTINED else "again")

    def _check_seller(self, facts: Facts) -> None:
        if facts.kind.is_invoice and facts.seller not in self._issuer.sellers:
            raise Refused(f"seller {facts.seller} is not one that this gateway serves", code="unknown_seller")

    def _holder(self, facts: Facts) -> holders.Holder:
        holder = self._holders[facts.contract, facts.issue_date]
        if isinstance(holder, Refused):
            raise holder
        if facts.buyer:
            holders.check_buyer(holder, facts.buyer)
        return holder

    def _document(self, candidate: Candidate, holder: holders.Holder, taken: Document | None) -> Document:
        facts = candidate.reading.facts
        quarantine = candidate.reading.quarantine or ""
        if taken is not None:
            quarantine = (
                f"{facts.number} of {facts.issue_date.year} was accepted before with other bytes "
                f"(document {taken.id}); that one stays"
            )
        document = Document(
            id=clock.new_id("doc"),  # in the order of acceptance, which sealing and publishing keep
            kind=facts.kind,
            number=facts.number,
            issue_date=facts.issue_date,
            type_code=facts.type_code,
            seller=facts.seller,
            key=key_of(facts),
            contract_id=holder.contract_id,
            company_id=holder.company_id,
            client_id=holder.client_id,
            currency=facts.currency,
            total=facts.total,
            due=facts.due,
            period_start=facts.period_start,
            period_end=facts.period_end,
            corrects=facts.corrects,
            corrects_id=self._corrects_id(facts, holder),
            state=DocumentState.QUARANTINED if quarantine else DocumentState.RECEIVED,
            state_reason=quarantine,
            received_sha256=candidate.blob.sha256,
            received_size=candidate.blob.size,
            received_at=self._now,
            source=candidate.source,
            facts=facts.model_dump(mode="json"),
            xml_sha256=candidate.xml.sha256 if candidate.xml else None,
            xml_size=candidate.xml.size if candidate.xml else None,
            updated_at=self._now,
        )
        if not quarantine:
            _settle(document, self._coverage.of(document), self._now)
        return document

    def _corrects_id(self, facts: Facts, holder: holders.Holder) -> str | None:
        """Numbers begin anew each year: the last one before it, and never another company's."""
        found = self._corrected.get((facts.seller, facts.corrects), [])
        earlier = [one for one in found if one.company_id == holder.company_id and one.issue_date <= facts.issue_date]
        return max(earlier, key=lambda one: (one.issue_date, one.id)).id if earlier else None

    def _facts_of(self, document: Document, candidate: Candidate) -> list[Fact]:
        received = Fact("document.received", document.id, document.id, _received(document, candidate))
        facts = [received]
        twin = self._same_bytes.get(document.received_sha256)
        if twin is not None and twin[1] != document.client_id:
            log.error("document.same_bytes_for_two_clients", document=document.id, other=twin[0])
            facts.append(Fact("document.same_bytes_for_two_clients", document.id, document.id, {"other": twin[0]}))
        if document.state is DocumentState.QUARANTINED:
            log.warning("document.quarantined", document=document.id, cause=document.state_reason)
            facts.append(Fact("document.quarantined", document.id, document.id, {"reason": document.state_reason}))
        self._same_bytes[document.received_sha256] = (document.id, document.client_id)
        return facts

    def write(self) -> None:
        if self._new:
            self._tx.execute(sa.insert(Document), [document.model_dump() for document in self._new])
        record_all(self._tx, self._facts)
        kept_as_received = [d for d in self._new if d.nature is None and d.state is DocumentState.RECEIVED]
        if kept_as_received:
            plan.plan(self._tx, kept_as_received, self._now)


def settle_nature(tx: Transaction, document: Document, default_channel: str, now: dt.datetime) -> None:
    """Decide a document's nature, once and for ever, and make it due for sealing where it is to be sealed."""
    assert document.contract_id is not None
    held = [(document.contract_id, document.issue_date)]
    _settle(document, _Coverage(tx, default_channel, held).of(document), now)


def _settle(document: Document, covered: "_Covered", now: dt.datetime) -> None:
    document.accepted_key = document.key
    if document.kind.is_invoice and document.nature is None:
        subscription_id, channel = covered
        document.nature, document.nature_reason = nature.decide(document.kind, subscription_id is not None, channel)
        document.subscription_id = subscription_id
    document.due_at = now if document.nature in (Nature.ORIGINAL, Nature.PLATFORM_COPY) else None


class _Covered(NamedTuple):
    """What decides a nature: the subscription in force, if any, and where the originals go."""

    subscription_id: str | None
    original_channel: str


class _Coverage:
    """What held for contracts on their documents' days; looked up once for each day."""

    def __init__(self, tx: Transaction, default_channel: str, held: Sequence[tuple[str, dt.date]]) -> None:
        self._found: dict[tuple[str, dt.date], _Covered] = {}
        for day in {day for _, day in held}:
            ids = [contract_id for contract_id, on in held if on == day]
            in_force = subscriptions.in_force(tx, ids, day)
            channels = subscriptions.original_channel_on(tx, ids, day, default_channel)
            for contract_id in ids:
                subscription_id = in_force[contract_id].id if contract_id in in_force else None
                self._found[contract_id, day] = _Covered(subscription_id, channels[contract_id])

    def of(self, document: Document) -> _Covered:
        assert document.contract_id is not None
        return self._found[document.contract_id, document.issue_date]


def key_of(facts: Facts) -> str:
    """What makes a document unique: seller, number and year of issue; other kinds each by kind and contract."""
    group = "invoice" if facts.kind.is_invoice else f"{facts.kind}:{facts.contract}"
    return f"{group}:{facts.seller}:{facts.issue_date.year}:{facts.number}"


def _still_stands(document: Document) -> bool:
    """It holds its number, or waits in quarantine; one that was rejected or replaced is no answer to the same bytes."""
    return document.accepted_key is not None or document.state is DocumentState.QUARANTINED


def _outcome(document: Document, outcome: str) -> Outcome:
    return Outcome(
        document.id,
        document.number,
        outcome,
        document.state,
        document.nature,
        document.state_reason or document.nature_reason,
    )


def _known(tx: Transaction, keys: set[str]) -> dict[str, list[Document]]:
    known: dict[str, list[Document]] = {}
    for document in tx.exec(select(Document).where(col(Document.key).in_(keys)).order_by(col(Document.id))):
        known.setdefault(document.key, []).append(document)
    return known


def _same_bytes(tx: Transaction, digests: set[str]) -> dict[str, tuple[str, str | None]]:
    rows = tx.exec(
        select(Document.received_sha256, Document.id, Document.client_id).where(
            col(Document.received_sha256).in_(digests)
        )
    )
    return {digest: (document_id, client_id) for digest, document_id, client_id in rows}


def _corrected(tx: Transaction, facts: Sequence[Facts]) -> dict[tuple[str, str], list[Document]]:
    """The accepted documents that `facts` may correct, by seller and number."""
    numbers = {fact.corrects for fact in facts if fact.corrects}
    found: dict[tuple[str, str], list[Document]] = {}
    if numbers:
        named = select(Document).where(col(Document.number).in_(numbers), col(Document.accepted_key).is_not(None))
        for document in tx.exec(named):
            found.setdefault((document.seller, document.number), []).append(document)
    return found


def _received(document: Document, candidate: Candidate) -> dict[str, Any]:
    return {
        "kind": document.kind,
        "number": document.number,
        "issue_date": document.issue_date,
        "seller": document.seller,
        "contract_id": document.contract_id,
        "company_id": document.company_id,
        "client_id": document.client_id,
        "total": document.total,
        "currency": document.currency,
        "nature": document.nature,
        "nature_reason": document.nature_reason,
        "subscription_id": document.subscription_id,
        "sha256": document.received_sha256,
        "size": document.received_size,
        "source": candidate.source,
        "actor": candidate.actor,
    }


def refusal(error: Refused, source: str, actor: str, sha256: str | None) -> Fact:
    """The record that something was refused; `sha256` of its bytes, if they were kept."""
    log.info("document.refused", code=error.code, source=source)
    facts = {"code": error.code, "reason": error.message, "source": source, "actor": actor, "sha256": sha256}
    return Fact("document.refused", clock.new_id("rfs"), None, facts)
