"""The SFTP listeners' host keys: Ed25519 for whoever knows it, RSA for the others."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import structlog

from ..errors import ConfigError
from .host_key_files import ANNOUNCED, SERVING, HostKeyFiles, make, write
from .ssh_algorithms import MODERN

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HostKeys:
    """The keys that clients are shown in a key exchange, Ed25519 first, and those that they are only told of."""

    serving: list[asyncssh.SSHKey]
    announced: list[asyncssh.SSHKey]

    def pairs(self, rsa: Sequence[bytes] = MODERN.rsa) -> list[asyncssh.SSHKeyPair]:
        """For a listener. An RSA key comes once for each of the signatures `rsa`: asyncssh notes in the pair what one
        client negotiated, and would sign with that for another whose key exchange overtakes.
        """
        return [pair for key in self.serving for pair in _pairs(key, rsa)]


def load(configured: Sequence[Path], directory: Path) -> HostKeys:
    """The keys that the settings name, else those of the state directory; made once where there are none.

    Of several of one type the first serves, the others are announced. ConfigError when a file cannot be read as a
    private key, or others than its owner can read it.
    """
    files = HostKeyFiles(directory)
    paths = configured or files.paths(SERVING)
    keys = [_read(path) for path in paths] or [_made(directory, name) for name in ("ssh-ed25519", "ssh-rsa")]
    keys.sort(key=lambda key: key.get_algorithm() != "ssh-ed25519")
    first = {key.get_algorithm(): key for key in reversed(keys)}
    serving = [key for key in keys if first[key.get_algorithm()] is key]
    told = [] if configured else [_read(path) for path in files.paths(ANNOUNCED)]
    return HostKeys(serving, [key for key in keys if key not in serving] + told)


def _pairs(key: asyncssh.SSHKey, rsa: Sequence[bytes]) -> list[asyncssh.SSHKeyPair]:
    if key.algorithm != b"ssh-rsa":
        return list(asyncssh.load_keypairs([key]))
    pairs = list(asyncssh.load_keypairs([key] * len(rsa)))
    for pair, signature in zip(pairs, rsa, strict=True):
        pair.host_key_algorithms = (signature,)
    return pairs


def _read(path: Path) -> asyncssh.SSHKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: a host key must be readable by its owner alone (mode 0600)", where="[sftp]")
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigError(f"{path}: no usable host key ({error})", where="[sftp]") from None


def _made(directory: Path, algorithm: str) -> asyncssh.SSHKey:
    path = directory / f"{algorithm.replace('-', '_')}_host_key"
    if not path.exists():
        key = make(algorithm)
        write(path, key.export_private_key())
        log.info("host_key.made", file=path.name, fingerprint=key.get_fingerprint())
    return _read(path)


def public_line(key: asyncssh.SSHKey) -> str:
    """The public key as a known_hosts file holds it: algorithm and base64."""
    return f"{key.get_algorithm()} {base64.b64encode(key.public_data).decode()}"
