"""`gateway submit`: hand in files, or all the PDFs of a directory, and say of each what became of it.

A sidecar `X.pdf.json` beside `X.pdf` goes with it. What cannot be taken now (a full disk, a busy gateway) is tried
again a few times. Files are handed in several at a time, in the order of their names.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Refused
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
    """The files meant: a file by its name, of a directory (and those below it) every PDF, by name. Refused."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() == ".pdf" and p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise Refused(f"{path}: no such file or directory")
    return list(dict.fromkeys(found))


async def submit(api: Api, files: Iterable[Path], done: Callable[[], None]) -> list[Result]:
    """Hand in files; their results in the same order. `done` is called after each."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(path: Path) -> Result:
        async with turn:
            result = await _submit(api, path)
            done()
            return result

    return list(await asyncio.gather(*map(one, files)))


async def _submit(api: Api, path: Path) -> Result:
    for wait in (*_WAITS, None):
        try:
            answer = await api.post("/documents", files=await asyncio.to_thread(_parts, path))
        except OSError as error:
            return Result(str(path), "failed", reason=error.strerror or str(error))
        except ApiError as error:
            if error.status in (503, 507) and wait is not None:
                await asyncio.sleep(wait)
                continue
            return _refused(path, error)
        return Result(
            str(path), answer["outcome"], answer["number"], answer["nature"] or "", answer["id"], answer["reason"]
        )
    raise AssertionError("the last round always answers")


def _parts(path: Path) -> dict[str, tuple[str, bytes, str]]:
    parts = {"file": ("document.pdf", path.read_bytes(), "application/pdf")}
    sidecar = path.with_name(f"{path.name}.json")
    if sidecar.is_file():
        parts["sidecar"] = ("sidecar.json", sidecar.read_bytes(), "application/json")
    return parts


def _refused(path: Path, error: ApiError) -> Result:
    if error.code == "quarantined":
        return Result(str(path), "quarantined", document=str(error.problem.get("document", "")), reason=error.message)
    outcome = "failed" if error.status >= 500 else "refused"
    return Result(str(path), outcome, reason=f"{error.message} [{error.code}]")
