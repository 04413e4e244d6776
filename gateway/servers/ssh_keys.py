"""The algorithms that the SFTP listener offers, and its host keys.

The lists are explicit: a library's new default must not change what clients negotiate. No SHA-1, no CBC, nothing
under 128 bits of strength; chacha20 and GCM both, since old clients have one or the other, and SHA-2 MACs outside
encryption last, for clients that have nothing else beside CTR.
Strict key exchange (the answer to the Terrapin attack) is the library's own. Host keys: Ed25519 for whoever
knows it, RSA with SHA-2 signatures for the others.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh
import structlog

from ..errors import ConfigError

log = structlog.get_logger(__name__)

KEY_EXCHANGE = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "umac-128-etm@openssh.com",
    "hmac-sha2-512",  # libssh2 before 1.11 (curl on Debian 12) and many an ERP know these two alone
    "hmac-sha2-256",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_RSA_BITS = 3072
_RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")


def host_keys(configured: Sequence[Path], directory: Path) -> list[asyncssh.SSHKeyPair]:
    """The listener's keys, Ed25519 first. None configured: made once, in `directory`, mode 0600.

    ConfigError when a file cannot be read as a private key, or others than its owner can read it.
    """
    keys: list[asyncssh.SSHKey] = [_read(path) for path in configured]
    if not keys:
        keys = [_made(directory, "ssh-ed25519"), _made(directory, "ssh-rsa")]
    pairs = list(asyncssh.load_keypairs(keys))
    for pair in pairs:
        if pair.algorithm == b"ssh-rsa":
            pair.host_key_algorithms = _RSA_SIGNATURES
    return sorted(pairs, key=lambda pair: pair.algorithm != b"ssh-ed25519")


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
