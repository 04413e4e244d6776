"""What sessions do that can be no receipt is recorded a moment later, together: most of what log-ins and pulls write.

That a session began and ended, what it was shown, and what it read. Whether a read may become the receipt is asked
before its CLOSE is answered: if so, the answer waits for the commit. Everything else waits here in its order, for
GATHER_SECONDS at most or until anything else is written for its folder: that write takes along what waits, before
itself, in the same transaction. So a client's REMOVE always finds its read.

A gateway that is killed meanwhile forgets this. What a client removes that came back then says that it was removed
unread: late, and never a receipt that was none. While the database is away nothing is gathered but what ends by itself,
with whom nobody can try again: sessions, and reads that a lost connection cut.
"""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import TypeVar, cast

import structlog

from ..domain.folders import ReceiptMode
from ..errors import Unavailable
from ..store.database import Database, Transaction
from . import receipts
from .index import Index
from .items import Item
from .receipts import Read

log = structlog.get_logger(__name__)
T = TypeVar("T")
GATHER_SECONDS = 0.1
AGAIN_SECONDS = 1.0  # after a database that was away
LONGEST_SECONDS = 30.0  # that a write waits for others of its folder
MOST_WAITING = 1000  # deeds in one folder
Deed = Read | Callable[[Transaction], None]
Numbered = tuple[int, Deed]  # in the order in which they were gathered


class Gathering:
    """What was done in one folder, and every write that comes after it. Any thread may use it.

    On SQLite writes run one after the other, in the order in which they came: the first that runs takes along what
    waits, and puts it back before the next one runs if it fails. So they may all be in one commit. On PostgreSQL they
    run at the same time, but for those that take something along: the others wait until it is committed.
    """

    def __init__(self, db: Database, index: Index, recorder: "Recorder") -> None:
        self._db = db
        self.index = index
        self._recorder = recorder
        self._waiting: list[Numbered] = []
        self._numbers = itertools.count()
        self._writes = 0  # under way
        self._is_carrying = False  # whether one of them, on PostgreSQL, took something along
        self._lock = recorder.lock
        self._carried = threading.Condition(self._lock)

    def gather(self, deed: Deed) -> bool:
        """Record it a moment later. False when it has to be recorded now: it may be a receipt, or too much waits.

        A step may run again after a lost race, as any step of a transaction.
        """
        if self.index.is_stale or (isinstance(deed, Read) and self._may_be_receipt(deed.item)):
            return False
        with self._lock:
            if len(self._waiting) >= MOST_WAITING or not self._recorder.is_gathering:
                return False
            self._append(deed)
        return True

    def put_off(self, deed: Deed) -> None:
        """Record it once the database is back. Unavailable: too much waits for that already."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable("too much waits to be recorded; try again")
            self._append(deed)

    def _append(self, deed: Deed) -> None:
        self._waiting.append((next(self._numbers), deed))
        if len(self._waiting) == 1:  # else it is expected already
            self._recorder.expect(self)

    def _may_be_receipt(self, opened: Item) -> bool:
        """By what is known here; another gateway may know more, and the receipt is then a moment later."""
        mode, item = self.index.receipt_mode, self.index.now(opened)
        if item.received_at is not None:
            return False
        out_of_place = item.is_moved or item.is_gone or not item.listed
        return mode is ReceiptMode.FULL_READ or (mode is ReceiptMode.DELETE and out_of_place)

    def write(self, step: Callable[[Transaction], T], reads: Sequence[Read] = ()) -> T:
        """`step`'s result after the commit; what waits, and these reads, are recorded before it."""
        try:
            with self._turn() as takes:
                received, result = self._take_along(step, reads, takes=takes)
        except BaseException as error:
            self._recorder.is_away = isinstance(error, Unavailable)
            with self._lock:
                if self._waiting:
                    self._recorder.expect(self)
            raise
        self._recorder.is_away = False
        self._received(received)
        return result

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """One write's time; whether it takes along what waits. Unavailable: others did, and take too long."""
        takes = self._db.is_sqlite
        with self._lock:
            self._writes += 1
        try:
            if not takes:
                takes = self._carry()
            yield takes
        finally:
            with self._lock:
                self._writes -= 1
                if takes:
                    self._is_carrying = False
                    self._carried.notify_all()

    def _carry(self) -> bool:
        """Wait for whoever took something along; whether there is more of it now."""
        with self._lock:
            if not self._carried.wait_for(lambda: not self._is_carrying, LONGEST_SECONDS):
                raise Unavailable("too much is written in this folder; try again")
            self._is_carrying = bool(self._waiting)
            return self._is_carrying

    def _take_along(
        self, step: Callable[[Transaction], T], reads: Sequence[Read], *, takes: bool
    ) -> tuple[list[Item], T]:
        """What became received, and `step`'s result."""
        taken: list[Numbered] = []
        failed: list[Numbered] = []

        def everything(tx: Transaction) -> tuple[list[Item], T]:
            failed.clear()  # it may run again
            self._put_back(taken)
            taken.extend(self._take() if takes else ())
            try:
                received = self._record_waiting(tx, taken, failed)
                received += self._record(tx, reads)
                result = step(tx)
                tx.flush()
            except BaseException:
                self._put_back(taken)
                raise
            return received, result

        while True:
            try:
                return self._db.write(everything)
            except BaseException as error:
                self._put_back(taken)
                if not failed or isinstance(error, Unavailable) or not isinstance(error, Exception):
                    raise
            self._one_by_one(failed)

    def _record_waiting(self, tx: Transaction, taken: list[Numbered], failed: list[Numbered]) -> list[Item]:
        failed[:] = taken
        received = self._record(tx, [deed for _, deed in taken])
        failed.clear()
        return received

    def _take(self, only: Numbered | None = None) -> list[Numbered]:
        with self._lock:
            if only is None:
                taken, self._waiting = self._waiting, []
            else:
                taken = [one for one in self._waiting if one is only]
                self._waiting = [one for one in self._waiting if one is not only]
        return taken

    def _put_back(self, taken: list[Numbered]) -> None:
        """In its place: what was gathered meanwhile comes after it."""
        if taken:
            with self._lock:
                self._waiting = sorted(taken + self._waiting, key=itemgetter(0))
            taken.clear()

    def _one_by_one(self, deeds: Sequence[Numbered]) -> None:
        """Record each alone: what cannot be recorded at all must not keep everything else of its folder from it."""
        for one in list(deeds):
            try:
                self._received(self._db.write(partial(self._alone, one)))
            except Unavailable:
                raise
            except Exception:
                if self._take(one):
                    log.exception("gathered.lost", folder=self.index.folder_id, deed=repr(one[1])[:300])

    def _alone(self, one: Numbered, tx: Transaction) -> list[Item]:
        taken = self._take(one)
        try:
            return self._record(tx, [deed for _, deed in taken])
        except BaseException:
            self._put_back(taken)
            raise

    def _record(self, tx: Transaction, deeds: Sequence[Deed]) -> list[Item]:
        received: list[Item] = []
        for are_reads, some in itertools.groupby(deeds, lambda deed: isinstance(deed, Read)):
            if are_reads:
                received += receipts.record_reads(tx, self.index.folder_id, cast(Iterable[Read], some))
            else:
                for step in cast(Iterable[Callable[[Transaction], None]], some):
                    step(tx)
        return received

    def _received(self, items: Sequence[Item]) -> None:
        self.index.apply(items)
        for item in items:
            log.info("entry.received", entry=item.id, folder=self.index.folder_id, sequence=item.sequence)

    def record(self) -> None:
        """Record what waits, and wait for what is on its way. Unavailable: it goes on waiting."""
        if (self._waiting or self._writes) and not self._db.is_closed:
            self.write(lambda _: None)


