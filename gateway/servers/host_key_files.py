"""The host keys that the state directory keeps: `host_keys/serving`, `announced`, `aside`, a file (0600) for each key.

Once `serving` exists it is all that serves, so that clients which know the keys of a server before are shown no other;
until then the two keys that the gateway made for itself do (ssh_keys.py). What changes here holds from the next start.
A key that was read from a stranger's file is checked first: Refused says why it cannot serve. Nothing is overwritten.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.asymmetric import rsa

from ..errors import Conflict, NotFound, Refused

SERVING, ANNOUNCED, ASIDE = ROLES = ("serving", "announced", "aside")
MADE = ("ssh_ed25519_host_key", "ssh_rsa_host_key")  # beside host_keys/: the gateway's own, from its first start
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
RSA_BITS = 3072
TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True)
class Kept:
    """A key in the state directory. `role`: serving, announced or aside."""

    role: str
    path: Path
    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        """SHA256:…, as `ssh-keygen -l` and `ssh-keyscan` print it."""
        return self.key.get_fingerprint()


class Encrypted(Refused):
    """The key is protected by a passphrase, and none or a wrong one was given."""

    code = "passphrase"


def read(content: bytes, passphrase: str | None = None) -> asyncssh.SSHKey:
    """A private key in OpenSSH, PKCS#1 or PKCS#8 form that may serve as a host key. Refused, Encrypted."""
    try:
        key = asyncssh.import_private_key(content)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        if "passphrase" not in str(error).lower():
            raise Refused("this is no private key of SSH") from None
        key = _unlocked(content, passphrase)
    if key.get_algorithm() not in TYPES:
        raise Refused(f"a key of type {key.get_algorithm()} cannot serve: no client trusts it any more", code="type")
    if not MIN_RSA_BITS <= bits(key) <= MAX_RSA_BITS and key.get_algorithm() == "ssh-rsa":
        raise Refused(f"an RSA host key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, this one has {bits(key)}")
    return key


def _unlocked(content: bytes, passphrase: str | None) -> asyncssh.SSHKey:
    if b"BEGIN OPENSSH" in content:  # bcrypt's key derivation is in no library that we have
        raise Refused("its passphrase is of OpenSSH's own kind: take it off first, with ssh-keygen -p")
    if passphrase is None:
        raise Encrypted("a passphrase protects it")
    try:
        return asyncssh.import_private_key(content, passphrase)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError):
        raise Encrypted("the passphrase does not open it") from None


def bits(key: asyncssh.SSHKey) -> int:
    """The size that `ssh-keygen -l` prints."""
    public = key.pyca_key
    return public.key_size if isinstance(public, rsa.RSAPrivateKey | rsa.RSAPublicKey) else _CURVE[key.get_algorithm()]


_CURVE = {"ssh-ed25519": 256, "ecdsa-sha2-nistp256": 256, "ecdsa-sha2-nistp384": 384, "ecdsa-sha2-nistp521": 521}


def make(algorithm: str) -> asyncssh.SSHKey:
    """A new key of one of TYPES."""
    if algorithm == "ssh-rsa":
        return asyncssh.generate_private_key(algorithm, key_size=RSA_BITS)
    return asyncssh.generate_private_key(algorithm)


