"""The SFTP listeners' host keys: Ed25519 for whoever knows it, RSA for the others."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh
import structlog

from ..errors import ConfigError
from .ssh_algorithms import MODERN

log = structlog.get_logger(__name__)

_RSA_BITS = 3072


def host_keys(
    configured: Sequence[Path], directory: Path, rsa: Sequence[bytes] = MODERN.rsa
) -> list[asyncssh.SSHKeyPair]:
    """A listener's keys, Ed25519 first. None configured: made once, in `directory`, mode 0600.

    An RSA key comes once for each of the signatures `rsa`: asyncssh notes in the pair what one client negotiated, and
    would sign with that for another whose key exchange overtakes.

    ConfigError when a file cannot be read as a private key, or others than its owner can read it.
    """
    keys: list[asyncssh.SSHKey] = [_read(path) for path in configured]
    if not keys:
        keys = [_made(directory, "ssh-ed25519"), _made(directory, "ssh-rsa")]
    pairs = [pair for key in keys for pair in _pairs(key, rsa)]
    return sorted(pairs, key=lambda pair: pair.algorithm != b"ssh-ed25519")


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
        key = (
            asyncssh.generate_private_key(algorithm, key_size=_RSA_BITS)
            if algorithm == "ssh-rsa"
            else asyncssh.generate_private_key(algorithm)
        )
        _write(path, key.export_private_key())
        log.info("host_key.made", file=path.name, fingerprint=key.get_fingerprint())
    return _read(path)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a host key that changes after a crash stops every client."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)


def public_line(pair: asyncssh.SSHKeyPair) -> str:
    """The public key as a known_hosts file holds it: algorithm and base64."""
    return f"{pair.algorithm.decode()} {base64.b64encode(pair.public_data).decode()}"