class Recorder:
    """The thread that records what was gathered; it sleeps while there is nothing."""

    def __init__(self) -> None:
        self.is_away = False  # the database, when it was last needed
        self.lock = threading.Lock()  # of all that is gathered; held for microseconds: the event loop takes it too
        self._expected: queue.SimpleQueue[Gathering | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_gathering(self) -> bool:
        """Whether what is gathered now will be recorded soon; for as long as the lock is held."""
        return not (self.is_away or self._closing.is_set())

    def expect(self, gathering: Gathering) -> None:
        """Something waits there. The caller holds the lock: what is gathered is expected before anything closes."""
        self._expected.put(gathering)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Record what waits, as far as the database takes it; nothing is gathered any more."""
        with self.lock:
            self._closing.set()
        self._expected.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            first = self._expected.get()
            self._closing.wait(GATHER_SECONDS)
            self._record({first, *self._rest()})
        self._record(set(self._rest()))

    def _rest(self) -> Iterator[Gathering | None]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._expected.get_nowait()

    def _record(self, expected: set[Gathering | None]) -> None:
        for gathering in expected - {None}:
            assert gathering is not None
            try:
                gathering.record()
            except Unavailable as error:
                log.warning("gathered.not_recorded", cause=error.message)
                self._closing.wait(AGAIN_SECONDS)
            except Exception:  # this thread serves every folder
                log.exception("gathered.not_recorded")
                self._closing.wait(AGAIN_SECONDS)
