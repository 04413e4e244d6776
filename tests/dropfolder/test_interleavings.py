"""Any interleaving of publishers, clocks, readers and movers keeps the folder's promises."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from gateway.domain.folders import ReceiptMode
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict, NotFound
from tests.dropfolder.ground import Ground
from tests.dropfolder.world import World

SIZE = 40
TARGETS = ["/inbox/x.done", "/inbox/X.DONE", "/inbox/done/a", "/inbox/done/b", "/processed/a", "/inbox/done"]
SHORT, LONG = st.sampled_from([0.3, 1.0, 1.7]), st.sampled_from([-3600.0, -61.0, 61.0, 3600.0])


@dataclass(eq=False)
class Known:
    """What the model knows of one entry."""

    name: str
    content: bytes
    delivery: str
    place: str
    ranges: set[int] = field(default_factory=set)
    doubtful: dict[int, range] = field(default_factory=dict)  # by gateway: what a lost connection may have taken
    is_read: bool = False
    is_renamed: bool = False
    is_removed: bool = False
    is_received: bool = False
    is_touched: bool = False  # by whoever is not the cursor


@dataclass
class Cursor:
    """An ERP that asks for what is newer than the newest it has seen."""

    newest: int = -1
    taken: set[str] = field(default_factory=set)

    def poll(self, visit: Visit, directory: str) -> None:
        nodes = visit.ask(visit.listing, directory).take(10**6)
        fresh = [node for node in nodes if not node.is_directory and node.mtime > self.newest]
        self.taken |= {node.name for node in fresh}
        self.newest = max([self.newest, *(node.mtime for node in fresh)])


class Interleavings(RuleBasedStateMachine):
    """Two gateways on one database, several sessions, one folder."""

    entries: Bundle[Known] = Bundle("entries")
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.ground = Ground(self.template)
        self.at, self.db = self.ground.at, self.ground.db
        self.known: list[Known] = []
        self.inbox, self.archive = Cursor(), Cursor()

    @initialize(mode=st.sampled_from(list(ReceiptMode)))
    def open_folder(self, mode: ReceiptMode) -> None:
        self.world = World(self.db, self.ground.blobs, mode=mode)
        here = [self.world.visit(), self.world.visit()]
        self.world.another_gateway()
        self.visits = [*here, self.world.visit()]

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self._let_the_cursors_catch_up()
                self.world.close()
        finally:
            self.ground.close()

    def _let_the_cursors_catch_up(self) -> None:
        self.at.pass_(300 * 3600)
        self.client_polls()
        untouched = {known.name for known in self.known if not known.is_touched}
        everything = {known.name for known in self.known}
        assert untouched <= self.inbox.taken
        assert self.archive.taken == everything

    # -- the world moves

    @rule(target=entries, count=st.integers(1, 3))
    def publish(self, count: int) -> MultipleResults[Known]:
        contents = [bytes([len(self.known) + i]) * SIZE for i in range(count)]
        deliveries = self.world.publish(*contents)
        names = [entry.name for entry in self.world.entries()][-count:]
        new = [
            Known(name, content, delivery, f"/inbox/{name}")
            for name, content, delivery in zip(names, contents, deliveries, strict=True)
        ]
        self.known += new
        return multiple(*new)

    @rule(seconds=SHORT)
    def time_passes(self, seconds: float) -> None:
        self.at.pass_(seconds)

    @rule(seconds=LONG)
    def the_clock_is_set(self, seconds: float) -> None:
        self.at.step(seconds)

    @rule()
    def client_polls(self) -> None:
        visit = self.visits[0]
        self.inbox.poll(visit, "/inbox")
        for year in visit.ask(visit.listing, "/archive").take(99):
            for month in visit.listing(f"/archive/{year.name}").take(99):
                self.archive.poll(visit, f"/archive/{year.name}/{month.name}")

    # -- what clients do; a name that is not visible yet, or to this gateway, is simply not there

    @rule(
        known=entries, who=st.integers(0, 2), start=st.integers(0, SIZE), size=st.integers(0, SIZE), clean=st.booleans()
    )
    def read_some(self, known: Known, who: int, start: int, size: int, *, clean: bool) -> None:
        self._read(known, self.visits[who], [(start, size)], clean=clean)

    @rule(known=entries, who=st.integers(0, 2))
    def read_whole(self, known: Known, who: int) -> None:
        self._read(known, self.visits[who], [(0, 15), (15, 15), (30, 99)], clean=True)

    def _read(self, known: Known, visit: Visit, parts: list[tuple[int, int]], *, clean: bool) -> None:
        try:
            reading = visit.ask(visit.open, known.place)
        except (NotFound, Conflict):
            return
        given = b"".join(reading.read(*part) for part in parts)
        assert given == b"".join(known.content[a : a + b] for a, b in parts)
        read: set[int] = {i for a, b in parts for i in range(a, min(a + b, SIZE))}
        gateway, begun = id(visit._index), next((a for a, b in parts if b and a < SIZE), None)
        if clean:
            visit.close(reading)
            known.ranges |= read
            before = known.doubtful.get(gateway, range(0))
            if begun is not None and 0 < before.start < begun <= before.stop:  # one answer: it began at its start
                known.ranges |= set(range(before.start, begun))
            known.is_read |= known.ranges == set(range(SIZE))
        else:
            visit.abandon([reading])
            ((a, b),) = parts
            known.doubtful[gateway] = range(a, max(a, min(a + b, SIZE)))
        self._settle(known)

    @rule(known=entries, who=st.integers(0, 2))
    def remove(self, known: Known, who: int) -> None:
        try:
            self.visits[who].remove(known.place)
        except NotFound:
            return
        known.is_removed = known.is_touched = True
        self._settle(known)

    @rule(known=entries, who=st.integers(0, 2), to=st.sampled_from(TARGETS))  # `target` is hypothesis's own word
    def rename(self, known: Known, who: int, to: str) -> None:
        try:
            self.visits[who].rename(known.place, to)
        except (NotFound, Conflict):
            return
        for other in self.known:
            if other is not known and other.place.lower() == to.lower() and not other.is_removed:
                assert other.is_received, "a listed name was overwritten"
        known.place, known.is_renamed, known.is_touched = to, True, True
        self._settle(known)

    @rule(known=entries, who=st.integers(0, 2))
    def rename_back(self, known: Known, who: int) -> None:
        own = f"/inbox/{known.name}"
        try:
            self.visits[who].rename(known.place, own)
        except NotFound:
            return
        known.place, known.is_renamed = own, False

    @rule()
    def reads_are_recorded(self) -> None:
        """A moment later; meanwhile anything may happen, and the outcome is the same."""
        self.world.entries()

    @rule()
    def a_day_later_renames_return(self) -> None:
        self.at.pass_(25 * 3600)
        self.reads_are_recorded()
        self.world.folders.return_renamed(self.at.now() + dt.timedelta(days=99))  # whatever the clock did
        for known in self.known:
            if known.is_renamed and not (known.is_read or known.is_removed or known.is_received):
                known.place, known.is_renamed = f"/inbox/{known.name}", False

    def _settle(self, known: Known) -> None:
        mode = self.world.mode
        out_of_place = known.is_removed or known.is_renamed
        if known.is_read and (mode is ReceiptMode.FULL_READ or (mode is ReceiptMode.DELETE and out_of_place)):
            known.is_received = True
        known.is_touched |= known.is_received

    # -- what always holds

    @invariant()
    def a_receipt_has_its_full_read(self) -> None:
        if not hasattr(self, "world") or any(visit._gathering._waiting for visit in self.visits):
            return
        rows = {entry.name: entry for entry in self.world.entries()}
        for known in self.known:
            row = rows[known.name]
            assert (row.received_at is not None) == known.is_received
            assert (row.fully_read_at is not None) == known.is_read
            assert row.listed == (not known.is_removed and not known.is_received)
        sequences = [row.sequence for row in rows.values()]
        assert sequences == list(range(1, len(sequences) + 1))

    @invariant()
    def every_listed_name_opens_its_own_bytes(self) -> None:
        if not hasattr(self, "world"):
            return
        visit = self.world.visit(begun=False)
        visit._index.expire()  # what the other gateway did may be a second old otherwise
        by_place = {known.place: known for known in self.known if not known.is_removed}
        for directory in ("/inbox", "/inbox/done", "/processed"):
            try:
                shown = visit.ask(visit.listing, directory).take(10**6)
            except NotFound:
                continue
            folded = [node.name.lower() for node in shown]
            assert len(set(folded)) == len(folded)
            for node in shown:
                if not node.is_directory:
                    reading = visit.open(f"{directory}/{node.name}")
                    assert reading.read(0, 99) == by_place[f"{directory}/{node.name}"].content
                    reading.release()


@pytest.mark.timeout(300)
def test_any_interleaving_keeps_the_promises(template: Path) -> None:
    """Nothing overwritten, nothing received without a full read, no cursor misses an entry, the archive untouched."""
    Interleavings.template = template
    machine = Interleavings.TestCase
    machine.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
    machine().runTest()
