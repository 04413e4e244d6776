"""Verify a folder's manifests offline: nothing is missing from the first number here to the last.

Anybody who has the files can: no database, no network, no settings. Each manifest's signature and form
(manifest_file.py), the chain from day to day by SHA-256, no day without one, no number missing or twice; and, with a
directory of documents, that each one there is what was published. What the files cannot show is said as a note: what
was before the first, and who the signer is when no certificate was given.
"""

import datetime as dt
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Refused
from ..keys.trust import Trust
from . import manifest_file, month_file
from .manifest_file import MAX_BYTES, MAX_SIGNATURE_BYTES, NAME, Event, Manifest, Signed

_MOST_SAID = 1000  # findings of one check: who has more needs no list


@dataclass(frozen=True)
class Finding:
    """One sentence about one file. Not `is_wrong`: a note, which the proof stands with."""

    is_wrong: bool
    file: str
    text: str


@dataclass(frozen=True)
class Run:
    """What the manifests of one folder prove together."""

    folder: str
    issuer: str
    manifests: int
    first_day: str
    last_day: str
    first: int
    last: int  # below `first`: no number at all
    signers: tuple[str, ...]


@dataclass
class Proof:
    """The verdict: what was found, and what stands."""

    findings: list[Finding] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    documents: int = 0  # on disk, with the bytes that were published

    @property
    def holds(self) -> bool:
        """Whether there is a manifest, and nothing is wrong."""
        return bool(self.runs) and not any(one.is_wrong for one in self.findings)

    def wrong(self, file: str, text: str) -> None:
        """The proof does not hold."""
        if sum(one.is_wrong for one in self.findings) < _MOST_SAID:
            self.findings.append(Finding(True, file, text))

    def note(self, file: str, text: str) -> None:
        """What a reader must know to judge it."""
        self.findings.append(Finding(False, file, text))


@dataclass(frozen=True)
class Source:
    """A manifest's name and the bytes of it and of its signature; None: there is none."""

    name: str
    content: bytes
    signature: bytes | None


def gather(paths: Iterable[Path]) -> Iterator[Source]:
    """The manifests that these files and directories (not those inside them) hold, each read when it is its turn.

    Refused: a path that is not there, cannot be read, or is too large.
    """
    for path in paths:
        if not path.is_dir():
            yield _source(path)
            continue
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from None
        for name in names:
            if NAME.fullmatch(name):
                yield _source(path / name)


def months_of(paths: Iterable[Path]) -> list[Path]:
    """The monthly lists that lie in these directories."""
    return [month for path in paths if path.is_dir() for month in sorted(path.glob("index-[0-9]*-[0-9]*.csv"))]


def verify(
    sources: Iterable[Source],
    trust: Trust | None,
    entries: Path | None = None,
    published: Iterable[Event] | None = None,
    months: Iterable[Path] = (),
) -> Proof:
    """The proof that these manifests are. `trust`: roots, or the signer's own certificate.

    `entries`: a directory of documents; `published`: what a folder's events are said to be, by number; `months`: of one
    folder's monthly lists.
    """
    proof, folders = Proof(), dict[str, list[Signed]]()
    for source in sources:
        try:
            if source.signature is None:
                raise Refused(f"its signature is missing: {source.name}.p7s is not beside it")
            signed = manifest_file.read(source.name, source.content, source.signature, trust)
            folders.setdefault(signed.manifest.folder, []).append(signed)
        except Refused as error:
            proof.wrong(source.name, error.message)
    for folder in sorted(folders):
        _run(proof, sorted(folders[folder], key=lambda one: one.manifest.day))
    events = [event for days in folders.values() for one in days for event in one.manifest.events]
    if entries is not None and folders:
        _documents(proof, entries, events)
    if published is not None and folders:
        _compare(proof, {event.sequence: event for event in events}, published)
    if len(folders) == 1:
        _months(proof, months, {event.sequence: event for event in events})
    return proof


def _run(proof: Proof, days: list[Signed]) -> None:
    first, last = days[0].manifest, days[-1].manifest
    if first.previous is not None:
        text = f"it follows {first.previous.name}, which is not here: what was before is not checked"
        proof.note(first.name, text)
    elif first.first != 1:
        proof.wrong(first.name, f"it follows no other and begins with number {first.first}: what is before is missing")
    for before, after in itertools.pairwise(days):
        _follows(proof, before, after)
    _signers(proof, days)
    signers = tuple(dict.fromkeys(one.signature.subject for one in days))
    proof.runs.append(Run(first.folder, first.issuer, len(days), first.day, last.day, first.first, last.last, signers))


def _follows(proof: Proof, before: Signed, after: Signed) -> None:
    one, two = before.manifest, after.manifest
    if one.day == two.day:
        if before.sha256 != after.sha256:
            proof.wrong(two.name, "there are two different manifests of this day")
        return
    is_next = _missing_days(proof, one, two)
    if two.previous is None or (is_next and two.previous.name != one.name):
        proof.wrong(two.name, f"it does not name {one.name} as the one before it: the chain is broken")
    elif is_next and two.previous.sha256 != before.sha256:
        proof.wrong(two.name, f"it names {one.name} by another SHA-256: one of the two was replaced")
    if two.first > one.last + 1:
        proof.wrong(two.name, f"numbers {one.last + 1} to {two.first - 1} are in no manifest here")
    elif two.first <= one.last:
        proof.wrong(two.name, f"number {two.first} stands in {one.name} too")


