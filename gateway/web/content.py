"""Bytes of the store as an HTTP response: ranges (RFC 9110 14), If-None-Match, a file name that does no harm.

`preadv` of a local blob does not wait for a database or a network, so it runs on the loop, a quarter of a megabyte
at a time.
"""

import os
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from fastapi.responses import Response, StreamingResponse

from ..sealing.renditions import Rendition
from .calls import etag
from .problems import problem

_BLOCK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class _File(StreamingResponse):
    """Closes its descriptor however it ends, also when the client went away before the first byte."""

    def __init__(self, fd: int, start: int, end: int, status: int, headers: Mapping[str, str], kind: str) -> None:
        super().__init__(_blocks(fd, start, end), status, headers, kind)
        self._fd = fd

    async def __call__(self, *arguments: object) -> None:
        """ASGI."""
        try:
            await super().__call__(*arguments)  # type: ignore[arg-type]
        finally:
            os.close(self._fd)


def response(fd: int, rendition: Rendition, headers: Mapping[str, str]) -> Response:
    """The answer to a GET with these request headers; takes over `fd`."""
    tag = etag(rendition.sha256)
    common = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": disposition(rendition.file_name),
    }
    if tag in [known.strip() for known in headers.get("if-none-match", "").split(",")]:
        os.close(fd)
        return Response(status_code=304, headers=common)
    wanted = _range(headers, rendition.size, tag)
    if wanted is None:
        return _File(fd, 0, rendition.size, 200, common | {"Content-Length": str(rendition.size)}, rendition.media_type)
    start, end = wanted
    if start >= end:
        os.close(fd)
        beyond = problem(416, "range", f"there are {rendition.size} bytes", {})
        beyond.headers["Content-Range"] = f"bytes */{rendition.size}"
        return beyond
    part = {"Content-Range": f"bytes {start}-{end - 1}/{rendition.size}", "Content-Length": str(end - start)}
    return _File(fd, start, end, 206, common | part, rendition.media_type)


def disposition(name: str) -> str:
    """Content-Disposition (RFC 6266): a plain name for every client, the exact one beside it."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{exact}'


def _range(headers: Mapping[str, str], size: int, tag: str) -> tuple[int, int] | None:
    """[start, end) of a single range, empty when it lies beyond the bytes; None for the whole.

    The whole is answered without a range, to several ranges, and to a range of other bytes (If-Range).
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or match.groups() == ("", "") or headers.get("if-range", tag) != tag:
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    return start, end


async def _blocks(fd: int, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        block = os.pread(fd, min(_BLOCK, end - start), start)
        if not block:
            return
        start += len(block)
        yield block
