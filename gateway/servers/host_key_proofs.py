"""Tell clients of all host keys, and prove that they are ours: OpenSSH's UpdateHostKeys (PROTOCOL, section 2.5).

After the log-in asyncssh sends `hostkeys-00@openssh.com` with the keys of its own table, and answers
`hostkeys-prove-00@openssh.com` out of it. This is that table, for one connection: it also holds keys that are announced
and do not serve yet, signs each at most once however often a client asks, and tells which were asked for: a client
that asks for a proof learns the key.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import asyncssh

_RSA = b"rsa-sha2-512"


class Proofs(OrderedDict[bytes, "Proof"]):
    """The host keys by their public bytes, as asyncssh looks them up."""

    def __init__(
        self, keys: Sequence[asyncssh.SSHKey], conn: asyncssh.SSHServerConnection, told: Callable[[str], None]
    ) -> None:
        """`told` hears the fingerprint of each key that a client asked for."""
        super().__init__((key.public_data, Proof(key, conn, told)) for key in keys)


class Proof:
    """One key's signature in one session."""

    def __init__(self, key: asyncssh.SSHKey, conn: asyncssh.SSHServerConnection, told: Callable[[str], None]) -> None:
        self._key, self._conn, self._told = key, conn, told
        self._signature: bytes | None = None

    def sign(self, data: bytes) -> bytes:
        """The signature; `data` is the same whenever one session asks for one key."""
        if self._signature is None:
            self._told(self._key.get_fingerprint())
            self._signature = self._key.sign(data, self._algorithm())
        return self._signature

    def _algorithm(self) -> bytes:
        """RSA as the key exchange signed, if it did by RSA: OpenSSH takes nothing else then (RFC 8332)."""
        if self._key.algorithm != b"ssh-rsa":
            return self._key.algorithm
        used = self._conn.get_server_host_key()
        return used.host_key_algorithms[0] if used is not None and used.algorithm == b"ssh-rsa" else _RSA
