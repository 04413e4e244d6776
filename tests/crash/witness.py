"""What stands outside the database, held against it: the spool, the mailbox, the doors' answers, the seals.

`unkept` holds at any instant at which no daemon runs; `unfinished` once everything came to its end. Both say in words
what is wrong.
"""

import email.parser
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from gateway import clock
from gateway.domain.documents import Document
from gateway.domain.states import Channel, DeliveryState, DocumentState, Nature
from gateway.errors import GatewayError
from gateway.sealing.verify import verify
from tests.crash.checker import State
from tests.crash.doors import Doors
from tests.crash.station import Offer, Station

_ENDS = {
    "accepted": (DocumentState.SEALED, Nature.ORIGINAL),
    "duplicate": (DocumentState.RECEIVED, Nature.DUPLICATE),
    "quarantined": (DocumentState.QUARANTINED, None),
}
_WORKER_ENDED = "worker process ended"


def unkept(station: Station, state: State, offers: Sequence[Offer], doors: Doors) -> list[str]:
    """What was lost, what was promised and is not so, what was sent more often than its attempts say."""
    return [*doors.wrong, *_lost(station, state, offers, doors), *_broken(state, offers, doors), *_mail(station, state)]


def _lost(station: Station, state: State, offers: Sequence[Offer], doors: Doors) -> Iterator[str]:
    """Files that lie nowhere in the spool and have no row either."""
    kept = {document.received_sha256 for document in state.documents.values()}
    kept |= {_digest(path) for path in station.spool.rglob("*.pdf")}
    by_spool = [offer for offer in offers if offer.name not in doors.elsewhere]
    yield from (f"{offer.name} is lost" for offer in by_spool if offer.sha256 not in kept)


def _broken(state: State, offers: Sequence[Offer], doors: Doors) -> Iterator[str]:
    of_name = {offer.name: offer for offer in offers}
    for name, promise in doors.promised.items():
        document = state.documents.get(promise.document)
        digest = document.received_sha256 if document else ""
        if promise.document and digest != of_name[name].sha256:
            yield f"{name} was answered {promise}, and there is no such document"
        if (promise.outcome == "refused") == bool(promise.document):
            yield f"{name} was answered {promise}"


def _mail(station: Station, state: State) -> Iterator[str]:
    """Only an attempt of which nobody knows whether it was sent may have left a second copy, of the same bytes."""
    arrived: dict[str, list[str]] = defaultdict(list)
    recipients: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for message in station.mailbox.messages():
        content = message.path.read_bytes()
        message_id = email.parser.BytesHeaderParser().parsebytes(content)["Message-ID"].strip("<>")
        arrived[message_id].append(hashlib.sha256(content).hexdigest())
        recipients[message_id].add(message.recipients)
    sent = {delivery.message_id: delivery for delivery in state.deliveries.values() if delivery.message_id}
    for message_id, digests in arrived.items():
        delivery = sent.get(message_id)
        if delivery is None:
            yield f"{message_id} arrived and belongs to no delivery"
            continue
        if set(digests) != {delivery.message_sha256}:
            yield f"{delivery.id} arrived as other bytes than were kept"
        if recipients[message_id] != {(state.mailboxes[delivery.destination],)}:
            yield f"{delivery.id} arrived at {recipients[message_id]}"
        outcomes = Counter(attempt.outcome for attempt in state.attempts[delivery.id])
        if len(digests) > outcomes["accepted"] + outcomes["uncertain"] + outcomes[""]:
            yield f"{delivery.id} arrived {len(digests)} times, of attempts {dict(outcomes)}"
    accepted = {message_id for message_id, delivery in sent.items() if delivery.state is DeliveryState.ACCEPTED}
    yield from (f"{message_id} was accepted and did not arrive" for message_id in accepted - arrived.keys())


def unfinished(
    station: Station, state: State, offers: Sequence[Offer], doors: Doors, workers_killed: int = 0
) -> list[str]:
    """What did not come to its one right end. A worker that was killed may have taken one document with it."""
    scratch = (station.state / "blobs" / "scratch").iterdir()
    return list(
        chain(
            _fates(station, state, offers, doors, workers_killed),
            _waiting(state),
            _spool(station, state),
            _seals(station, state),
            (f"scratch/{path.name} is left" for path in scratch),
        )
    )


def open_ends(state: State) -> Counter[str]:
    """How many of what stand where."""
    documents = Counter(f"document {document.state}" for document in state.documents.values())
    return documents + Counter(f"{delivery.channel} {delivery.state}" for delivery in state.deliveries.values())


