"""Uploads: what comes in pieces of any size is the same form, and what is no form leaves nothing."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, Refused, TooLarge
from gateway.pools import ThreadPool
from gateway.web import uploads

TYPE = "multipart/form-data; boundary=XX"


def _part(name: str, content: bytes, extra: str = "") -> bytes:
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + content + b"\r\n"


def _form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool("test", 2, 10)
    yield made
    made.close()


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count()

    def scratch(self) -> Path:
        return self.path / str(next(self._numbers))

    def names(self) -> list[str]:
        return [path.name for path in self.path.iterdir()]


def _read(
    pool: ThreadPool, folder: _Folder, body: bytes, *, size: int = 10_000, limit: int = 1_000_000, kind: str = TYPE
) -> uploads.Upload:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return asyncio.run(uploads.read(kind, pieces(), folder.scratch, limit, pool))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000), sidecar=st.none() | st.binary(max_size=300), size=st.integers(1, 400))
def test_a_form_is_the_same_however_it_is_cut(
    pool: ThreadPool, tmp_path: Path, content: bytes, sidecar: bytes | None, size: int
) -> None:
    """A network cuts where it likes, also inside the boundary; the bytes may look like one."""
    folder = _Folder(tmp_path)
    parts = [_part("file", content, '; filename="x.pdf"')] + ([] if sidecar is None else [_part("sidecar", sidecar)])
    if b"\r\n--XX" in content or (sidecar and b"\r\n--XX" in sidecar):
        return
    upload = _read(pool, folder, _form(*parts), size=size)
    assert (upload.path.read_bytes(), upload.sidecar, upload.size) == (content, sidecar, len(content))
    assert upload.sha256 == hashlib.sha256(content).hexdigest()
    upload.path.unlink()


def test_a_file_over_several_writes_is_whole_and_only_its_owner_s(pool: ThreadPool, tmp_path: Path) -> None:
    """It goes to disk a megabyte at a time, in order."""
    content = bytes(range(256)) * 20_000
    upload = _read(pool, _Folder(tmp_path), _form(_part("file", content)), size=65_536, limit=len(content))
    assert upload.path.read_bytes() == content
    assert upload.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("body", "kind", "error", "code"),
    [
        (_form(_part("sidecar", b"{}")), TYPE, Refused, "form"),
        (_form(), TYPE, Refused, "form"),
        (b"", TYPE, Refused, "form"),
        (_form(_part("file", b"a"), _part("file", b"b")), TYPE, Refused, "form"),
        (_form(_part("file", b"a"), _part("side_car", b"{}")), TYPE, Refused, "form"),
        (_form(_part("file", b"a"), _part("sidecar", b"{}"), _part("sidecar", b"{}")), TYPE, Refused, "form"),
        (_part("file", b"a" * 100), TYPE, Refused, "form"),
        (_part("file", b"a" * 5000)[:3000], TYPE, Refused, "form"),
        (b"not a form at all", TYPE, Refused, "form"),
        (_form(_part("file", b"a")), "application/json", Refused, "media_type"),
        (_form(_part("file", b"a")), "multipart/form-data", Refused, "form"),
        (_form(_part("file", b"a")), "", Refused, "media_type"),
        (_form(_part("file", b"a", "; x=" + "y" * 9000)), TYPE, Refused, "form"),
        (_form(_part("file", b"a" * 1_000_001)), TYPE, TooLarge, "too_large"),
        (_form(_part("file", b"a"), _part("sidecar", b" " * 70_000)), TYPE, TooLarge, "sidecar_too_large"),
    ],
)
def test_what_is_not_one_whole_form_is_refused_and_leaves_no_file(
    pool: ThreadPool, tmp_path: Path, body: bytes, kind: str, error: type[GatewayError], code: str
) -> None:
    """A misspelt part is not a document without its sidecar; half an upload is no document."""
    folder = _Folder(tmp_path)
    with pytest.raises(error) as caught:
        _read(pool, folder, body, kind=kind)
    assert caught.value.code == code
    assert folder.names() == []


def test_a_form_that_is_whole_is_not_called_cut_off(pool: ThreadPool, tmp_path: Path) -> None:
    """Whoever forgot the file would look for a network fault."""
    with pytest.raises(Refused, match="no part named `file`"):
        _read(pool, _Folder(tmp_path), _form(_part("sidecar", b"{}")))


def test_an_upload_that_breaks_off_leaves_no_file(pool: ThreadPool, tmp_path: Path) -> None:
    """The client went away in the middle."""
    folder = _Folder(tmp_path)

    async def broken() -> AsyncIterator[bytes]:
        yield _part("file", b"a" * 3_000_000)[:2_500_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(uploads.read(TYPE, broken(), folder.scratch, 10_000_000, pool))
    assert folder.names() == []
