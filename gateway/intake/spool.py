"""The spool: a folder that the billing system writes to, as in a maildir.

A producer writes under `tmp/`, or under a name ending .tmp .part .partial .filepart, and renames into `new/`; what is
in `new/` counts as whole. A sidecar `X.pdf.json` must be there before `X.pdf`. A scan decides; notifications would
only be a hint. Accepted files leave `new/` once their row is committed; refused ones go to `refused/` and
quarantined ones to `quarantined/`, each with `<name>.reason.json` beside it. Every step can be killed and repeated:
the same file again gets the same answer.
"""

import asyncio
import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from .. import clock
from ..config import SpoolSettings
from ..errors import Refused, TooLarge, Unavailable
from ..pools import ThreadPool
from ..store.blobs import Blobs
from .receive import Candidate, Intake, Outcome

log = structlog.get_logger(__name__)
_UNFINISHED = (".tmp", ".part", ".partial", ".filepart")
_SIDECAR = ".json"
_MAX_SIDECAR = 64 * 1024
_LONGEST_NAME = 255  # NAME_MAX of Linux, in bytes
ACTOR = "spool"


@dataclass(frozen=True)
class _Item:
    """A file in new/, in the order of arrival."""

    name: str
    path: Path
    identity: tuple[int, int, int]

    @property
    def sidecar(self) -> Path | None:
        """Where its sidecar is, if it has one; None: a name that long can have none beside it."""
        name = self.name + _SIDECAR
        return self.path.with_name(name) if len(os.fsencode(name)) <= _LONGEST_NAME else None

    def is_unchanged(self) -> bool:
        """Whether the name still leads to the file that was found: a producer may have renamed a newer one onto it."""
        try:
            return _identity(os.lstat(self.path)) == self.identity
        except FileNotFoundError:
            return False


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ino, status.st_size


