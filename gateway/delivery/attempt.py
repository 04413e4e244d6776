"""Make mail attempts: compose once and store, then hand the stored bytes to the relay, every time the same.

The loop keeps up to `connections` attempts on their way; one that is slow delays no other. Composing waits for the
signing key and runs in the mail pool; the network is the loop's. What cannot be composed (no key, too large, bytes
missing) is held with its reason, never dropped. While the relay is in trouble one message tries it, the others wait.
"""

import asyncio
import datetime as dt
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from .. import clock
from ..config import DeliverySettings, IssuerSettings, MailSettings
from ..domain import names
from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.parties import Client, Company, Contract, Mailbox
from ..domain.states import DeliveryState
from ..errors import GatewayError, Refused, Unavailable
from ..keys.load import SigningKey
from ..mail import transport, verp
from ..mail.compose import compose
from ..mail.message import Attachment, Letter
from ..pools import ThreadPool
from ..store.blobs import Blobs, read
from ..store.database import Database, Transaction
from . import outbox
from .breaker import Breaker
from .outbox import Claim, Result
from .plan import unusable

log = structlog.get_logger(__name__)
_GOES_ON = (DeliveryState.ACCEPTED, DeliveryState.DEFERRED)


class _Held(Exception):
    """It cannot be composed until somebody mends something."""


