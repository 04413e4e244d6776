"""The state directory: whose it is, and which process may write.

While a daemon runs it holds an exclusive flock on `gateway.lock` and is the only writer of a SQLite database.
"""

import fcntl
import os
import pwd
from pathlib import Path

from ..config import StoreSettings
from ..errors import ConfigError, Conflict
from .database import sqlite_url


def prepare(settings: StoreSettings) -> Path:
    """The state directory, made (0700) if missing. ConfigError when another user owns it."""
    directory = settings.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_owner(directory)
    return directory


def require_owner(directory: Path) -> None:
    """Every command runs as the owner of the state directory: files of another user would stop the daemon later."""
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        name = _name_of(owner)
        raise ConfigError(
            f"{directory} belongs to {name} and this runs as {_name_of(os.geteuid())}: run it as that user "
            f"(for example with `runuser -u {name} -- gateway …`)",
            where="[store.directory]",
        )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def database_url(settings: StoreSettings) -> str:
    """The configured URL, or the SQLite file of the state directory."""
    return settings.database or sqlite_url(settings.directory / "gateway.db")


def admin_socket(settings: StoreSettings) -> Path:
    """The Unix socket of the admin API."""
    return settings.directory / "admin.sock"


class StateLock:
    """The exclusive right to write; held by a daemon for as long as it runs, by a command while it works alone."""

    def __init__(self, settings: StoreSettings) -> None:
        self._path = settings.directory / "gateway.lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Conflict when another process holds it. Ends with the process, however that ends."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Conflict("another gateway process is running on this state directory") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Let the next one in."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
