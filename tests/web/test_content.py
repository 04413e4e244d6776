"""Bytes as a response: ranges, conditions, names."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sealing.renditions import Rendition
from gateway.web import content
from gateway.web.content import disposition

BYTES = bytes(range(256)) * 3000  # more than one block
RENDITION = Rendition("ab" * 32, len(BYTES), "20260901_C-1_F-1_ORIG.pdf")


def _get(path: Path, **headers: str) -> tuple[int, dict[str, str], bytes]:
    path.write_bytes(BYTES)
    fd = os.open(path, os.O_RDONLY)
    response = content.response(fd, RENDITION, {name.replace("_", "-"): value for name, value in headers.items()})
    sent: list[Any] = []

    async def main() -> None:
        async def receive() -> Any:
            await anyio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
        await response(scope, receive, send)

    anyio.run(main)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


def test_the_whole_comes_with_its_length_and_the_descriptor_is_closed(tmp_path: Path) -> None:
    """Blocks are put together again; nothing leaks (each case of this file checks it)."""
    status, headers, body = _get(tmp_path / "x")
    assert (status, body, headers["content-length"]) == (200, BYTES, str(len(BYTES)))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=700000-", 700_000, len(BYTES)),
        ("bytes=-5", len(BYTES) - 5, len(BYTES)),
        ("bytes=5-99999999", 5, len(BYTES)),
        ("bytes=-99999999", 0, len(BYTES)),
        ("bytes = 3 - 4", 3, 5),
    ],
)
def test_a_range_is_answered_with_exactly_its_bytes(tmp_path: Path, asked: str, start: int, end: int) -> None:
    """RFC 9110 14.1.2: both ends are inclusive, a last one beyond the end is the end."""
    status, headers, body = _get(tmp_path / "x", range=asked)
    assert (status, body) == (206, BYTES[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(BYTES)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=1-2", "bytes=5-3", "bytes=-", "bytes=a-b", "bytes=", ""])
def test_a_range_that_cannot_be_answered_as_one_is_ignored(tmp_path: Path, asked: str) -> None:
    """RFC 9110 14.2: the whole is always a right answer."""
    assert _get(tmp_path / "x", range=asked)[0] == 200


@pytest.mark.parametrize("asked", [f"bytes={len(BYTES)}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_beyond_the_bytes_is_416_with_their_length(tmp_path: Path, asked: str) -> None:
    """A resumed download of a file that is complete must learn so."""
    status, headers, body = _get(tmp_path / "x", range=asked)
    assert (status, headers["content-range"]) == (416, f"bytes */{len(BYTES)}")
    assert (headers["content-type"], json.loads(body)["code"]) == ("application/problem+json", "range")


def test_a_range_of_other_bytes_gets_the_whole(tmp_path: Path) -> None:
    """If-Range: halves of two files must never be put together."""
    tag = f'"{RENDITION.sha256}"'
    assert _get(tmp_path / "x", range="bytes=0-1", if_range=tag)[0] == 206
    assert _get(tmp_path / "x", range="bytes=0-1", if_range='"other"')[0] == 200


@pytest.mark.parametrize("tags", ['"{0}"', '"x", "{0}"'])
def test_bytes_that_are_known_are_not_sent_again(tmp_path: Path, tags: str) -> None:
    """If-None-Match with their digest."""
    status, _, body = _get(tmp_path / "x", if_none_match=tags.format(RENDITION.sha256))
    assert (status, body) == (304, b"")


@given(st.text(max_size=80))
def test_a_file_name_can_break_out_of_no_header(name: str) -> None:
    """Header injection and quotes: only safe characters outside percent-encoding."""
    header = disposition(name)
    header.encode("ascii")
    assert "\r" not in header
    assert "\n" not in header
    assert header.count('"') == 2
    assert header.startswith('attachment; filename="')