class MailWorker:
    """Empties the outbox of mail deliveries."""

    def __init__(
        self,
        settings: MailSettings,
        delivery: DeliverySettings,
        issuer: IssuerSettings,
        db: Database,
        blobs: Blobs,
        pool: ThreadPool,
        key: SigningKey,
        verp_secret: bytes,
        relay: transport.Relay,
    ) -> None:
        self._settings = settings
        self._delivery = delivery
        self._issuer = issuer
        self._db = db
        self._blobs = blobs
        self._pool = pool
        self._key = key
        self._verp_secret = verp_secret
        self._relay = relay
        self._breaker = Breaker()
        self._running: dict[asyncio.Task[None], str] = {}  # with the attempt's id
        self._room = asyncio.Event()
        self._draining = False

    async def turn(self) -> int:
        """Claim as many as there is room for and start them; how many. Waits for room first."""
        while len(self._running) >= self._settings.connections and not self._draining:
            self._room.clear()
            await self._room.wait()
        if self._draining:
            return 0
        self._key.check(clock.now())  # an expired certificate: nothing is claimed, so no attempt is spent
        free = self._breaker.room(self._settings.connections - len(self._running), len(self._running))
        if not free:
            return 0
        under_way = list(self._running.values())  # each ends itself within its lease, on the monotonic clock
        claims = await self._pool.run(self._db.write, lambda tx: self._claim(tx, free, under_way))
        for claim in claims:
            task = asyncio.create_task(self._attempt(claim))
            self._running[task] = claim.attempt_id
            task.add_done_callback(self._ended)
        return len(claims)

    async def drain(self, grace_seconds: float) -> None:
        """Let attempts that run end; those that do not within the grace are left to their leases: uncertain."""
        self._draining = True
        self._room.set()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_seconds)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("attempt.crashed", exc_info=error)  # its lease ends it: uncertain

    def _claim(self, tx: Transaction, limit: int, under_way: Collection[str]) -> list[Claim]:
        outbox.expire_leases(tx, self._delivery, but=under_way)
        return outbox.claim(tx, limit, self._delivery.lease_seconds)

    async def _attempt(self, claim: Claim) -> None:
        lease_ends = clock.monotonic() + self._delivery.lease_seconds
        result = await self._outcome(claim)
        self._breaker.note(result)
        wait = 0.2
        # A result that is not written would send the message again: tried as long as it is this lease's to write.
        while (state := await self._settled(claim, result)) is None and clock.monotonic() < lease_ends:
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5)
        say = log.info if state in _GOES_ON else log.warning
        say(
            f"delivery.{state or 'unsettled'}",
            delivery=claim.delivery.id,
            attempt=claim.delivery.attempts,
            phase=result.phase,
            reply=result.reply,
            relay=result.relay,
            duration_ms=result.duration_ms,
        )

    async def _settled(self, claim: Claim, result: Result) -> DeliveryState | None:
        """The state after the result was written; None: it could not be."""
        try:
            return await self._pool.run(self._db.write, lambda tx: outbox.settle(tx, claim, result, self._delivery))
        except Unavailable:
            return None

    async def _outcome(self, claim: Claim) -> Result:
        deadline = clock.monotonic() + self._delivery.attempt_seconds
        try:
            envelope, message = await self._pool.run(self._message, claim)
        except _Held as held:
            return Result("held", "compose", str(held))
        except Unavailable as error:
            return Result("deferred", "compose", error.message)
        outcome = await transport.send(self._relay, envelope, message, deadline - clock.monotonic())
        verdict = outcome.verdict
        return Result(
            verdict.outcome,
            verdict.phase,
            verdict.reply,
            outcome.relay,
            outcome.remote_queue_id,
            outcome.tls,
            outcome.duration_ms,
            verdict.of_relay,
        )

    def _message(self, claim: Claim) -> tuple[transport.Envelope, bytes]:
        """The envelope and the stored bytes; composed and stored first if this is the first attempt."""
        context = self._db.read(lambda tx: _Context.load(tx, claim.delivery))
        obstacle = unusable(context.mailbox)
        if obstacle:
            raise _Held(obstacle)
        assert context.mailbox.address is not None
        try:
            sender = verp.sender(claim.delivery.id, self._verp_secret, self._settings.return_path_domain)
            envelope = transport.Envelope(sender, context.mailbox.address)
            if claim.delivery.message_sha256 is not None and claim.delivery.message_forgotten_at is None:
                return envelope, self._bytes(claim.delivery.message_sha256)
            return envelope, self._compose(claim, context)
        except Unavailable:
            raise
        except GatewayError as error:
            raise _Held(error.message) from error

    def _compose(self, claim: Claim, context: "_Context") -> bytes:
        letter = self._letter(claim, context)
        message = compose(letter, self._key, clock.now())
        blob = self._blobs.put(message.content)
        noted = self._db.write(
            lambda tx: outbox.composed(tx, claim, blob.sha256, blob.size, message.message_id, message.headers)
        )
        if not noted:
            raise Unavailable("the lease ended while the message was composed")
        return message.content

    def _bytes(self, sha256: str) -> bytes:
        """Bytes of the store; Refused when they are no longer those that were kept."""
        content = read(self._blobs, sha256)
        if hashlib.sha256(content).hexdigest() != sha256:
            log.error("delivery.blob_damaged", sha256=sha256)
            raise Refused("its bytes in the store are damaged", code="blob_damaged")
        return content

    def _letter(self, claim: Claim, context: "_Context") -> Letter:
        document, box = context.document, context.mailbox
        assert document.sealed_sha256 is not None and document.nature is not None and document.sealed_size is not None
        assert box.address is not None
        if document.sealed_size > self._settings.max_attachment_megabytes * 1_000_000:
            raise Refused(f"size: over the {self._settings.max_attachment_megabytes:g} MB that are mailed", code="size")
        contract = context.contract.number if context.contract else ""
        code = names.nature_code(document.nature, "pdf")
        name = names.entry_name(document.issue_date, contract, document.number, code, 1, "pdf")
        period = (document.period_start, document.period_end)
        return Letter(
            language=context.client.language.value,
            from_address=self._settings.from_address,
            from_name=self._settings.from_name,
            to_address=box.address,
            message_id=outbox.new_message_id(
                claim.delivery.id, self._settings.message_id_domain or self._settings.return_path_domain
            ),
            date=clock.now(),
            issuer_name=self._issuer.name,
            company_name=context.company.name if context.company else context.client.name,
            kind=document.kind,
            nature=document.nature,
            number=document.number,
            contract=contract,
            issue_date=document.issue_date,
            attachments=(Attachment(name, "pdf", self._bytes(document.sealed_sha256)),),
            period=period if period[0] and period[1] else None,  # type: ignore[arg-type]
            total=document.total,
            currency=document.currency,
            corrects=document.corrects,
        )


@dataclass(frozen=True)
class _Context:
    """The rows that a mail speaks of."""

    document: Document
    mailbox: Mailbox
    client: Client
    company: Company | None
    contract: Contract | None

    @classmethod
    def load(cls, tx: Transaction, delivery: Delivery) -> "_Context":
        document = tx.get_one(Document, delivery.document_id)
        return cls(
            document,
            tx.get_one(Mailbox, delivery.destination),
            tx.get_one(Client, delivery.client_id),
            tx.get(Company, document.company_id) if document.company_id else None,
            tx.get(Contract, document.contract_id) if document.contract_id else None,
        )


def forget_messages(db: Database, blobs: Blobs, keep_days: int, limit: int = 500) -> int:
    """Let composed messages go `keep_days` after their final state; their SHA-256 and headers stay. How many."""
    before = clock.now() - dt.timedelta(days=keep_days)
    deliveries = db.read(lambda tx: outbox.messages_to_forget(tx, before, limit))
    for delivery in deliveries:
        assert delivery.message_sha256 is not None
        blobs.remove(delivery.message_sha256)  # first: a second run finds it gone and notes it then
    if deliveries:
        db.write(lambda tx: outbox.note_forgotten(tx, [delivery.id for delivery in deliveries]))
    return len(deliveries)
