"""Reads that can be no receipt are recorded a moment later, many in one transaction: most of what a pull writes.

Whether a read may become the receipt is asked before its CLOSE is answered: if so, the answer waits for the commit.
Every other read waits here, GATHER_SECONDS at most, or until anything else is written for its folder: that write takes
along what waits, before itself, in the same transaction. So a client's REMOVE always finds its read.

A gateway that is killed meanwhile forgets these reads. What was removed by a client that came back then says that it
was removed unread: late, and never a receipt that was none. While the database is away nothing is gathered.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

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
MOST_WAITING = 1000  # reads of one folder


class FolderReads:
    """What was read in one folder, and every write that depends on it. Any thread may use it."""

    def __init__(self, db: Database, index: Index, recorder: "Recorder") -> None:
        self._db = db
        self.index = index
        self._recorder = recorder
        self._waiting: list[Read] = []
        self._under_way: set[threading.Event] = set()  # transactions that took some along
        self._lock = threading.Lock()  # held for microseconds: the event loop takes it too

    def gather(self, read: Read) -> bool:
        """Record it a moment later. False when it has to be recorded now: it may be a receipt, or too many wait."""
        if not self._recorder.is_gathering or self.index.is_stale or self._may_be_receipt(read.item):
            return False
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(read)
            is_first = len(self._waiting) == 1
        if is_first:
            self._recorder.expect(self)
        return True

    def _may_be_receipt(self, opened: Item) -> bool:
        """By what is known here; another gateway may know more, and the receipt is then a moment later."""
        mode, item = self.index.receipt_mode, self.index.now(opened)
        if item.received_at is not None or mode is ReceiptMode.API:
            return False
        return mode is ReceiptMode.FULL_READ or item.is_moved or item.is_gone or not item.listed

    def write(self, step: Callable[[Transaction], T], reads: Sequence[Read] = ()) -> T:
        """`step`'s result after the commit; what waits, and these reads, are recorded before it."""
        done = threading.Event()
        with self._lock:
            waiting, self._waiting = self._waiting, []
            before, self._under_way = self._under_way, {*self._under_way, done}
        try:
            for other in before:
                other.wait()
            received, result = self._db.write(lambda tx: (self._record(tx, [*waiting, *reads]), step(tx)))
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

    def _record(self, tx: Transaction, reads: Sequence[Read]) -> list[Item]:
        return receipts.record_reads(tx, self.index.folder_id, reads) if reads else []

    def _received(self, items: Sequence[Item]) -> None:
        self.index.apply(items)
        for item in items:
            log.info("entry.received", entry=item.id, folder=self.index.folder_id, sequence=item.sequence)

    def record(self) -> None:
        """Record what waits. Unavailable: it goes on waiting."""
        if self._waiting:
            self.write(lambda _: None)


class Recorder:
    """The thread that records what was gathered; it sleeps while there is nothing."""

    def __init__(self) -> None:
        self.is_away = False  # the database, when it was last needed
        self._expected: queue.SimpleQueue[FolderReads | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_gathering(self) -> bool:
        """Whether what is gathered now will be recorded soon."""
        return not (self.is_away or self._closing.is_set())

    def expect(self, reads: FolderReads) -> None:
        """Something waits there."""
        self._expected.put(reads)
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="reads-recorder", daemon=True)
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

    def _rest(self) -> Iterator[FolderReads | None]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._expected.get_nowait()

    def _record(self, expected: set[FolderReads | None]) -> None:
        for reads in expected - {None}:
            assert reads is not None
            try:
                reads.record()
            except Unavailable as error:
                log.warning("reads.not_recorded", cause=error.message)
                self._closing.wait(AGAIN_SECONDS)
