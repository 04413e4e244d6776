"""One session's stay in its folder, as the ledger has it: that it began, what it was shown, that it ended.

Most of it is recorded a moment later (gathering.py), but before anything that the session changes. While the database
is away it waits: nobody may be there who could try again.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from .. import evidence
from ..errors import Unavailable
from ..store.database import Transaction
from . import sessions
from .gathering import Deed, Gathering
from .receipts import Read
from .sessions import Session

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Stay:
    """Of one session. Any thread may record of it."""

    def __init__(self, gathering: Gathering, session: Session) -> None:
        """Nothing is recorded before it began."""
        self.session = session
        self.highest_sequence = 0  # of the entries that it was shown
        self._gathering = gathering
        self._index = gathering.index
        self._folder_id = session.login.folder_id
        self._opened: set[str] = set()  # entries
        self._who: dict[str, Any] = {}  # filled when it is recorded that the session began
        self._recorded_sequence = 0
        self._is_begun = False
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """Record that the session began, once."""
        with self._beginning:
            if not self.begin_at_once():
                self._write(self._begin)
                self._began()

    def begin_at_once(self) -> bool:
        """The same without waiting: it is recorded before anything that the session does. False: `begin` it."""
        if not self._is_begun and self._gathering.gather(self._begin):
            self._began()
        return self._is_begun

    def _begin(self, tx: Transaction) -> None:
        if self._who and sessions.has_begun(tx, self.session):
            return  # it was committed when the database went away before it had said so
        self._who.update(sessions.begin(tx, self.session))

    def _began(self) -> None:
        self._is_begun = True
        log.info(
            "session.started",
            session=self.session.id,
            folder=self._folder_id,
            protocol=self.session.protocol,
            address=self.session.address,
            **self.session.login.facts,
            banner=self.session.banner,
        )

    def end(self) -> None:
        """Record that it ended, if it ever began; what it had opened lingers no longer on its account."""
        self._index.unpin(self._opened)
        if self._is_begun:
            end = partial(self._end, evidence.new_record_id())
            if not self._gathering.gather(end):
                with contextlib.suppress(Unavailable):
                    self._write_or_put_off(end)
            log.info("session.ended", session=self.session.id, folder=self._folder_id, sequence=self.highest_sequence)

    def _end(self, record_id: str, tx: Transaction) -> None:
        sessions.end(tx, self.session, self._who, self.highest_sequence, record_id)

    def saw(self, sequence: int) -> None:
        """An entry was listed to the client."""
        self.highest_sequence = max(self.highest_sequence, sequence)

    @property
    def has_seen_news(self) -> bool:
        """Whether `record_shown` has something to record."""
        return self.highest_sequence > self._recorded_sequence

    def record_shown(self) -> None:
        """Record the newest entry that the client was shown, at the end of a listing; once the database is back."""
        highest = self.highest_sequence

        def shown(tx: Transaction) -> None:
            sessions.shown(tx, self.session, highest)

        if not self._gathering.gather(shown):
            with contextlib.suppress(Unavailable):
                self._write_or_put_off(shown)
        self._recorded_sequence = highest

    def _know_who(self) -> None:
        if self._is_begun and not self._who:
            self._gathering.record()

    def _write_or_put_off(self, step: Callable[[Transaction], None], reads: Sequence[Read] = ()) -> None:
        """Now, or once the database is back, for nobody may be there who could try again: then Unavailable."""
        try:
            self._write(step, reads)
        except Unavailable:
            deeds: list[Deed] = [*reads, step]
            for deed in deeds:
                self._gathering.put_off(deed)
            raise

    def _write(self, step: Callable[[Transaction], T], reads: Sequence[Read] = ()) -> T:
        return self._gathering.write(step, reads)
