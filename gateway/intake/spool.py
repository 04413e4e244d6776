"""The spool: a folder that the billing system writes to, as in a maildir.

A producer writes under `tmp/`, or under a name ending .tmp .part .partial .filepart, and renames into `new/`; what is
in `new/` counts as whole. A sidecar `X.pdf.json` must be there before `X.pdf`. A scan decides; notifications would
only be a hint. Accepted files leave `new/` once their row is committed; refused ones go to `refused/` and
quarantined ones to `quarantined/`, each with `<name>.reason.json` beside it. They leave through `work/`, where no
producer renames another file onto them. Every step can be killed and repeated: the same file again gets the same
answer.
"""

import asyncio
import contextlib
import ctypes
import errno
import json
import os
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
from .accept import Candidate, Outcome
from .receive import Arrival, Intake
from .sidecar import MAX_BYTES as MAX_SIDECAR

log = structlog.get_logger(__name__)
TMP, NEW, REFUSED, QUARANTINED = "tmp", "new", "refused", "quarantined"
UNFINISHED = (".tmp", ".part", ".partial", ".filepart")
_SIDECAR = ".json"
_LONGEST_NAME = 255  # NAME_MAX of Linux, in bytes
_TOGETHER = 8  # files copied by one thread, and kept by one thread
ACTOR = "spool"
_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # fcntl.h, linux/fs.h


@dataclass
class _Item:
    """A file in new/, in the order of arrival. `sidecar_identity`: of the sidecar that was read with it."""

    name: str
    path: Path
    identity: tuple[int, int, int]
    sidecar_identity: tuple[int, int, int] | None = None

    @property
    def sidecar(self) -> Path | None:
        """Where its sidecar is, if it has one; None: a name that long can have none beside it."""
        name = self.name + _SIDECAR
        return self.path.with_name(name) if len(os.fsencode(name)) <= _LONGEST_NAME else None


_Read = Candidate | Refused | Unavailable | None  # why it is refused, why it cannot be read now; None: it is gone


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ino, status.st_size


