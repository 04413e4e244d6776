"""Every client's folder, behind one object: what the protocols, the portal and the daemon's sweeps call."""

import datetime as dt
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

import structlog

from ..config import FolderSettings
from ..errors import Denied
from ..keys.passwords import Passwords
from ..store.blobs import Blobs
from ..store.database import Database, Transaction
from . import entries, failures, host_keys, retention, sessions
from .content import Content
from .failures import Failure
from .gathering import Gathering, Recorder
from .index import Index
from .intake import Accounts, AccountVisit, IntakeArea
from .items import Item
from .manifest_area import ManifestArea
from .mapped import MappedVisit
from .memory import Memory
from .monthly import OpenMonths
from .sandbox import Sandbox, Sandboxes
from .sessions import Login, Session
from .visit import Visit

T = TypeVar("T")
log = structlog.get_logger(__name__)
MOST_REMEMBERED = 100_000
PARIS = ZoneInfo("Europe/Paris")  # where the settings name no other


class DropFolders:
    """Every client's folder."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        settings: FolderSettings,
        require_space: Callable[[], None] = lambda: None,
        accounts: Accounts | None = None,
        zone: ZoneInfo = PARIS,
    ) -> None:
        """`require_space` raises Unavailable while the disk is below its floor: then nothing can be written.

        `accounts`: the intake of the issuer's own; None: they see an empty home. `zone`: of the issuer's months.
        """
        self._accounts = accounts
        self._db = db
        self._settings = settings
        self._content = Content(blobs)
        self._open_months = OpenMonths(db, blobs, zone)
        self._sandboxes = Sandboxes(db, blobs, settings, require_space)
        self._passwords = Passwords()
        self._seen_keys: set[tuple[str, str, str]] = set()  # recorded before: an ERP may log in for each file
        self._recorder = Recorder()
        # One a folder, while anybody is there or something waits to be recorded; the index for a while after.
        self._used: WeakValueDictionary[str, Gathering] = WeakValueDictionary()
        self._indexes: WeakValueDictionary[str, Index] = WeakValueDictionary()
        self._visits: WeakValueDictionary[str, Visit] = WeakValueDictionary()  # by session
        self._memory = Memory(settings.index_megabytes * 1_000_000)
        self._lock = threading.Lock()

    def hinted(self, folder_id: str) -> None:
        """Something was published there: the next question looks at once."""
        with self._lock:
            index = self._indexes.get(folder_id)
        if index is not None:
            index.expire()

    def record_now(self) -> None:
        """Record what would be recorded in a moment. Unavailable: it goes on waiting."""
        with self._lock:
            used = list(self._used.values())
        for gathering in used:
            gathering.record()

    def close(self) -> None:
        """Record what was gathered, after the last session has ended."""
        self._recorder.close()

    def log_in(self, user_name: str, fingerprint: str, address: str) -> Login:
        """See sessions.log_in."""
        return self._db.read(lambda tx: sessions.log_in(tx, user_name, fingerprint, address))

    def log_in_with_password(self, user_name: str, password: str, address: str) -> Login:
        """The folder of that name, if this password may enter it now from there; Denied, with the reason as its code.

        Blocks for as long as argon2 takes. Unavailable: too many log-ins at once.
        """
        try:
            candidates = self._db.read(lambda tx: sessions.passwords_of(tx, user_name, address))
        except Denied:
            self._passwords.match([], password)
            raise
        matching = self._passwords.match([candidate.hash for candidate in candidates], password)
        return sessions.admitted(candidates, matching)

    def permit_for(self, login: Login, address: str) -> str:
        """See sessions.permit_for."""
        return self._db.read(lambda tx: sessions.permit_for(tx, login, address))

    def no_longer_allowed(self, credential_ids: Collection[str]) -> dict[str, str]:
        """Of the keys, passwords and permits of open sessions, those that ended since, with the reason."""
        if not credential_ids:
            return {}
        return self._db.read(lambda tx: sessions.no_longer_allowed(tx, credential_ids))

    def has_recorded(self, folder_id: str, seen: Collection[tuple[str, str]]) -> bool:
        """Whether `saw_host_keys` has nothing to record of these."""
        return all((folder_id, *one) in self._seen_keys for one in seen)

    def saw_host_keys(self, folder_id: str, seen: Collection[tuple[str, str]]) -> None:
        """Record which host keys a folder's clients know; (fingerprint, one of host_keys.FACTS)."""
        news = {(folder_id, *one) for one in seen} - self._seen_keys
        if news:
            self._db.write(lambda tx: host_keys.note(tx, folder_id, [one[1:] for one in sorted(news)]))
            if len(self._seen_keys) > MOST_REMEMBERED:
                self._seen_keys.clear()
            self._seen_keys |= news

    def keep_failures(self, noted: Sequence[Failure]) -> int:
        """See failures.keep."""
        return self._db.write(lambda tx: failures.keep(tx, noted))

    def forget_failures(self, now: dt.datetime, days: float) -> int:
        """Delete failed log-ins and negotiations that are older; how many."""
        before, count = now - dt.timedelta(days=days), 0
        while gone := self._db.write(lambda tx: failures.forget(tx, before)):
            count += gone
        return count

    def take_over(self) -> None:
        """End the sessions that a killed process left open; for the only daemon of a database, at its start."""
        while self._db.write(sessions.end_left_open):
            pass

    def visit(self, session: Session) -> Visit:
        """A session's view; `begin` it."""
        self._visits[session.id] = visit = self._visit(session)
        return visit

    def last_act(self, session_id: str) -> str | None:
        """What a session asked for last, as `read /inbox/…`; None: nothing yet, or it is not one of this process."""
        visit = self._visits.get(session_id)
        return " ".join(visit.last_act) if visit is not None and any(visit.last_act) else None

    def _visit(self, session: Session) -> Visit:
        gathering = self._gathering(session.login.folder_id)
        folder_id = session.login.folder_id
        if session.login.is_intake:
            areas = (IntakeArea(self._accounts, folder_id),) if self._accounts is not None else ()
            return AccountVisit(gathering, session, self._content, 0, areas, self._settings.path_bytes)
        manifests = ManifestArea(self._db, self._content, self._open_months, folder_id)
        sandbox = Sandbox(self._sandboxes, folder_id, session.login.client_id)
        limits = self._settings.directories, (manifests, sandbox), self._settings.path_bytes
        return MappedVisit(gathering, session, self._content, *limits)

    def return_renamed(self, now: dt.datetime) -> int:
        """Entries renamed too long ago and still not fully read get their own names back; how many."""
        before = now - dt.timedelta(hours=self._settings.rename_return_hours)
        count = 0
        for folder_id in self._db.read(lambda tx: entries.folders_with_overdue_renames(tx, before)):
            count += self._return_renamed(folder_id, before)
        return count

    def _return_renamed(self, folder_id: str, before: dt.datetime) -> int:
        items = self._write(folder_id, lambda tx: entries.return_renamed(tx, folder_id, before))
        self._apply(folder_id, items)
        for item in items:
            log.warning("entry.returned", entry=item.id, folder=folder_id, sequence=item.sequence)
        return len(items)

    def expire_uploads(self, now: dt.datetime) -> int:
        """See Sandboxes.expire and Accounts.expire."""
        return self._sandboxes.expire(now) + (self._accounts.expire(now) if self._accounts is not None else 0)

    def expire(self, now: dt.datetime) -> int:
        """What was published too long ago and not received leaves the inbox; how many deliveries ended unread by it."""
        usual = self._settings.inbox_days
        late = self._db.read(lambda tx: retention.folders_with_expired(tx, now, usual))
        return sum(self._expire(folder_id, before) for folder_id, before in late.items())

    def _expire(self, folder_id: str, before: dt.datetime) -> int:
        count = 0
        while True:
            items, deliveries = self._write(folder_id, lambda tx: retention.expire(tx, folder_id, before))
            if not items:
                return count
            self._apply(folder_id, items)
            for delivery in deliveries:
                log.warning("delivery.expired_unread", delivery=delivery, folder=folder_id)
            count += len(deliveries)

    def _write(self, folder_id: str, step: Callable[[Transaction], T]) -> T:
        """After what was gathered there."""
        with self._lock:
            gathering = self._used.get(folder_id)
        return (gathering or self._db).write(step)

    def _apply(self, folder_id: str, items: list[Item]) -> None:
        with self._lock:
            gathering = self._used.get(folder_id)
        if gathering is not None:
            gathering.index.apply(items)

    def _gathering(self, folder_id: str) -> Gathering:
        with self._lock:
            gathering = self._used.get(folder_id)
            if gathering is None:
                index = self._indexes.get(folder_id)
                if index is None:
                    linger = dt.timedelta(minutes=self._settings.linger_minutes)
                    index = self._indexes[folder_id] = Index(self._db, folder_id, linger, self._memory)
                gathering = self._used[folder_id] = Gathering(self._db, index, self._recorder)
            return gathering