class Spool:
    """The spool worker's turn: accept what lies in new/, a batch at a time, in order of arrival."""

    def __init__(self, settings: SpoolSettings, max_bytes: int, intake: Intake, blobs: Blobs, pool: ThreadPool) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._intake = intake
        self._blobs = blobs
        self._pool = pool
        root = settings.directory
        self._new, self._refused, self._quarantined = root / "new", root / "refused", root / "quarantined"
        for folder in (root, root / "tmp", self._new, self._refused, self._quarantined):
            folder.mkdir(mode=0o770, parents=True, exist_ok=True)

    async def turn(self) -> int:
        """How many files it dealt with; 0 when new/ holds nothing that is whole."""
        self._intake.require_space()
        try:
            return await self._take_all()
        except OSError as error:  # a folder that is gone, closed or full: the rest of the daemon goes on
            raise Unavailable(f"the spool cannot be used ({error.strerror})") from error

    async def _take_all(self) -> int:
        items = await self._pool.run(self._scan)
        postponed: list[Unavailable] = []
        for start in range(0, len(items), self._settings.batch):
            batch = items[start : start + self._settings.batch]
            unavailable = await self._batch(batch)
            if len(unavailable) == len(batch):  # it is not this file or that one: something that all need is away
                raise unavailable[0]
            postponed += unavailable
        if postponed:
            raise postponed[0]
        return len(items)

    def _scan(self) -> list[_Item]:
        """Whole files by time of arrival, then name."""
        found = []
        with os.scandir(self._new) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith((*_UNFINISHED, _SIDECAR)):
                    try:
                        found.append((_identity(entry.stat(follow_symlinks=False)), entry.name))
                    except FileNotFoundError:
                        continue
        found.sort(key=lambda one: (one[0][0], one[1]))
        return [_Item(name, self._new / name, identity) for identity, name in found]

    async def _batch(self, items: Sequence[_Item]) -> list[Unavailable]:
        """Accept what can be read now; why the others stay in new/ for another turn."""
        read = list(zip(items, await asyncio.gather(*(self._read(item) for item in items)), strict=True))
        candidates = [(item, one) for item, one in read if isinstance(one, Candidate)]
        answers: list[tuple[_Item, Outcome | Refused]] = [(item, one) for item, one in read if isinstance(one, Refused)]
        if candidates:
            accepted = await self._intake.accept([one for _, one in candidates])
            answers += [(item, answer) for (item, _), answer in zip(candidates, accepted, strict=True)]
        await self._pool.run(self._clear, answers)
        return [one for _, one in read if isinstance(one, Unavailable)]

    async def _read(self, item: _Item) -> Candidate | Refused | Unavailable | None:
        """The candidate, why the file is refused, why it cannot be read now, or None when it is gone."""
        try:
            return await self._candidate(item)
        except Unavailable as error:
            return error

    async def _candidate(self, item: _Item) -> Candidate | Refused | None:
        scratch = self._blobs.scratch()
        try:
            sidecar = await self._pool.run(self._copy, item, scratch)
            return await self._intake.read(scratch, sidecar, "spool", ACTOR)
        except FileNotFoundError:
            return None
        except Refused as error:
            await self._intake.refuse(error, "spool", ACTOR)
            return error
        finally:
            scratch.unlink(missing_ok=True)

    def _copy(self, item: _Item, scratch: Path) -> bytes | None:
        """Copy the file, so that nobody can change what was hashed; its sidecar's bytes, if it has one."""
        fd = _open_regular(item.path)
        with os.fdopen(fd, "rb") as source:
            if os.fstat(fd).st_size > self._max_bytes:
                raise TooLarge(f"the document is over {self._max_bytes / 1_000_000:g} MB")
            try:
                with scratch.open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            except OSError as error:
                raise Unavailable(f"the spool's file could not be copied ({error.strerror})") from error
        if item.sidecar is None:
            return None
        try:
            fd = _open_regular(item.sidecar)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as source:
            return source.read(_MAX_SIDECAR + 1)

    def _clear(self, answered: Sequence[tuple[_Item, Outcome | Refused]]) -> None:
        for item, answer in answered:
            if not item.is_unchanged():
                continue  # what lies there now is looked at in the next turn
            if isinstance(answer, Outcome) and answer.outcome != "quarantined":
                _remove(item)
            else:
                folder = self._quarantined if isinstance(answer, Outcome) else self._refused
                _set_aside(item, folder, answer)


def _open_regular(path: Path) -> int:
    """A descriptor of a regular file; a link, FIFO or device is refused without being followed or waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"not a readable regular file ({error.strerror})", code="not_regular") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Refused("not a regular file", code="not_regular")
    return fd


def _remove(item: _Item) -> None:
    item.path.unlink(missing_ok=True)
    if item.sidecar is not None:
        item.sidecar.unlink(missing_ok=True)


def _set_aside(item: _Item, folder: Path, answer: Outcome | Refused) -> None:
    """Move a file and its sidecar out of new/, with the reason beside them; names that are taken or long get an id."""
    name = next(name for name in _names(item.name) if not os.path.lexists(folder / name))
    reason = folder / f"{name}.reason.json"
    reason.write_text(json.dumps(_reason(item, answer), indent=2, ensure_ascii=True) + "\n", "utf-8")
    # The file first: were it left without its sidecar, it could get another answer the next time.
    for source, target in ((item.path, name), (item.sidecar, f"{name}{_SIDECAR}")):
        if source is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, folder / target)


def _names(name: str) -> Iterator[str]:
    if len(os.fsencode(name)) < 200:
        yield name
    while True:
        yield f"{clock.new_id('spl')}.pdf"


def _reason(item: _Item, answer: Outcome | Refused) -> dict[str, str]:
    shown = item.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    at = clock.now().isoformat(timespec="seconds")
    if isinstance(answer, Outcome):
        return {"file": shown, "at": at, "code": "quarantined", "reason": answer.reason, "document": answer.document_id}
    return {"file": shown, "at": at, "code": answer.code, "reason": answer.message}