def _missing_days(proof: Proof, one: Manifest, two: Manifest) -> bool:
    """Whether no day between is missing."""
    day, end = dt.date.fromisoformat(one.day), dt.date.fromisoformat(two.day)
    missing = (end - day).days - 1
    if missing:
        first, last = day + dt.timedelta(days=1), end - dt.timedelta(days=1)
        what = f"manifest of {first} is" if first == last else f"manifests of {first} to {last} are"
        proof.wrong(two.name, f"before it the {what} missing")
    return not missing


def _signers(proof: Proof, days: list[Signed]) -> None:
    """Who signed, once for each certificate."""
    for signature in dict.fromkeys(one.signature for one in days):
        name = next(one.manifest.name for one in days if one.signature == signature)
        who = f"signed by {signature.subject}, certificate SHA-256 {signature.certificate_sha256}"
        if signature.is_trusted:
            proof.note(name, f"from here {who}, which leads to the certificate that was given")
        else:
            proof.note(
                name,
                f"from here {who}, which came with the signature: no certificate was given, so this shows who signed "
                "only to those who know that SHA-256",
            )


def _compare(proof: Proof, signed: dict[int, Event], published: Iterable[Event]) -> None:
    """What was signed is what the folder says now."""
    newest, since = max(signed, default=0), 0
    for event in published:
        known = signed.pop(event.sequence, None)
        if known is None and event.sequence > newest:
            since += 1
        elif known is None:
            proof.wrong(event.name, f"number {event.sequence} is in the folder and in no manifest")
        elif (known.event, known.name, known.sha256, known.size) != (
            event.event, event.name, event.sha256, event.size
        ):  # fmt: skip
            proof.wrong(event.name, f"number {event.sequence} is another in the folder than in its manifest")
    for sequence in sorted(signed):
        proof.wrong(signed[sequence].name, f"number {sequence} is in its manifest and no more in the folder")
    if since:
        proof.note("the folder", f"{since} numbers since the last manifest are in none yet")


def _months(proof: Proof, months: Iterable[Path], signed: dict[int, Event]) -> None:
    """The monthly lists say what the manifests do, number for number; they are not signed themselves."""
    newest, since = max(signed, default=0), 0
    for path in months:
        try:
            for sequence, facts in month_file.read(_bytes(path, MAX_BYTES)):
                known = signed.get(sequence)
                since += known is None and sequence > newest
                if known is not None and facts != (known.event, known.name, known.sha256, str(known.size)):
                    raise Refused(f"number {sequence} is another there than in its signed manifest")
        except Refused as error:
            proof.wrong(path.name, error.message)
    if since:
        proof.note("the monthly lists", f"{since} numbers there are in no manifest yet: nothing proves them")


def _documents(proof: Proof, directory: Path, events: Iterable[Event]) -> None:
    """Each document in the directory, at any depth, has the bytes that were published, and none is missing there."""
    published: dict[str, Event] = {}
    withdrawn: set[str] = set()
    for event in events:
        if event.event == "withdrawn":
            withdrawn.add(event.name)
        else:
            withdrawn.discard(event.name)
            published[event.name] = event
    seen: set[str] = set()
    unknown = 0
    for path in _files(directory):
        known = published.get(path.name)
        if known is None:
            unknown += not path.name.startswith(("manifest-", "index-"))
            continue
        seen.add(path.name)
        _document(proof, path, known)
    for name in sorted(published.keys() - seen - withdrawn):
        number = published[name].sequence
        proof.wrong(name, f"it was published as number {number} and is not in the directory of documents")
    if unknown:
        proof.note(str(directory), f"{unknown} files there are in no manifest here: nothing is said of them")


def _document(proof: Proof, path: Path, event: Event) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        proof.wrong(event.name, f"it cannot be read: {error.strerror}")
        return
    if digest == event.sha256:
        proof.documents += 1
    else:
        proof.wrong(event.name, f"its SHA-256 is {digest}, and number {event.sequence} was published as {event.sha256}")


def _files(directory: Path) -> Iterator[Path]:
    """The regular files below, in order; Refused when the directory cannot be read."""
    if not directory.is_dir():
        raise Refused(f"{directory}: no such directory")

    def refuse(error: OSError) -> None:
        raise Refused(f"{error.filename}: {error.strerror}")

    for folder, _, names in os.walk(directory, onerror=refuse):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                yield path


def _source(path: Path) -> Source:
    content = _bytes(path, MAX_BYTES)
    beside = path.with_name(f"{path.name}.p7s")
    signature = _bytes(beside, MAX_SIGNATURE_BYTES) if beside.exists() else None
    return Source(path.name, content, signature)


def _bytes(path: Path, most: int) -> bytes:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise Refused(f"{path}: it is no file")
        if facts.st_size > most:
            raise Refused(f"{path}: {facts.st_size} bytes are too many for what it should be")
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
