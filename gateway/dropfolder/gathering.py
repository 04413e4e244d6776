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
MOST_WAITING = 1000  # deeds in one folder
Deed = Read | Callable[[Transaction], None]


class Gathering:
    """What was done in one folder, and every write that comes after it. Any thread may use it."""

    def __init__(self, db: Database, index: Index, recorder: "Recorder") -> None:
        self._db = db
        self.index = index
        self._recorder = recorder
        self._waiting: list[Deed] = []
        self._under_way: set[threading.Event] = set()  # transactions that took some along
        self._lock = threading.Lock()  # held for microseconds: the event loop takes it too

    def gather(self, deed: Deed) -> bool:
        """Record it a moment later. False when it has to be recorded now: it may be a receipt, or too much waits.

        A step may run again after a lost race, as any step of a transaction.
        """
        if not self._recorder.is_gathering or self.index.is_stale:
            return False
        if isinstance(deed, Read) and self._may_be_receipt(deed.item):
            return False
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(deed)
            is_first = len(self._waiting) == 1
        if is_first:
            self._recorder.expect(self)
        return True

    def put_off(self, deed: Deed) -> None:
        """Record it once the database is back. Unavailable: too much waits for that already."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable("too much waits to be recorded; try again")
            self._waiting.append(deed)
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
        done = threading.Event()
        with self._lock:
            before, self._under_way = self._under_way, {*self._under_way, done}
        for other in before:
            other.wait()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        try:
            received, result = self._take_along(waiting, step, reads)
        except BaseException as error:
            self._recorder.is_away = isinstance(error, Unavailable)
            with self._lock:
                self._waiting[:0] = waiting
            if waiting:
                self._recorder.expect(self)
            raise
        finally:
            with self._lock:
                self._under_way.discard(done)
            done.set()
        self._recorder.is_away = False
        self._received(received)
        return result

    def _take_along(
        self, waiting: list[Deed], step: Callable[[Transaction], T], reads: Sequence[Read]
    ) -> tuple[list[Item], T]:
        """What became received, and `step`'s result. `waiting` keeps what has not been recorded."""
        is_recorded = False

        def everything(tx: Transaction) -> tuple[list[Item], T]:
            nonlocal is_recorded
            is_recorded = False  # it may run again
            received = self._record(tx, [*waiting, *reads])
            is_recorded = True
            return received, step(tx)

        try:
            return self._db.write(everything)
        except Unavailable:
            raise
        except Exception:
            if is_recorded or not waiting:
                raise
        self._one_by_one(waiting)
        return self._db.write(everything)

    def _one_by_one(self, waiting: list[Deed]) -> None:
        """Record each alone: what cannot be recorded at all must not keep everything else of its folder from it."""
        while waiting:
            try:
                self._received(self._db.write(lambda tx: self._record(tx, waiting[:1])))
            except Unavailable:
                raise
            except Exception:
                log.exception("gathered.lost", folder=self.index.folder_id, deed=repr(waiting[0])[:300])
            del waiting[0]

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
        if (self._waiting or self._under_way) and not self._db.is_closed:
            self.write(lambda _: None)


class Recorder:
    """The thread that records what was gathered; it sleeps while there is nothing."""

    def __init__(self) -> None:
        self.is_away = False  # the database, when it was last needed
        self._expected: queue.SimpleQueue[Gathering | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_gathering(self) -> bool:
        """Whether what is gathered now will be recorded soon."""
        return not (self.is_away or self._closing.is_set())

    def expect(self, gathering: Gathering) -> None:
        """Something waits there."""
        self._expected.put(gathering)
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Record what waits, as far as the database takes it; nothing is gathered any more."""
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
