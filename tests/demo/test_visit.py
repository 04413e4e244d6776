"""A client's visit to its drop folder: everything is fetched, from the right server only, and names stay harmless."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from gateway.demo import visit
from gateway.errors import Refused, Unavailable
from tests.peers import requires

FILES = {"20261103_C1_2026-11-000001_ORIG.pdf": b"one" * 50_000, "20261103_C1_2026-11-000002_ORIG.pdf": b""}

both = pytest.mark.parametrize("tool", [pytest.param("program", marks=requires("sftp")), "library"], indirect=True)


@pytest.fixture
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which tools there are: those of the machine, or none, as on a bare one."""
    if request.param == "library":
        monkeypatch.setenv("PATH", "")
    return str(request.param)


class _Server:
    """asyncssh's own server over a directory, in a thread; one user, one key."""

    def __init__(self, directory: Path, authorized: Path) -> None:
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._directory, self._authorized = directory, authorized
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        def root(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=os.fsencode(self._directory))

        self._acceptor = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[self.host_key], authorized_client_keys=str(self._authorized),
            sftp_factory=root,
        )  # fmt: skip
        return self._acceptor.get_port()

    async def _close(self) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    inbox = tmp_path / "home" / "inbox"
    inbox.mkdir(parents=True)
    for name, content in FILES.items():
        (inbox / name).write_bytes(content)
    return tmp_path / "home"


@pytest.fixture
def account(tmp_path: Path, home: Path) -> Iterator[visit.Account]:
    """An account on a server that holds FILES."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "id")
    (tmp_path / "id").chmod(0o600)
    key.write_public_key(tmp_path / "authorized")
    server = _Server(home, tmp_path / "authorized")
    host_key = server.host_key.export_public_key().decode("ascii")
    yield visit.Account("127.0.0.1", server.port, "client", tmp_path / "id", host_key)
    server.stop()


@both
@pytest.mark.usefixtures("tool")
class TestPull:
    """OpenSSH's client and asyncssh's behave alike."""

    def test_every_file_of_the_inbox_is_fetched_whole(
        self, account: visit.Account, tmp_path: Path, home: Path, tool: str
    ) -> None:
        """Names and bytes arrive unchanged, an empty file too; nothing is deleted unasked."""
        pull = visit.pull_with_sftp(account, tmp_path / "with space")
        assert {path.name: path.read_bytes() for path in pull.files} == FILES
        assert pull.files[0].parent == tmp_path / "with space"
        assert sorted(os.listdir(home / "inbox")) == sorted(FILES)
        assert pull.program == ("sftp" if tool == "program" else "asyncssh")
        assert pull.list_seconds > 0
        assert pull.get_seconds > 0

    def test_a_receipt_deletes_what_was_fetched(self, account: visit.Account, tmp_path: Path, home: Path) -> None:
        """Receipt mode `delete`: first the bytes, then the delete."""
        pull = visit.pull_with_sftp(account, tmp_path / "got", remove=True)
        assert {path.name: path.read_bytes() for path in pull.files} == FILES
        assert os.listdir(home / "inbox") == []

    def test_an_empty_inbox_is_no_error(self, account: visit.Account, tmp_path: Path, home: Path) -> None:
        """Most visits of an ERP find nothing."""
        for name in FILES:
            (home / "inbox" / name).unlink()
        assert visit.pull_with_sftp(account, tmp_path / "got").files == ()

    def test_a_missing_folder_is_an_error(self, account: visit.Account, tmp_path: Path) -> None:
        """Not the same as an empty one."""
        with pytest.raises(Unavailable):
            visit.pull_with_sftp(account, tmp_path / "got", folder="elsewhere")

    def test_another_host_key_ends_the_visit(self, account: visit.Account, tmp_path: Path) -> None:
        """Nothing is fetched from, and no key offered to, a server that is not the one we know."""
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode("ascii")
        with pytest.raises(Unavailable):
            visit.pull_with_sftp(_with(account, host_key=other), tmp_path / "got")
        assert list((tmp_path / "got").iterdir()) == []

    def test_another_key_is_let_in_nowhere(self, account: visit.Account, tmp_path: Path) -> None:
        """Only the key given is offered: none from an agent or a home directory."""
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
        (tmp_path / "other").chmod(0o600)
        with pytest.raises(Unavailable):
            visit.pull_with_sftp(_with(account, private_key=tmp_path / "other"), tmp_path / "got")

    @pytest.mark.parametrize("name", ['a"; !touch x', "nom accentué.pdf", "-rf"])
    def test_a_name_outside_the_documented_characters_is_refused(
        self, account: visit.Account, tmp_path: Path, home: Path, name: str
    ) -> None:
        """Names become commands of a batch and paths on our disk."""
        (home / "inbox" / name).write_bytes(b"x")
        with pytest.raises(Refused):
            visit.pull_with_sftp(account, tmp_path / "got")
        assert list((tmp_path / "got").iterdir()) == []


def _with(account: visit.Account, **changes: object) -> visit.Account:
    return visit.Account(**{**vars(account), **changes})
