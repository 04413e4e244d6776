"""Folders that nobody has seen before: whatever documents and names there are, SFTP and FTPS tell the same of them.

paramiko and ftplib, since they take a name as it is; what each reads is compared with what was published.
"""

import calendar
import contextlib
import ftplib
import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from gateway import clock
from gateway.delivery.publish import publish
from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, Folder
from gateway.domain.parties import Contract, ContractType
from tests.dropfolder.test_layouts import choose
from tests.dropfolder.world import PARIS, World
from tests.servers import ftps_world, sftp_world

SIZES = (
    1,
    2,
    32_767,
    32_768,
    32_769,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
)  # an empty document is refused at the door
TEMPLATES = (None, "{nature}_{number}", "X-{number}_{nature}", "{date}{number}{contract}{nature}")
FORMATS = (["pdf"], ["xml"], ["pdf", "xml"])
_ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
_NUMBERS = st.sampled_from(["C/1", "C_1", "c/1", "C-1", "..", "-rf", "a b", "CON", "été", "x" * 40]) | _ANY
_NASTY = st.sampled_from(
    [" a", "a ", "a.", "..a", "-rf", "--", "*", "?[a]", 'a"b', "a'b", "a\\b", "~", "#", "%2e%2e", "a;b", "a|b", "$HOME",
     "`x`", "CON", "nul.pdf", "\u00e9", "e\u0301", "\U0001f600", "\u202ea", "a\u2028b", "\ufeff", "a\x7fb", "a\tb",
     "\u00df", "x" * 255, "\u00e9" * 127, "x" * 256, "x" * 290, "x" * 291, ".ftpaccess", "...", "a:b", "\u3000"]
)  # fmt: skip
_NAMES = _NASTY | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0\r\n"), min_size=1, max_size=60
)


class Both:
    """The same folder over both protocols; every method of either takes a path from the home and may raise `Failed`."""

    Failed = (OSError, ftplib.Error)

    def __init__(self, world: World, sftp: paramiko.SFTPClient, ftps: ftplib.FTP_TLS) -> None:
        self.world = world
        self.sftp = sftp
        self.ftps = ftps
        self.gets: list[Callable[[str, int], bytes]] = [
            self._sftp_get,
            lambda p, rest: ftps_world.get(ftps, p, rest or None),
        ]
        self.puts: list[Callable[[str, bytes], object]] = [
            lambda path, content: sftp.putfo(io.BytesIO(content), path),
            lambda path, content: ftps.storbinary(f"STOR {path}", io.BytesIO(content)),
        ]
        self.renames: list[Callable[[str, str], object]] = [sftp.rename, ftps.rename]
        self.removes: list[Callable[[str], object]] = [sftp.remove, ftps.delete]

    def _sftp_get(self, path: str, rest: int) -> bytes:
        with self.sftp.open(path, "rb") as file:
            file.seek(rest)
            return bytes(file.read())

    def listings(self, path: str) -> list[dict[str, tuple[int, int]]]:
        """Size and mtime by name, as each protocol lists them."""
        by_sftp = {
            one.filename: (one.st_size or 0, int(one.st_mtime or 0))
            for one in self.sftp.listdir_attr(path)
            if one.longname.startswith("-")
        }
        by_ftps = {
            name: (int(facts["size"]), _seconds(facts["modify"]))
            for name, facts in self.ftps.mlsd(path, ["type", "size", "modify"])
            if facts["type"] == "file"
        }
        return [by_sftp, by_ftps]


def _seconds(stamp: str) -> int:
    return calendar.timegm(time.strptime(stamp, "%Y%m%d%H%M%S"))


@contextlib.contextmanager
def over_both(world: World, directory: Path) -> Iterator[Both]:
    """Both listeners, and a session with each."""
    (directory / "sftp").mkdir()
    with ftps_world.listening(world, directory) as ftps:
        opening = sftp_world.listening(world, directory / "sftp")
        sftp = ftps.run(opening.__aenter__())
        try:
            sftp.key.write_private_key(directory / "id")
            with paramiko.SSHClient() as client, ftps.session() as ftp:
                client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
                client.connect("127.0.0.1", sftp.port, "acme", key_filename=str(directory / "id"), allow_agent=False)
                yield Both(world, client.open_sftp(), ftp)
        finally:
            ftps.run(opening.__aexit__(None, None, None))


def published(world: World, drawn: list[tuple[str, str, int]], seed: int) -> dict[str, bytes]:
    """Documents with these numbers, contracts and sizes: their bytes by their ids."""
    made = random.Random(seed)
    contents = [made.randbytes(size) for _, _, size in drawn]
    ids = world.plan(*contents)
    found = {}
    for delivery, (number, contract, _), content in zip(ids, drawn, contents, strict=True):
        document = world.db.read(lambda tx, key=delivery: tx.get_one(Delivery, key)).document_id  # type: ignore[misc]
        world.set(Document, document, number=number, contract_id=contract_of(world, contract))
        found[document] = content
    world.db.write(lambda tx: publish(tx, ids, frozenset(), PARIS))
    return found