def _fates(station: Station, state: State, offers: Sequence[Offer], doors: Doors, workers_killed: int) -> Iterator[str]:
    rows: dict[str, list[Document]] = defaultdict(list)
    for document in state.documents.values():
        rows[document.received_sha256].append(document)
    refused = {_digest(path) for path in (station.spool / "refused").glob("*.pdf")}
    refused |= {o.sha256 for o in offers if (p := doors.promised.get(o.name)) and p.outcome == "refused"}
    of_number: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        of_number[offer.number or offer.name].append(offer)
    victims = 0
    for group in of_number.values():
        odd = [offer for offer in group if not _has_its_end(offer, rows[offer.sha256], refused)]
        taken = sum(offer.sha256 in refused or _died(rows[offer.sha256]) for offer in odd)
        victims += taken
        unexplained = [o for o in odd if not rows[o.sha256] and o.sha256 not in refused] if taken else odd
        for offer in unexplained:
            ends = [(str(document.state), str(document.nature)) for document in rows[offer.sha256]]
            yield f"{offer.name}: {ends}, refused: {offer.sha256 in refused}; its fate was {offer.fate}"
    if victims > workers_killed:
        yield f"{victims} documents went with a worker, and {workers_killed} workers were killed"
    unknown = rows.keys() - {offer.sha256 for offer in offers}
    yield from (f"{document.id}: nobody handed it in" for digest in unknown for document in rows[digest])
    refusals = sum(record.event == "document.refused" for record in state.records)
    if refusals < len(refused):
        yield f"{refusals} records of document.refused, for {len(refused)} documents"


def _has_its_end(offer: Offer, rows: Sequence[Document], refused: set[str]) -> bool:
    if offer.fate == "again":  # its twin has it
        return True
    if offer.fate == "refused":
        return not rows and offer.sha256 in refused
    return [(one.state, one.nature) for one in rows] == [_ENDS[offer.fate]] and offer.sha256 not in refused


def _died(rows: Sequence[Document]) -> bool:
    return [one.state for one in rows] == [DocumentState.QUARANTINED] and _WORKER_ENDED in rows[0].state_reason


def _waiting(state: State) -> Iterator[str]:
    for document in state.documents.values():
        if document.nature is Nature.ORIGINAL and document.state in (DocumentState.RECEIVED, DocumentState.WAITING):
            yield f"{document.id} is neither sealed nor explained"
    for delivery in state.deliveries.values():
        end = DeliveryState.ACCEPTED if delivery.channel is Channel.EMAIL else DeliveryState.PUBLISHED
        if delivery.state is not end:
            yield f"{delivery.id} ({delivery.channel}) is {delivery.state}"


def _spool(station: Station, state: State) -> Iterator[str]:
    yield from (f"{path.relative_to(station.directory)} is left" for path in station.waiting())
    quarantined = {d.id for d in state.documents.values() if d.state is DocumentState.QUARANTINED}
    unheld = {id_ for id_ in quarantined if state.documents[id_].accepted_key is None}
    expected = {id_ for id_ in unheld if state.documents[id_].source == "spool"}
    for folder in ("refused", "quarantined"):
        files = {path.name for path in (station.spool / folder).iterdir()}
        for name in sorted(name for name in files if name.endswith(".pdf")):
            path = station.spool / folder / name
            if f"{name}.reason.json" not in files:
                yield f"{folder}/{name} has no reason beside it"
                continue
            reason = json.loads(path.with_name(f"{name}.reason.json").read_bytes())
            document = state.documents.get(reason.get("document", ""))
            if not reason["code"] or not reason["reason"]:
                yield f"{folder}/{name} says no reason"
            if folder == "quarantined" and (document is None or document.received_sha256 != _digest(path)):
                yield f"{folder}/{name} is of no document"
            expected -= {reason.get("document")}
        belonging = {f"{name}{end}" for name in files for end in ("", ".json", ".reason.json") if name.endswith(".pdf")}
        yield from (f"{folder}/{name} belongs to no file" for name in sorted(files - belonging))
    yield from (f"{document_id} is in quarantine, and its file is not" for document_id in sorted(expected))


def _seals(station: Station, state: State) -> Iterator[str]:
    chain_, trust = station.template.issuer
    objects = station.state / "blobs" / "objects"
    for document_id in state.seals.keys() & state.documents.keys():
        digests = (state.seals[document_id].sha256, state.documents[document_id].received_sha256)
        try:
            sealed, received = ((objects / digest[:2] / digest).read_bytes() for digest in digests)
            verify(sealed, received, chain_, trust, clock.now())
        except (GatewayError, FileNotFoundError) as error:
            yield f"{document_id}: its seal is not valid: {error}"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:  # moved meanwhile
        return ""
