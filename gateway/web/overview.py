"""How the gateway is: what waits and since when, the disk, the certificates. For /status, /readyz and /metrics.

Only what is not final is counted, so that the question stays cheap however long the gateway has been running.
"""

import datetime as dt
import threading
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import col

from .. import clock
from ..config import Settings
from ..domain.deliveries import Delivery
from ..domain.documents import UNDELIVERED, Document
from ..domain.states import DeliveryState, DocumentState
from ..errors import GatewayError
from ..keys.load import load_pkcs12
from ..store.blobs import Blobs
from ..store.database import Transaction

_OPEN_DELIVERIES = (
    DeliveryState.PLANNED,
    DeliveryState.HELD,
    DeliveryState.ATTEMPTING,
    DeliveryState.DEFERRED,
    DeliveryState.UNCERTAIN,
    DeliveryState.FAILED,
    DeliveryState.BOUNCED,
)
_SOON_DAYS = 30  # a certificate is a matter of weeks
_CERTIFICATES_FOR = 600.0  # seconds that what was read of the key files holds: opening them costs a key derivation


@dataclass(frozen=True)
class Waiting:
    """Deliveries or documents in one state; `channel` is empty for documents."""

    channel: str
    state: str
    count: int
    oldest_at: dt.datetime


@dataclass(frozen=True)
class Certificate:
    """A certificate in use: of the `seal` or of `mail`. `trouble` says why it cannot be used; then nothing is known."""

    use: str
    subject: str
    not_after: dt.datetime | None
    trouble: str


@dataclass(frozen=True)
class Disk:
    """Space where the next bytes go, in per cent."""

    free_percent: float
    floor_percent: float

    @property
    def is_low(self) -> bool:
        """Below its floor: the intake refuses."""
        return self.free_percent < self.floor_percent


def documents_waiting(tx: Transaction) -> list[Waiting]:
    """Documents to be sealed, waiting for a key, in quarantine, or sealed and without a channel (`undelivered`)."""
    held = col(Document.state).in_((DocumentState.WAITING, DocumentState.QUARANTINED))
    to_seal = sa.and_(col(Document.due_at).is_not(None), col(Document.state) == DocumentState.RECEIVED)
    query = sa.select(col(Document.state), sa.func.count(), sa.func.min(Document.received_at))
    rows = [
        *tx.execute(query.where(to_seal).group_by(col(Document.state))),
        *tx.execute(query.where(held).group_by(col(Document.state))),
    ]
    waiting = [Waiting("", state.value, count, oldest) for state, count, oldest in rows]
    count, oldest = tx.execute(
        sa.select(sa.func.count(), sa.func.min(Document.received_at)).where(sa.text(UNDELIVERED))
    ).one()
    return [*waiting, Waiting("", "undelivered", count, oldest)] if count else waiting


def deliveries_open(tx: Transaction) -> list[Waiting]:
    """Deliveries that are not done, and those that failed, by channel and state."""
    rows = tx.execute(
        sa.select(col(Delivery.channel), col(Delivery.state), sa.func.count(), sa.func.min(Delivery.created_at))
        .where(col(Delivery.state).in_(_OPEN_DELIVERIES))
        .group_by(col(Delivery.channel), col(Delivery.state))
        .order_by(col(Delivery.channel), col(Delivery.state))
    )
    return [Waiting(channel.value, state.value, count, oldest) for channel, state, count, oldest in rows]


def disk(settings: Settings, blobs: Blobs) -> Disk:
    """The disk's state now."""
    return Disk(round(blobs.free_percent(), 2), settings.store.free_space_floor_percent)


class Certificates:
    """What the key files of the settings say, read again every ten minutes. Thread-safe; blocks on the disk."""

    def __init__(self, settings: Settings) -> None:
        seal, mail = settings.seal, settings.mail
        self._files = {"seal": (seal.certificate, seal.password_file)}
        if mail.enabled:
            self._files["mail"] = (mail.certificate, mail.password_file)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._known: list[Certificate] = []

    def read(self) -> list[Certificate]:
        """One for each use, the seal's first."""
        with self._lock:
            if clock.monotonic() - self._read_at > _CERTIFICATES_FOR:
                self._known = [_certificate(use, *files) for use, files in self._files.items()]
                self._read_at = clock.monotonic()
            return self._known


def _certificate(use: str, path: Path | None, password_file: Path | None) -> Certificate:
    if path is None:
        return Certificate(use, "", None, "no certificate is configured")
    try:
        key = load_pkcs12(path, password_file)
    except GatewayError:
        return Certificate(use, "", None, "the key file cannot be used: `gateway check` says why")
    return Certificate(use, key.subject, key.not_after, "")


def trouble(certificate: Certificate, now: dt.datetime) -> str:
    """Why nothing can be signed with it at `now`; empty when something can."""
    if certificate.not_after is not None and certificate.not_after < now:
        return f"it expired on {certificate.not_after:%Y-%m-%d}"
    return certificate.trouble


def manifest_trouble(seal: Certificate, now: dt.datetime) -> str:
    """Why the seal's key signs no manifest at `now`, or will not in some weeks; empty when all is well."""
    if found := trouble(seal, now):
        return f"no manifest is signed: {found}"
    if seal.not_after is not None and (days := (seal.not_after - now).days) < _SOON_DAYS:
        return f"the certificate that signs manifests ends in {days} days, on {seal.not_after:%Y-%m-%d}"
    return ""
