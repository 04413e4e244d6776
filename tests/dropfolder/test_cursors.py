"""A client with a cursor loses nothing: whoever publishes, however often, whatever the clocks do meanwhile."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dropfolder.nodes import Node
from tests.dropfolder.ground import Ground
from tests.dropfolder.world import World

STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 3)),
    st.tuples(st.just("pass"), st.sampled_from([0.3, 0.7, 1.0, 1.7])),
    st.tuples(st.just("set the clock"), st.sampled_from([-3600.0, -61.0, -1.0, 1.0, 61.0, 3600.0])),
    st.tuples(st.just("poll"), st.integers(0, 1)),  # at which of two gateways
)


@dataclass
class Cursors:
    """What ERPs remember of a folder, and what they fetched by it."""

    newest: int = -1
    newest_seen: int = -1
    seen_at_newest: set[str] = field(default_factory=set)
    by_mtime: list[str] = field(default_factory=list)  # newer than the newest
    by_mtime_and_name: list[str] = field(default_factory=list)  # not older than the newest, and another name
    by_name: list[str] = field(default_factory=list)  # names not seen before

    def poll(self, nodes: list[Node]) -> None:
        """Fetch what is new by each."""
        newer = [node for node in nodes if node.mtime > self.newest]
        self.by_mtime += [node.name for node in newer]
        self.newest = max([self.newest, *(node.mtime for node in newer)])
        other = [n for n in nodes if n.mtime >= self.newest_seen and n.name not in self.seen_at_newest]
        self.by_mtime_and_name += [node.name for node in other]
        highest = max([self.newest_seen, *(node.mtime for node in other)])
        kept = self.seen_at_newest if highest == self.newest_seen else set()
        self.seen_at_newest = kept | {node.name for node in other if node.mtime == highest}
        self.newest_seen = highest
        self.by_name += [node.name for node in nodes if node.name not in self.by_name]


class Story:
    """Two gateways on one database, each with a session in one folder; a clock of its own."""

    def __init__(self, template: Path) -> None:
        self.ground = Ground(template)
        self.at = self.ground.at
        self.world = World(self.ground.db, self.ground.blobs)
        here = self.world.visit()
        self.world.another_gateway()
        self.visits = [here, self.world.visit()]
        self.cursors = [Cursors(), Cursors(), Cursors()]  # who stays at one gateway, at the other, who goes to both

    def close(self) -> None:
        self.world.close()
        self.ground.close()

    def do(self, step: str, value: float) -> None:
        match step:
            case "publish":
                self.world.publish(*(b"x" for _ in range(int(value))))
            case "pass":
                self.at.pass_(value)
            case "set the clock":
                self.at.step(value)
            case "poll":
                self.poll(int(value))

    def poll(self, gateway: int) -> None:
        nodes = self.visits[gateway].ask(self.visits[gateway].listing, "/inbox").take(10**6)
        self.cursors[gateway].poll(nodes)
        self.cursors[2].poll(nodes)


@pytest.mark.timeout(300)
def test_no_cursor_loses_or_doubles_an_entry(template: Path) -> None:
    """By mtime alone, by mtime and name, by name alone; at one gateway or at two in turn."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(STEPS, min_size=4, max_size=30))
    def tell(steps: list[tuple[str, float]]) -> None:
        story = Story(template)
        try:
            for step in steps:
                story.do(*step)
            story.at.pass_(len(steps) * 3600 + 5)  # whatever the clock was set to, it comes there again
            for gateway in (0, 1):
                story.poll(gateway)
            published = [entry.name for entry in story.world.entries()]
            for cursor in story.cursors:
                for fetched in (cursor.by_mtime, cursor.by_mtime_and_name, cursor.by_name):
                    assert sorted(fetched) == sorted(published)
        finally:
            story.close()

    tell()
