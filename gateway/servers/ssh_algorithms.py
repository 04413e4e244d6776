"""The algorithms that the SFTP listeners offer: modern ones, and what a client of ten years ago needs beside them.

The lists are explicit: a library's new default must not change what clients negotiate. The main listener: no SHA-1, no
CBC, nothing under 128 bits of strength; chacha20 and GCM both, since old clients have one or the other, and SHA-2 MACs
outside encryption last, for clients that have nothing else beside CTR. Strict key exchange (the answer to the
Terrapin attack) is the library's own.

The legacy listener, for JSch 0.1.5x, paramiko 1.16, SSH.NET of 2016: SHA-1 where they have nothing else, CBC; never
DES, RC4, MD5 or DSA. Such clients know no strict key exchange, so what Terrapin breaks without it, chacha20 and
encrypt-then-MAC, is left out there. Group exchange is too: to a client that asks for it, the library gives 1,024 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncssh

_MARKS = ("ext-info-", "kex-strict-")  # they stand among key exchanges and are none


@dataclass(frozen=True)
class Offer:
    """What one listener offers, the preferred first; `rsa` are the signatures of its RSA host keys."""

    key_exchange: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    signatures: tuple[str, ...]
    rsa: tuple[bytes, ...]
    is_legacy: bool = False

    def of(self, kind: str) -> tuple[str, ...]:
        """The algorithms of a kind, as `offered` names it. A host key is RSA or Ed25519."""
        match kind:
            case "key exchange":
                return self.key_exchange
            case "host key":
                return ("ssh-ed25519", *(name.decode() for name in self.rsa))
            case "cipher":
                return self.ciphers
        return self.macs


MODERN = Offer(
    key_exchange=(
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512",
    ),
    ciphers=(
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-ctr",
    ),
    macs=(
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "umac-128-etm@openssh.com",
        "hmac-sha2-512",  # libssh2 before 1.11 (curl on Debian 12) and many an ERP know these two alone
        "hmac-sha2-256",
    ),
    signatures=(
        "ssh-ed25519",
        "sk-ssh-ed25519@openssh.com",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ),
    rsa=(b"rsa-sha2-512", b"rsa-sha2-256"),
)
LEGACY = Offer(
    key_exchange=(
        *MODERN.key_exchange,
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group14-sha1",
    ),
    ciphers=(
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-ctr",
        "aes256-cbc",
        "aes192-cbc",
        "aes128-cbc",
    ),
    macs=("hmac-sha2-512", "hmac-sha2-256", "hmac-sha1"),
    signatures=(*MODERN.signatures, "ssh-rsa"),
    rsa=(*MODERN.rsa, b"ssh-rsa"),
    is_legacy=True,
)


class _Signatures(set[bytes]):
    """Those of one key; `told` hears the name of another that is asked for."""

    def __init__(self, names: set[bytes], told: Callable[[str], None]) -> None:
        super().__init__(names)
        self._told = told

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        if isinstance(name, bytes):
            self._told(name.decode("ascii", "backslashreplace"))
        return False


def allow_only(key: asyncssh.SSHKey, offer: Offer, told: Callable[[str], None]) -> None:
    """Have a client's key verify no signature but the offer's; `told` hears what the client signed with instead.

    asyncssh announces the list of a listener, and then verifies any signature that it knows, SHA-1 too.
    """
    names = {name.encode() for name in offer.signatures}
    key.all_sig_algorithms = _Signatures(names & set(key.all_sig_algorithms), told)


def offered(connection: Any) -> dict[str, list[str]]:
    """What the client of a server's connection offered, by kind (RFC 4253 7.1); empty when it is not known.

    MACs count only where no cipher brings its own. asyncssh keeps the message under a private name, and this module
    alone reads it: without it the cause of a failed negotiation is less plain, and nothing else changes.
    """
    message = getattr(connection, "_client_kexinit", b"")
    lists: list[list[str]] = []
    position = 17  # message number, cookie
    while len(lists) < 6 and len(message) >= position + 4:
        end = position + 4 + int.from_bytes(message[position : position + 4], "big")
        names = message[position + 4 : end].decode("ascii", "backslashreplace").split(",")
        lists.append([name for name in names if name and not name.startswith(_MARKS)])
        position = end
    if len(lists) < 6:
        return {}
    found = {"key exchange": lists[0], "host key": lists[1], "cipher": lists[2], "MAC": lists[4]}
    return (
        found if not _has_own_mac(lists[2]) else {kind: found[kind] for kind in ("key exchange", "host key", "cipher")}
    )


def _has_own_mac(ciphers: list[str]) -> bool:
    return any("gcm" in name or "poly1305" in name for name in ciphers)