def wait_until_listed(both: Both) -> None:
    """What was published last is there from the second after its own on, and with the next look: within two."""
    newest = place(both.world.entries()[-1])
    deadline = time.monotonic() + 10
    while not _done(both, lambda: both.sftp.stat(newest)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def contract_of(world: World, number: str) -> str:
    """The contract with this number, made where there is none: its id."""
    found = world.db.read(lambda tx: tx.execute(select(Contract.id).where(Contract.number == number)).scalar())
    if found is None:
        row = Contract(number=number, type=ContractType.OTHER, type_name="any", created_at=clock.now())
        found = row.id
        world.add(row)
    return str(found)


def place(entry: Entry) -> str:
    return f"/inbox/{entry.directory}/{entry.name}" if entry.directory else f"/inbox/{entry.name}"


def check_listings(both: Both) -> None:
    """Each folder of the inbox shows its entries, with their sizes and times, and nothing else; it stays when empty."""
    entries = both.world.entries()
    for directory in {entry.directory for entry in entries}:
        there = [entry for entry in entries if entry.listed and entry.directory == directory and entry.path is None]
        wanted = {entry.name: (entry.size, entry.mtime) for entry in there}
        for listing in both.listings(f"/inbox/{directory}"):
            assert listing == wanted


def check_document(both: Both, entry: Entry, content: bytes, turn: int) -> None:
    """One protocol reads and renames it, the other goes on where half of it was, and takes it away."""
    one, other = turn % 2, (turn + 1) % 2
    path, moved = place(entry), f"/inbox/{entry.id}.done"
    digest = hashlib.sha256(content).hexdigest()
    assert both.sftp.stat(path).st_size == both.ftps.size(path) == len(content)
    assert hashlib.sha256(both.gets[one](path, 0)).hexdigest() == digest
    half = len(content) // 2
    assert both.gets[other](path, half) == content[half:]
    if turn % 3:
        both.renames[one](path, moved)
        assert hashlib.sha256(both.gets[other](moved, 0)).hexdigest() == digest
        path = moved
    both.removes[other](path)
    after = both.world.entry(entry.name)
    assert after.received_at is not None and not after.listed


def test_any_documents_are_the_same_over_both_protocols(world: World, tmp_path: Path) -> None:
    """Any number, contract and template, sizes around a READ and a MiB, both layouts, all formats, many pages."""
    drawn = st.lists(st.tuples(_NUMBERS, _NUMBERS, st.sampled_from(SIZES)), min_size=1, max_size=6)
    turns = iter(range(10**9))
    published(world, [("first", "first", 10)], 0)
    world.fill(500)

    with over_both(world, tmp_path) as both:
        # To publish takes a second: what fails is shown as it was found.
        @settings(max_examples=3, phases=[Phase.explicit, Phase.generate])
        @example(
            [(number, "c/1", size) for number, size in zip("Aa..", SIZES, strict=False)],
            "by_contract",
            None,
            FORMATS[2],
        )
        @given(drawn, st.sampled_from(["flat", "by_contract"]), st.sampled_from(TEMPLATES), st.sampled_from(FORMATS))
        def holds(documents: list[tuple[str, str, int]], layout: str, template: str | None, formats: list[str]) -> None:
            choose(world, {"layout": layout, "name_template": template})
            world.set(Folder, world.folder.id, formats=formats)
            contents = published(world, documents, next(turns))
            wait_until_listed(both)
            check_listings(both)
            for entry in world.entries():
                if (content := contents.get(entry.document_id)) is not None:
                    shown = content if entry.format == "pdf" else b"<xml>" + content[:50]
                    check_document(both, entry, shown, next(turns))
            check_listings(both)

        holds()


def test_any_name_that_a_client_may_make_is_the_same_over_both_protocols(world: World, tmp_path: Path) -> None:
    """Blanks, quotes, dashes, dots, marks, 255 bytes: taken by both or by neither, and then listed and read by both."""
    with over_both(world, tmp_path) as both:

        @settings(max_examples=40)
        @given(_NAMES, _NAMES, st.sampled_from([b"", b"hello"]), st.integers(0, 1))
        def holds(name: str, target: str, content: bytes, one: int) -> None:
            first, second = f"/sandbox/{name}", f"/sandbox/{target}"
            taken = [_done(both, lambda put=put: put(first, content)) for put in both.puts]  # type: ignore[misc]
            assert taken[0] is taken[1]
            is_kept = taken[0] and name not in (".", "..")
            assert all((name in listing) is is_kept for listing in both.listings("/sandbox"))
            if not is_kept:
                return
            assert [get(first, 0) for get in both.gets] == [content] * 2
            now = first
            if _done(both, lambda: both.renames[one](first, second)):
                now = second
            assert [get(now, 0) for get in both.gets] == [content] * 2
            both.removes[1 - one](now)
            assert both.listings("/sandbox") == [{}, {}]

        holds()


def _done(both: Both, what: Callable[[], object]) -> bool:
    """Whether it was done; an error is an answer too."""
    try:
        what()
    except both.Failed:
        return False
    return True
