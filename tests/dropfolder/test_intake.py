"""What an account of the billing system sees of its intake/, and what it can do there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import clock
from gateway.config import FolderSettings, IntakeSettings
from gateway.domain.folders import Folder
from gateway.dropfolder.folders import DropFolders
from gateway.dropfolder.intake import Accounts
from gateway.dropfolder.sessions import Login, Session
from gateway.dropfolder.visit import Visit
from gateway.errors import Conflict, Denied, NotFound, Refused, TooLarge, Unavailable
from gateway.intake import accounts
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.test_sandbox import put
from tests.dropfolder.world import World, get, names


class Account(World):
    """An account, and where its files lie."""

    def __init__(self, database: Database, blobs: LocalBlobs, directory: Path, **limits: float) -> None:
        super().__init__(database, blobs, user="billing")
        self.set(Folder, self.folder.id, is_intake=True)
        self.directory, self.root = directory, directory / self.folder.id
        self.woken = 0
        self.low = False
        self.limits = limits
        self.restart()

    def restart(self) -> None:
        """A new process."""
        intake = IntakeSettings(**self.limits)
        self.accounts = Accounts(self.directory, intake, self._space, self._wake)
        self.folders = DropFolders(self.db, self.blobs, FolderSettings(), self._space, self.accounts)

    def _space(self) -> None:
        if self.low:
            raise Unavailable("nearly full", code="disk_full")

    def _wake(self) -> None:
        self.woken += 1

    def visit(self, *, begun: bool = True) -> Visit:
        login = Login(self.folder.id, self.client.id, "billing", self.key.id, self.key.fingerprint, is_intake=True)
        visit = self.folders.visit(Session(clock.new_id("ses"), login, "sftp", "192.0.2.7", "test", "none"))
        visit.begin()
        return visit

    def lies(self, folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / folder).iterdir()}


@pytest.fixture
def account(database: Database, blobs: LocalBlobs, tmp_path: Path) -> Account:
    return Account(database, blobs, tmp_path / "intake")


def test_an_account_sees_intake_and_a_client_never_does(account: Account, world: World) -> None:
    """They are two worlds on one listener."""
    visit = account.visit()
    assert names(visit, "/") == ["intake"]
    assert names(visit, "/intake") == ["quarantined", "refused"]
    for path in ("/inbox", "/archive", "/sandbox", "/x"):
        with pytest.raises(NotFound):
            visit.stat(path)
        with pytest.raises((Denied, NotFound)):
            visit.make_directory(f"{path}/y")
        with pytest.raises((Denied, NotFound)):
            visit.create(f"{path}/y")
    assert "intake" not in names(world.visit(), "/")
    for call in (world.visit().stat, world.visit().listing, world.visit().open):
        with pytest.raises(NotFound):
            call("/intake")
    with pytest.raises(Denied):
        world.visit().create("/intake/a.pdf")


def test_what_is_closed_lies_in_the_spool_before_the_answer(account: Account) -> None:
    """The sidecar first, then the document; the worker is told of each."""
    visit = account.visit()
    put(visit, "/intake/a.pdf.json", b"{}")
    put(visit, "/intake/a.pdf", b"%PDF")
    assert account.lies("new") == {"a.pdf": b"%PDF", "a.pdf.json": b"{}"}
    assert account.lies("writing") == {}
    assert account.woken == 2
    assert get(visit, "/intake/a.pdf") == b"%PDF"


@pytest.mark.parametrize("suffix", [".part", ".partial", ".filepart", ".tmp"])
def test_an_unfinished_name_is_complete_once_it_is_renamed(account: Account, suffix: str) -> None:
    """WinSCP, rclone and others upload under such a name; a document of that name would be accepted half."""
    visit = account.visit()
    put(visit, f"/intake/a.pdf{suffix}", b"%PDF")
    assert (account.lies("new"), account.woken) == ({}, 0)
    assert names(visit, "/intake") == ["quarantined", "refused", f"a.pdf{suffix}"]
    visit.rename(f"/intake/a.pdf{suffix}", "/intake/a.pdf")
    assert (account.lies("new"), account.lies("tmp")) == ({"a.pdf": b"%PDF"}, {})
    assert account.woken == 1
    with pytest.raises(Denied):
        visit.rename("/intake/a.pdf", "/intake/b.pdf")
    with pytest.raises(Denied):
        visit.remove("/intake/a.pdf")
    put(visit, f"/intake/b.pdf{suffix}", b"%PDF")
    with pytest.raises(Conflict):
        visit.rename(f"/intake/b.pdf{suffix}", "/intake/a.pdf")
    visit.remove(f"/intake/b.pdf{suffix}")
    assert account.lies("tmp") == {}


def test_a_name_that_was_taken_over_can_be_looked_at_for_an_hour(account: Account, at: Time) -> None:
    """rclone looks at what it uploaded, and uploads it again when it is not there."""
    visit = account.visit()
    put(visit, "/intake/a.pdf", b"%PDF")
    (account.root / "new" / "a.pdf").unlink()  # the spool has it
    assert account.visit().stat("/intake/a.pdf").size == 4
    assert names(visit, "/intake") == ["quarantined", "refused"]
    with pytest.raises(NotFound):
        visit.open("/intake/a.pdf")
    at.pass_(3700)
    with pytest.raises(NotFound):
        visit.stat("/intake/a.pdf")


def test_what_was_refused_is_read_with_its_reason_and_removed(account: Account) -> None:
    """Whoever handed it in must learn why."""
    accounts.prepare(account.root)
    (account.root / "refused" / "a.pdf").write_bytes(b"x")
    (account.root / "refused" / "a.pdf.reason.json").write_bytes(b"{}")
    visit = account.visit()
    assert names(visit, "/intake/refused") == ["a.pdf", "a.pdf.reason.json"]
    assert get(visit, "/intake/refused/a.pdf.reason.json") == b"{}"
    with pytest.raises(Denied):
        visit.create("/intake/refused/b.pdf")
    visit.remove("/intake/refused/a.pdf")
    assert names(visit, "/intake/refused") == ["a.pdf.reason.json"]
    with pytest.raises(Refused):
        visit.remove("/intake/refused")


def test_a_cut_upload_and_a_killed_process_leave_nothing(account: Account) -> None:
    """Only what was closed is ever in new/."""
    visit = account.visit()
    upload, other = visit.create("/intake/a.pdf"), visit.create("/intake/b.pdf")
    upload.write(0, b"half")
    other.write(0, b"half")
    visit.abandon([upload])
    account.restart()
    assert (account.lies("new"), account.lies("tmp"), account.lies("writing")) == ({}, {}, {})


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/intake/.hidden", Refused),
        ("/intake/" + "x" * 201, Refused),
        ("/intake/a\nb", Refused),
        ("/intake/refused", Denied),
        ("/intake/sub/a.pdf", NotFound),
        ("/intake", Denied),
    ],
)
def test_names_that_the_spool_could_not_hold_are_refused(account: Account, path: str, error: type[Exception]) -> None:
    """A name that the scan passes over would lie there for ever."""
    with pytest.raises(error):
        account.visit().create(path)


@pytest.mark.parametrize("path", ["/intake/%s", "/intake/refused/%s", "/intake/%s.part"])
def test_a_name_longer_than_a_disk_takes_is_not_there(account: Account, path: str) -> None:
    """Whatever is asked of it; no program is told of an error inside the gateway."""
    accounts.prepare(account.root)
    visit, path = account.visit(), path % ("x" * 300)
    asks: list[Callable[[str], object]] = [visit.stat, visit.open, visit.digest, visit.remove, visit.listing]
    for ask in [*asks, lambda one: visit.rename(one, "/intake/a.pdf")]:
        with pytest.raises(NotFound):
            ask(path)


def test_links_in_the_spool_are_not_followed(account: Account, tmp_path: Path) -> None:
    """Nothing here makes one; should there be one, it shows nothing of the host."""
    accounts.prepare(account.root)
    (tmp_path / "secret").write_bytes(b"secret")
    (account.root / "refused" / "a").symlink_to(tmp_path / "secret")
    assert names(account.visit(), "/intake/refused") == []
    with pytest.raises(NotFound):
        account.visit().open("/intake/refused/a")


def test_an_account_is_bounded_in_bytes_in_files_and_in_each_file(
    database: Database, blobs: LocalBlobs, tmp_path: Path, at: Time
) -> None:
    """A billing system that loops must not fill the disk."""
    limits = {"account_megabytes": 0.00001, "account_files": 2, "max_megabytes": 0.000008}
    account = Account(database, blobs, tmp_path / "intake", **limits)
    visit = account.visit()
    with pytest.raises(TooLarge):
        visit.create("/intake/a.pdf").write(0, b"123456789")
    visit = account.visit()
    put(visit, "/intake/a.pdf", b"1234567")
    at.pass_(10)
    assert visit.space("/intake") == (10, 3)
    with pytest.raises(Refused, match="MB at most"):
        visit.create("/intake/b.pdf").write(0, b"1234")
    put(account.visit(), "/intake/c.pdf", b"")
    at.pass_(10)
    with pytest.raises(Refused, match="too many"):
        account.visit().create("/intake/d.pdf")


def test_below_the_floor_nothing_is_taken(account: Account) -> None:
    """The space that is left is for receipts."""
    account.low = True
    with pytest.raises(Unavailable):
        account.visit().create("/intake/e.pdf.part")


def test_what_was_answered_or_left_unfinished_goes_after_some_days(account: Account, at: Time) -> None:
    """What is whole and waits stays, however long the intake is away."""
    accounts.prepare(account.root)
    for place in ("tmp/a.part", "refused/a", "refused/a.reason.json", "new/a.pdf", "new/b.pdf.json"):
        (account.root / place).write_bytes(b"x")
        os.utime(account.root / place, (at.wall - 31 * 86400,) * 2)
    (account.root / "tmp" / "new.part").write_bytes(b"x")
    assert account.folders.expire_uploads(clock.now()) == 4
    assert [account.lies(folder) for folder in ("tmp", "refused", "new")] == [{"new.part": b"x"}, {}, {"a.pdf": b"x"}]


def test_a_hash_and_an_unknown_name_are_answered_as_everywhere(account: Account) -> None:
    """HASH is asked after an upload."""
    visit = account.visit()
    put(visit, "/intake/a.pdf", b"")
    assert visit.digest("/intake/a.pdf").startswith("e3b0c442")
    ask: Callable[[str], object]
    for ask in (visit.stat, visit.open, visit.digest, visit.remove):
        with pytest.raises(NotFound):
            ask("/intake/none.pdf")
    with pytest.raises(Conflict):
        visit.open("/intake")
