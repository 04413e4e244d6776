"""Leave root: the demo and the tests run the daemon, and the daemon is never root.

`python -m gateway.demo.unprivileged COMMAND…` runs a command as an ordinary user and answers with its status;
`reexec_if_root()` turns the calling process into that user's. The user is the one behind sudo, else nobody. It has no
supplementary group, no way back (no_new_privs), umask 077, and a fresh directory for HOME, TMPDIR and caches
that is removed at the end. Whoever is not root goes on as they are.

An interpreter or a checkout below a closed directory (/root, the folder of `mktemp -d`) cannot be read by that
user. Then the capability to read every file (CAP_DAC_READ_SEARCH; not to write, not to become anyone) is kept, and
said on stderr. Failures: ConfigError, with what to do, when neither way works here.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path

from ..errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
_SCRATCH = "GATEWAY_SCRATCH"  # pid:directory, for the process that reexec_if_root() becomes, and for no other
_NO_CAPABILITY = ["--inh-caps=-all", "--ambient-caps=-all"]
_READ_EVERYTHING = [
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--securebits=+no_setuid_fixup",  # otherwise access(2) forgets the capability, and libraries ask it first
]

# Run as the new user. CPython that cannot read its own library takes another version's without a word, so the prefix
# is compared too.
_PROBE = """
import os, sys
if sys.argv[1] != sys.base_prefix:
    sys.exit("the Python library in " + sys.argv[1] + " cannot be read")
for place in sys.argv[2:]:
    if not os.access(place, os.R_OK):
        sys.exit(place + " cannot be read")
    if os.path.isdir(place):
        os.listdir(place)
    else:
        open(place, "rb").close()
"""


@dataclass(frozen=True)
class User:
    """Who runs the command instead of root; `name` is what the user database says, or the number."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """Log-in name."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


NOBODY = User(65534, 65534)


def user_behind(environment: Mapping[str, str]) -> User:
    """The user who called sudo; nobody where there is none, or where root called it."""
    uid, gid = environment.get("SUDO_UID", ""), environment.get("SUDO_GID", "")
    if uid.isdecimal() and gid.isdecimal() and int(uid) != 0 and int(gid) != 0:
        return User(int(uid), int(gid))
    return NOBODY


def reexec_if_root(argv: Sequence[str], *places: Path) -> bool:
    """Become `argv` (the program first), run by an ordinary user; returns at once where there is no root to leave.

    True in the process that was root before. `places`: what it will read or write beside the checkout. The process
    keeps its number, so whoever started it can signal it. ConfigError: root cannot be left here.
    """
    if os.geteuid() != 0:
        return _remove_scratch_at_exit()
    user = user_behind(os.environ)
    scratch = _scratch(user)
    try:
        command = [*_prefix(user, [*places, scratch]), *argv]
        environment = _environment(user, scratch) | {_SCRATCH: f"{os.getpid()}:{scratch}"}
        os.umask(0o077)
        os.execve(command[0], command, environment)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def prepare(directory: Path) -> None:
    """Make `directory`, mode 0700, for the user that reexec_if_root() will become; does nothing without root.

    An empty directory of root's is given away; any other stays whose it is. ConfigError if it is in use by others.
    """
    if os.geteuid() == 0:
        give(directory, user_behind(os.environ))


def give(directory: Path, user: User) -> None:
    """What prepare() does, for any user."""
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        raise ConfigError(f"{directory} is not a directory") from None
    try:
        owner = os.fstat(handle).st_uid
        if owner == user.uid:
            return
        if owner != os.geteuid() or os.listdir(handle):
            raise ConfigError(f"{directory} is in use and not {user.name}'s: name a directory that is new or empty")
        os.fchmod(handle, 0o700)
        os.fchown(handle, user.uid, user.gid)
    finally:
        os.close(handle)


def main(command: list[str]) -> int:
    """Run `command` as an ordinary user; its exit status, or 128 + the signal that ended it."""
    if os.geteuid() != 0:
        os.execvp(command[0], command)
    user = user_behind(os.environ)
    scratch = _scratch(user)
    try:
        prefix = _prefix(user, [Path.cwd(), scratch])
        os.umask(0o077)
        with subprocess.Popen([*prefix, *command], env=_environment(user, scratch)) as child:
            # A terminal sends its interrupt to the child as well; a request to end comes to us alone.
            signal.signal(signal.SIGINT, lambda *_: None)
            for request in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(request, lambda *_: child.terminate())
            status = child.wait()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _prefix(user: User, places: Sequence[Path]) -> list[str]:
    """What to put before a command so that it runs as `user`, with as little as it needs to be able to read."""
    site_packages = Path(sysconfig.get_path("purelib"))
    wanted = [_PACKAGE, *_PACKAGE.iterdir(), site_packages, *site_packages.iterdir(), *places]
    probe = [sys.executable, "-I", "-c", _PROBE, sys.base_prefix, *map(str, wanted)]
    reasons = []
    for capabilities in (_NO_CAPABILITY, _READ_EVERYTHING):
        prefix = _setpriv(user, capabilities)
        tried = subprocess.run([*prefix, *probe], capture_output=True, text=True, check=False, cwd="/")
        if tried.returncode == 0:
            if capabilities is _READ_EVERYTHING:
                print(
                    f"running as {user.name}, not as root; Python or this checkout lies below a directory that is "
                    f"closed to {user.name}, so the right to read any file is kept (CAP_DAC_READ_SEARCH)",
                    file=sys.stderr,
                )
            return prefix
        reasons.append((tried.stderr.strip().splitlines() or [f"exit {tried.returncode}"])[-1])
    raise ConfigError(
        f"this must not run as root, and {user.name} cannot run it here ({'; '.join(dict.fromkeys(reasons))}). "
        f"Either start it as an ordinary user, or put the checkout where {user.name} can read it (for example in /srv) "
        "and use a Python from outside /root (make clean; make PYTHON=/usr/bin/python3 …)"
    )


def _setpriv(user: User, capabilities: list[str]) -> list[str]:
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if setpriv is None:
        raise ConfigError("this must not run as root: start it as an ordinary user, or install setpriv (util-linux)")
    identity = [f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--no-new-privs"]
    return [setpriv, *identity, *capabilities, "--"]


def _scratch(user: User) -> Path:
    scratch = Path(tempfile.mkdtemp(prefix="gateway-"))
    os.chown(scratch, user.uid, user.gid)
    return scratch


def _environment(user: User, scratch: Path) -> dict[str, str]:
    """Root's environment without what names root's places."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SUDO_", "XDG_"))}
    home = str(scratch)
    return kept | {"HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": home, "USER": user.name, "LOGNAME": user.name}


def _remove_scratch_at_exit() -> bool:
    pid, _, scratch = os.environ.pop(_SCRATCH, "").partition(":")
    is_ours = pid == str(os.getpid())
    if is_ours:
        # multiprocessing keeps a directory in it, removes that with priority -100, and fails if it is gone by then.
        Finalize(None, shutil.rmtree, (scratch, True), exitpriority=-200)
    return is_ours


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m gateway.demo.unprivileged COMMAND…")
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(error.message)
