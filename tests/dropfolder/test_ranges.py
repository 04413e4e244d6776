"""Unions of ranges, checked against sets of single bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dropfolder import ranges

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: [min(p), max(p)]), max_size=12)


def bytes_of(some: ranges.Ranges) -> set[int]:
    return {byte for start, end in some for byte in range(start, end)}


def is_normal(some: ranges.Ranges) -> bool:
    return all(a[0] < a[1] for a in some) and all(a[1] < b[0] for a, b in itertools.pairwise(some))


@given(pairs)
def test_adding_one_by_one_is_the_union(some: ranges.Ranges) -> None:
    """In whatever order parallel chunks arrive."""
    grown: ranges.Ranges = []
    for start, end in some:
        ranges.add(grown, start, end)
    assert grown == ranges.union(some)
    assert is_normal(grown)
    assert bytes_of(grown) == bytes_of(some)
    assert ranges.total(grown) == len(bytes_of(some))


@given(pairs)
def test_beyond_the_most_the_longest_are_kept(some: ranges.Ranges) -> None:
    """What is dropped is claimed late, and nothing is claimed that was not read."""
    grown: ranges.Ranges = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "MAX", 3)
        for start, end in some:
            before = [list(pair) for pair in grown]
            ranges.add(grown, start, end)
            assert grown == ranges.union(before, [[start, end]])
            assert is_normal(grown) and len(grown) <= 3
    assert bytes_of(grown) <= bytes_of(some)


@given(pairs, pairs)
def test_the_union_of_sessions_has_the_bytes_of_both(one: ranges.Ranges, other: ranges.Ranges) -> None:
    """Two halves in two sessions are the whole."""
    assert bytes_of(ranges.union(one, other)) == bytes_of(one) | bytes_of(other)


@given(pairs, st.integers(0, 60), st.integers(0, 60))
def test_taking_out_leaves_the_others(some: ranges.Ranges, a: int, b: int) -> None:
    """What a lost connection had under way is taken out, nothing else."""
    start, end = min(a, b), max(a, b)
    left = ranges.without(some, start, end)
    assert bytes_of(left) == bytes_of(some) - set(range(start, end))


@given(pairs, st.integers(1, 60))
def test_covered_means_that_no_byte_is_missing(some: ranges.Ranges, size: int) -> None:
    """One missing byte is a partial read."""
    assert ranges.covers(ranges.union(some), size) == (set(range(size)) <= bytes_of(some))


def test_single_bytes_far_apart_cost_no_memory() -> None:
    """And only ever claim less than was read."""
    grown: ranges.Ranges = []
    for start in range(0, 20_000, 10):
        ranges.add(grown, start, start + 1)
    assert len(grown) == ranges.MAX
