"""Whatever publishers, clocks and two gateways do: the months hold every number once, and what is over stays."""

import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gateway.delivery import orders
from gateway.dropfolder.monthly import MonthCloser
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict
from tests.dropfolder.ground import Ground
from tests.dropfolder.test_interleavings import LONG, SHORT
from tests.dropfolder.world import PARIS, World, get, names

DAY = 24 * 3600.0


class Months(RuleBasedStateMachine):
    """One folder, a session on each of two gateways on one database."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.ground = Ground(self.template)
        self.at, self.db = self.ground.at, self.ground.db
        self.deliveries: list[str] = []
        self.seen = [0, 0]  # the newest number that a gateway has shown
        self.over: dict[str, bytes] = {}  # closed months as they were first read

    @initialize()
    def open_folder(self) -> None:
        self.world = World(self.db, self.ground.blobs)
        first = self.world.visit()
        self.world.another_gateway()
        self.visits = [first, self.world.visit()]

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.at.pass_(400 * DAY)
                for who in (0, 1):
                    self.read(who)
                assert self.seen == [self.numbers()] * 2
                self.world.close()
        finally:
            self.ground.close()

    def numbers(self) -> int:
        """The folder's newest."""
        folder = self.world.folder.id
        query = f"SELECT last_sequence FROM folder WHERE id = '{folder}'"
        return int(self.db.read(lambda tx: tx.connection().exec_driver_sql(query).scalar_one()))

    @rule(count=st.integers(1, 3))
    def publish(self, count: int) -> None:
        self.deliveries += self.world.publish(*(b"%d" % (len(self.deliveries) + i) for i in range(count)))

    @rule(which=st.integers(0, 99))
    def withdraw(self, which: int) -> None:
        if not self.deliveries:
            return
        document = self.world.delivery(self.deliveries[which % len(self.deliveries)]).document_id
        with contextlib.suppress(Conflict):  # it is withdrawn already
            self.db.write(lambda tx: orders.withdraw(tx, document, "op", "wrong recipient"))

    @rule(seconds=SHORT | st.sampled_from([600.0, DAY, 13 * DAY, 31 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.at.pass_(seconds)

    @rule(seconds=LONG | st.sampled_from([-2 * DAY, 2 * DAY]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.at.step(seconds)

    @rule()
    def months_are_closed(self) -> None:
        MonthCloser(self.db, self.world.blobs, PARIS).turn()

    @rule(who=st.integers(0, 1))
    def read(self, who: int) -> None:
        """Every list there, as a session of that gateway gets it."""
        visit = self.visits[who]
        archive = self._archive(visit)
        nodes = visit.ask(visit.listing, "/manifest").take(999)
        found = {node.name: get(visit, f"/manifest/{node.name}") for node in nodes}
        assert {node.name: node.size for node in nodes} == {name: len(content) for name, content in found.items()}
        rows = [row for name in sorted(found) for row in csv.DictReader(io.StringIO(found[name].decode(), newline=""))]
        assert [int(row["sequence"]) for row in rows] == list(range(1, len(rows) + 1))
        assert archive <= {row["name"] for row in rows}
        assert len(rows) >= self.seen[who]
        self.seen[who] = len(rows)
        for (month,) in self.db.read(
            lambda tx: tx.connection().exec_driver_sql("SELECT month FROM folder_month").all()
        ):
            content = found[f"index-{month}.csv"]
            assert self.over.setdefault(month, content) == content

    def _archive(self, visit: Visit) -> set[str]:
        """What the archive lists."""
        years = names(visit, "/archive")
        months = [f"/archive/{year}/{month}" for year in years for month in names(visit, f"/archive/{year}")]
        return {name for month in months for name in names(visit, month)}


@pytest.mark.timeout(300)
def test_months_hold_every_number_once_whatever_happens(template: Path) -> None:
    """The archive never lists what no list has, a list never loses a number, and a closed one never changes."""
    Months.template = template
    machine = Months.TestCase
    machine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
    machine().runTest()
