"""Packets are cut out of the stream however it arrives."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dropfolder.nodes import Node
from gateway.servers import sftp_packets as wire
from gateway.servers.long_name import long_name
from gateway.servers.sftp_packets import Fields, Malformed, Splitter, Type

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
NOW = 1_800_000_000


@given(bodies, st.lists(st.integers(0, 200), max_size=10))
def test_packets_come_out_whole_however_the_stream_is_cut(some: list[bytes], cuts: list[int]) -> None:
    """TCP knows no packets."""
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in some)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter()
    out = [r for a, b in itertools.pairwise(edges) for r in splitter.feed(stream[a:b])]
    assert [request.body for request in out] == some
    assert all(request.is_whole for request in out)


@given(st.integers(wire.MAX_PACKET + 1, wire.MAX_PACKET * 3), st.integers(1, 300_000))
def test_a_packet_that_is_too_long_is_skipped_and_answered(length: int, step: int) -> None:
    """Its type and id are enough for an answer; the next packet is read as usual."""
    stream = length.to_bytes(4, "big") + b"\x10" + b"\0\0\0\7" + bytes(length - 5) + b"\0\0\0\1\x2a"
    splitter = Splitter()
    first, second = [r for i in range(0, len(stream), step) for r in splitter.feed(stream[i : i + step])]
    assert (first.body, first.is_whole) == (b"\x10\0\0\0\7", False)
    assert (second.body, second.is_whole) == (b"\x2a", True)


@pytest.mark.parametrize("start", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n"])
def test_what_is_no_sftp_is_found_out_at_once(start: bytes) -> None:
    """A length of zero, or of gigabytes."""
    with pytest.raises(Malformed):
        list(Splitter().feed(start))


@given(st.binary(max_size=30))
def test_fields_end_where_the_packet_ends(data: bytes) -> None:
    """A length that points outside is malformed, nothing else."""
    for take in (Fields.u32, Fields.u64, Fields.string):
        with contextlib.suppress(Malformed):
            take(Fields(data, 0))


def test_attributes_say_what_it_is() -> None:
    """Size, owner nobody, a type, whole seconds: the mode is the same for every file."""
    attrs = wire.attrs(Node("a.pdf", False, 1 << 33, NOW))
    assert attrs == bytes.fromhex("0000000f 0000000200000000 00000000 00000000 00008120 6b49d200 6b49d200")
    assert wire.attrs(Node("inbox", True, 0, 1 << 40))[20:24] == bytes.fromhex("000041e8")


@pytest.mark.parametrize(
    ("age", "shown"),
    [(0, "Jan 15 08:00"), (100 * 86400, "Oct 07 08:00"), (365 * 86400, "Jan 15  2026"), (-90, "Jan 15  2027")],
)
def test_a_long_name_reads_as_ls_prints_it(age: int, shown: str) -> None:
    """In UTC, with no name of the host's: old clients take it apart."""
    line = long_name(Node("a.pdf", False, 12345, NOW - age), NOW)
    assert line == f"-r--r-----    1 gateway  gateway  {12345:>12d} {shown} a.pdf"


def test_a_packet_has_its_length_in_front() -> None:
    """Of everything after it."""
    assert wire.packet(Type.STATUS, b"abc") == b"\0\0\0\4\x65abc"
