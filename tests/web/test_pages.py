"""Cursors: what we gave comes back as it was, anything else is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.errors import Refused
from gateway.web import pages


@given(st.sampled_from(["doc", "dlv", "cli", "tok"]))
def test_a_cursor_gives_back_the_id_that_it_was_made_of(prefix: str) -> None:
    """And fits into a query without escapes."""
    last = clock.new_id(prefix)
    cursor = pages.encode(last)
    assert pages.decode(cursor) == last
    assert cursor.isalnum() or set(cursor) <= set("-_") | set(filter(str.isalnum, cursor))


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_refused_and_never_an_error_of_another_kind(cursor: str) -> None:
    """It comes from outside: SQL, NUL, half a character, somebody else's format."""
    with pytest.raises(Refused) as caught:
        pages.decode(cursor)
    assert caught.value.code == "cursor"


@given(st.integers(0, 40), st.integers(1, 39))
def test_a_cursor_that_was_cut_or_changed_is_refused_or_another_place(at: int, length: int) -> None:
    """It moves where a page begins, and nothing else."""
    cursor = pages.encode(clock.new_id("doc"))
    changed = cursor[:at] + "Z" + cursor[at + 1 :]
    for odd in (cursor[:length] if length < len(cursor) else cursor + "A", changed):
        try:
            pages.decode(odd)
        except Refused as error:
            assert error.code == "cursor"  # noqa: PT017 - either is right