class HostKeyFiles:
    """The keys of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root = directory / "host_keys"

    def kept(self) -> list[Kept]:
        """All keys, those that serve first; the gateway's own serve while no others do."""
        found = [
            Kept(role, path, asyncssh.read_private_key(path))
            for role in ROLES
            for path in sorted((self._root / role).glob("*_key"))
        ]
        role = ASIDE if any(one.role == SERVING for one in found) else SERVING
        own = [Kept(role, path, asyncssh.read_private_key(path)) for path in self._own()]
        return sorted(own + found, key=lambda one: ROLES.index(one.role))

    def _own(self) -> list[Path]:
        return [path for name in MADE if (path := self._directory / name).exists()]

    def paths(self, role: str) -> list[Path]:
        """The files of a role in `host_keys/`."""
        return sorted((self._root / role).glob("*_key"))

    def find(self, fingerprint: str) -> Kept:
        """The key of a fingerprint, or of its beginning. NotFound; Conflict when several have it."""
        found = [one for one in self.kept() if one.fingerprint.startswith(fingerprint)]
        if not found:
            raise NotFound(f"no host key here has the fingerprint {fingerprint}")
        if len(found) > 1:
            raise Conflict(f"{len(found)} host keys begin with {fingerprint}: write more of it")
        return found[0]

    def install(self, keys: Sequence[asyncssh.SSHKey]) -> list[str]:
        """Have these keys serve, all or none; of each `installed` or `same`. Conflict: another of its type serves."""
        there = {one.path: one for one in self.kept() if one.path.parent == self._root / SERVING}
        outcomes = []
        for key in keys:
            others = [one for one in there.values() if one.key.get_algorithm() == key.get_algorithm()]
            is_there = any(one.fingerprint == key.get_fingerprint() for one in others)
            if others and not is_there:
                raise Conflict(
                    f"{others[0].fingerprint} serves as {key.get_algorithm()}: to change it, announce the new key "
                    "first (gateway host-keys announce)"
                )
            outcomes.append("same" if is_there else "installed")
        self._put([key for key, outcome in zip(keys, outcomes, strict=True) if outcome == "installed"], SERVING)
        return outcomes

    def announce(self, key: asyncssh.SSHKey) -> None:
        """Tell clients of a key that will serve one day. Conflict: it is here already."""
        if any(one.fingerprint == key.get_fingerprint() for one in self.kept()):
            raise Conflict("this key is here already")
        self._put([key], ANNOUNCED)

    def serve(self, fingerprint: str) -> None:
        """Have a key serve; that of its type which did is announced from then on, so that a way back stays open."""
        self._adopt()
        wanted = self.find(fingerprint)
        if wanted.role == SERVING:
            return
        before = [o for o in self.kept() if o.role == SERVING and o.key.get_algorithm() == wanted.key.get_algorithm()]
        self._move(wanted.path, SERVING)  # first: killed in between, one of the two serves and the other is announced
        for one in before:
            self._move(one.path, ANNOUNCED)

    def retire(self, fingerprint: str) -> None:
        """Neither serve nor announce a key; it is kept. Conflict for the last one that serves."""
        self._adopt()
        wanted = self.find(fingerprint)
        if wanted.role == SERVING and sum(one.role == SERVING for one in self.kept()) == 1:
            raise Conflict("this is the only key that serves: have another one serve first")
        self._move(wanted.path, ASIDE)

    def _adopt(self) -> None:
        """The gateway's own keys, while they serve, are kept as all others are."""
        own = [one for one in self.kept() if one.path.parent == self._directory]
        if own and own[0].role == SERVING:
            self._put([one.key for one in own], SERVING)
            for one in own:
                one.path.unlink()
        else:
            for one in own:
                self._move(one.path, ASIDE)

    def _put(self, keys: Sequence[asyncssh.SSHKey], role: str) -> None:
        """Write keys, all of them or none where the role has no folder yet: a part of them would serve alone."""
        target, building = self._root / role, self._root / f"{role}.new"
        self._root.mkdir(mode=0o700, exist_ok=True)
        place = target if target.exists() else building
        if place is building:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(mode=0o700)
        for key in keys:
            write(place / _name(key), key.export_private_key())
        _sync(place)
        if place is building:
            building.rename(target)
        _sync(self._root)

    def _move(self, path: Path, role: str) -> None:
        target = self._root / role
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(target / _name(asyncssh.read_private_key(path)))
        for place in (target, path.parent, self._root):
            _sync(place)


def _name(key: asyncssh.SSHKey) -> str:
    """Two keys never share one, and the same key always has the same."""
    digest = key.get_fingerprint().removeprefix("SHA256:").replace("/", "-").replace("+", ".")
    return f"{key.get_algorithm()}_{digest[:20]}_key"


def write(path: Path, content: bytes) -> None:
    """Whole or not at all: a host key that changes after a crash stops every client."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