class Spool:
    """The spool worker's turn: accept what lies in new/, a batch at a time, in order of arrival."""

    def __init__(
        self,
        settings: SpoolSettings,
        max_bytes: int,
        intake: Intake,
        blobs: Blobs,
        pool: ThreadPool,
        *,
        source: str = "spool",
        actor: str = ACTOR,
    ) -> None:
        """`source` and `actor` name the door and who came through it in every record."""
        self._source = source
        self._actor = actor
        self._settings = settings
        self._max_bytes = max_bytes
        self._intake = intake
        self._blobs = blobs
        self._pool = pool
        root = settings.directory
        self._new, self._refused, self._quarantined = root / NEW, root / REFUSED, root / QUARANTINED
        for folder in (root, root / TMP, self._new, self._refused, self._quarantined):
            folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        self._stuck: list[tuple[_Item, Outcome | Refused]] = []  # answered, and still in new/
        self._work = root / "work"
        self._work.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):  # the first turn tries again, and says what it is
            self._put_back_all()

    async def turn(self) -> int:
        """How many files it dealt with; 0 when new/ holds nothing that is whole."""
        self._intake.require_space()
        try:
            return await self._take_all()
        except OSError as error:  # a folder that is gone, closed or full: the rest of the daemon goes on
            raise Unavailable(f"the spool cannot be used ({error.strerror})") from error

    async def _take_all(self) -> int:
        """A batch is read while the one before it is accepted."""
        found = await self._pool.run(self._scan)
        items, postponed = await self._pool.run(self._clear_stuck, found)
        batches = [items[start : start + self._settings.batch] for start in range(0, len(items), self._settings.batch)]
        ahead = [asyncio.ensure_future(self._read(batch)) for batch in batches[:1]]
        try:
            for number, batch in enumerate(batches, 1):
                read = await ahead.pop()
                ahead += [asyncio.ensure_future(self._read(after)) for after in batches[number : number + 1]]
                unavailable = await self._accept(batch, read)
                if len(unavailable) == len(batch):  # not this file or that one: something that all need is away
                    raise unavailable[0]
                postponed += unavailable
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        if postponed:
            raise postponed[0]
        return len(found)

    def _scan(self) -> list[_Item]:
        """Whole files by time of arrival, then name."""
        self._put_back_all()
        found = []
        with os.scandir(self._new) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith((*UNFINISHED, _SIDECAR)):
                    try:
                        found.append((_identity(entry.stat(follow_symlinks=False)), entry.name))
                    except FileNotFoundError:
                        continue
        found.sort(key=lambda one: (one[0][0], one[1]))
        return [_Item(name, self._new / name, identity) for identity, name in found]

    def _clear_stuck(self, found: Sequence[_Item]) -> tuple[list[_Item], list[Unavailable]]:
        """What has no answer yet; why what has one still cannot leave: asked again, it would fill the ledger."""
        there = {item.name: item.identity for item in found}
        stuck, self._stuck = [one for one in self._stuck if there.get(one[0].name) == one[0].identity], []
        answered = {item.name for item, _ in stuck}
        return [item for item in found if item.name not in answered], self._clear(stuck)

    async def _accept(self, items: Sequence[_Item], read: Sequence[_Read]) -> list[Unavailable]:
        """Accept what could be read; why the others stay in new/ for another turn."""
        candidates = [(item, one) for item, one in zip(items, read, strict=True) if isinstance(one, Candidate)]
        answers: list[tuple[_Item, Outcome | Refused]] = [
            (item, one) for item, one in zip(items, read, strict=True) if isinstance(one, Refused)
        ]
        if candidates:
            accepted = await self._intake.accept([one for _, one in candidates])
            answers += [(item, answer) for (item, _), answer in zip(candidates, accepted, strict=True)]
        stuck = await self._pool.run(self._clear, answers)
        return stuck + [one for one in read if isinstance(one, Unavailable)]

    async def _read(self, items: Sequence[_Item]) -> list[_Read]:
        groups = (items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER))
        return [one for read in await asyncio.gather(*map(self._read_group, groups)) for one in read]

    async def _read_group(self, items: Sequence[_Item]) -> list[_Read]:
        scratch = [self._blobs.scratch() for _ in items]
        try:
            copied = await self._pool.run(self._copy_all, items, scratch)
            arrivals = [one for one in copied if isinstance(one, Arrival)]
            candidates = iter(await self._intake.read(arrivals, self._source, self._actor))
        except BaseException:
            for path in scratch:
                path.unlink(missing_ok=True)
            raise
        read = [next(candidates) if isinstance(one, Arrival) else one for one in copied]
        refused = (one for one in read if isinstance(one, Refused))
        await asyncio.gather(*(self._intake.refuse(one, self._source, self._actor) for one in refused))
        return read

    def _copy_all(
        self, items: Sequence[_Item], scratch: Sequence[Path]
    ) -> list[Arrival | Refused | Unavailable | None]:
        copied: list[Arrival | Refused | Unavailable | None] = []
        for item, path in zip(items, scratch, strict=True):
            try:
                copied.append(Arrival(path, self._copy(item, path)))
            except FileNotFoundError:
                copied.append(None)
            except (Refused, Unavailable) as error:
                path.unlink(missing_ok=True)
                copied.append(error)
        return copied

    def _copy(self, item: _Item, scratch: Path) -> bytes | None:
        """Copy the file, so that nobody can change what was hashed; its sidecar's bytes, if it has one."""
        fd = _open_regular(item.path)
        try:
            if os.fstat(fd).st_size > self._max_bytes:
                raise TooLarge(f"the document is over {self._max_bytes / 1_000_000:g} MB")
            _copy_to(scratch, fd)
        except OSError as error:
            raise Unavailable(f"the spool's file could not be copied ({error.strerror})") from error
        finally:
            os.close(fd)
        if item.sidecar is None:
            return None
        try:
            item.sidecar_identity = _identity(os.lstat(item.sidecar))
            fd = _open_regular(item.sidecar)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as source:
            return source.read(MAX_SIDECAR + 1)

    def _clear(self, answered: Sequence[tuple[_Item, Outcome | Refused]]) -> list[Unavailable]:
        """Take out of new/ what was answered; why some of it had to stay, which stops nothing behind it."""
        stuck = []
        for item, answer in answered:
            try:
                self._take_out(item, answer)
            except OSError as error:  # another user's folder, say
                self._stuck.append((item, answer))
                stuck.append(Unavailable(f"{item.name!a} cannot leave new/ ({error.strerror})"))
        return stuck

    def _take_out(self, item: _Item, answer: Outcome | Refused) -> None:
        """Claim what was read first: what a producer renames onto its name meanwhile is not touched."""
        file = self._claim(item.path, item.identity)
        if file is None:
            return  # what lies there now is looked at in the next turn
        sidecar = self._claim(item.sidecar, item.sidecar_identity) if item.sidecar is not None else None
        claimed = [path for path in (file, sidecar) if path is not None]
        if isinstance(answer, Outcome) and answer.outcome != "quarantined":
            for path in claimed:  # the file first: were it left without its sidecar, it could get another answer
                path.unlink()
        else:
            _set_aside(item, claimed, self._quarantined if isinstance(answer, Outcome) else self._refused, answer)

    def _claim(self, path: Path, identity: tuple[int, int, int] | None) -> Path | None:
        """Where the file is once nobody else can change it; None when it is another one than was read, or none."""
        claimed = self._work / path.name
        try:
            os.rename(path, claimed)
        except FileNotFoundError:
            return None
        if _identity(os.lstat(claimed)) == identity:
            return claimed
        with contextlib.suppress(FileExistsError):  # a third one is there: the next turn finds another name for this
            rename_new(claimed, path)
        return None

    def _put_back_all(self) -> None:
        """What was claimed and did not go, after a kill say, gets its answer again; a sidecar alone goes."""
        names = {path.name for path in self._work.iterdir()}
        for name in names:
            if not name.endswith(_SIDECAR):
                self._put_back(name, has_sidecar=name + _SIDECAR in names)
            elif name.removesuffix(_SIDECAR) not in names:
                (self._work / name).unlink()  # of a file that is out

    def _put_back(self, name: str, *, has_sidecar: bool) -> None:
        """Into new/, the sidecar first; under another name where a newer file has theirs."""
        is_taken = any(os.path.lexists(self._new / taken) for taken in (name, name + _SIDECAR))
        free = f"{clock.new_id('spl')}.pdf" if is_taken else name
        if has_sidecar:
            rename_new(self._work / (name + _SIDECAR), self._new / (free + _SIDECAR))
        rename_new(self._work / name, self._new / free)


def rename_new(source: Path, target: Path) -> None:
    """Rename, and replace nothing: FileExistsError.

    By renameat2(2): link(2) refuses directories and files of another user (proc_sys_fs(5), protected_hardlinks). On
    file systems without it (EINVAL: NFS) a look before the rename decides.
    """
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code != errno.EINVAL:
        raise OSError(code, os.strerror(code), os.fspath(source))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    os.rename(source, target)


def _copy_to(path: Path, source: int) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        offset = 0
        while sent := os.sendfile(target, source, offset, 1 << 30):
            offset += sent
    finally:
        os.close(target)


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


def _set_aside(item: _Item, claimed: Sequence[Path], folder: Path, answer: Outcome | Refused) -> None:
    """Move a file, and its sidecar behind it, with the reason beside them; names that are taken or long get an id."""
    name = next(name for name in _names(item.name) if not os.path.lexists(folder / name))
    reason = folder / f"{name}.reason.json"
    reason.write_text(json.dumps(_reason(item, answer), indent=2, ensure_ascii=True) + "\n", "utf-8")
    reason.chmod(0o640)  # the folder decides whose group may read it
    for source, target in zip(claimed, (name, f"{name}{_SIDECAR}"), strict=False):
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
