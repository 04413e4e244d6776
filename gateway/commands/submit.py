"""`gateway submit`: hand in files, or all the PDFs of a directory, and say of each what became of it.

A sidecar `X.pdf.json` beside `X.pdf` goes with it. What cannot be taken now (a full disk, a busy gateway) is tried
again a few times. Files are handed in several at a time, in the order of their names.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import Refused, Unavailable
from .reach import Api, ApiError

AT_ONCE = 4
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Result:
    """What became of one file. `outcome`: new, again, quarantined, refused, failed."""

    file: str
    outcome: str
    number: str = ""
    nature: str = ""
    document: str = ""
    reason: str = ""

    @property
    def is_taken(self) -> bool:
        """It is in, and nobody has to do anything."""
        return self.outcome in ("new", "again")


def gather(paths: Sequence[Path]) -> list[Path]:
    """The files meant: a file by its name, of a directory (and those below it) every PDF, by name.

    Refused: nothing is there, or a directory cannot be read: what is in it must not be passed over in silence.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(_pdfs(path))
        elif path.exists():
            found.append(path)
        else:
            raise Refused(f"{path}: no such file or directory")
    return list(dict.fromkeys(found))


def _pdfs(directory: Path) -> Iterator[Path]:
    def cannot(error: OSError) -> None:
        raise Refused(f"{error.filename}: {error.strerror}")

    for place, _, names in os.walk(directory, onerror=cannot):
        paths = (Path(place, name) for name in names if name.lower().endswith(".pdf"))
        yield from (path for path in paths if path.is_file())


async def submit(api: Api, files: Iterable[Path], done: Callable[[], None]) -> list[Result]:
    """Hand in files; their results in the same order. `done` is called after each."""
    turn = asyncio.Semaphore(AT_ONCE)
    waits = list(_WAITS)

    async def one(path: Path) -> Result:
        async with turn:
            result = await _submit(api, path, waits)
            done()
            return result

    return list(await asyncio.gather(*map(one, files)))


async def _submit(api: Api, path: Path, waits: list[float]) -> Result:
    """`waits` is emptied where waiting did not help: the other files are tried once."""
    for wait in (*waits, None):
        try:
            with contextlib.ExitStack() as opened:
                answer = await api.post("/documents", files=_parts(path, opened))
        except OSError as error:
            return Result(str(path), "failed", reason=error.strerror or str(error))
        except (Unavailable, ApiError) as error:
            is_for_now = isinstance(error, Unavailable) or error.status in (503, 507)
            if is_for_now and wait is not None:
                await asyncio.sleep(wait)
                continue
            if is_for_now:
                waits.clear()
            return _not_taken(path, error)
        return Result(
            str(path), answer["outcome"], answer["number"], answer["nature"] or "", answer["id"], answer["reason"]
        )
    raise AssertionError("the last round always answers")


def _parts(path: Path, opened: contextlib.ExitStack) -> dict[str, tuple[str, BinaryIO, str]]:
    """The form, read while it is sent; OSError."""
    parts = {"file": ("document.pdf", opened.enter_context(_open(path)), "application/pdf")}
    sidecar = path.with_name(f"{path.name}.json")
    if sidecar.exists():
        parts["sidecar"] = ("sidecar.json", opened.enter_context(_open(sidecar)), "application/json")
    return parts


def _open(path: Path) -> BinaryIO:
    """A regular file: a pipe would be waited for, and a device read until the memory is full."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(None, "not a regular file")
    return file


def _not_taken(path: Path, error: Unavailable | ApiError) -> Result:
    if isinstance(error, Unavailable):
        return Result(str(path), "failed", reason=error.message)
    if error.code == "quarantined":
        return Result(str(path), "quarantined", document=str(error.problem.get("document", "")), reason=error.message)
    outcome = "failed" if error.status >= 500 else "refused"
    return Result(str(path), outcome, reason=f"{error.message} [{error.code}]")
