"""AES-GCM of an SSH connection (RFC 5647) by one object for the life of a key; asyncssh makes one for each packet.

It stands in for asyncssh's own object, of which it takes key and counter, under names that asyncssh does not promise:
ssh_transport.py pins the version, and serves by the library's own if `check` finds anything else than expected.
"""

import os

from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class GcmStream(Encryption):
    """One direction, going on where asyncssh's own object stands."""

    def __init__(self, cipher: GCMCipher) -> None:
        self._aead = AESGCM(cipher._key)
        self._fixed = cipher._iv[:4]
        self._count = int.from_bytes(cipher._iv[4:], "big")
        self._opened: bytes | None = None  # what `open` made of the next packet
        self._is_broken = False

    def _nonce(self) -> bytes:
        count = self._count
        self._count = (count + 1) & 0xFFFF_FFFF_FFFF_FFFF
        return self._fixed + count.to_bytes(8, "big")

    def encrypted(self, length: bytes, packet: bytes) -> bytes:
        """A packet and its tag; `length` is authenticated with it."""
        return self._aead.encrypt(self._nonce(), packet, length)

    def open(self, length: bytes, rest: bytes) -> bytes | None:
        """The next packet, which `decrypt_packet` gives once more if it was not for us; None: its tag is wrong.

        Then nothing is opened any more: under the next nonce a packet would pass whose predecessor was taken away.
        """
        if not self._is_broken:
            try:
                self._opened = self._aead.decrypt(self._nonce(), rest, length)
            except InvalidTag:
                self._is_broken, self._opened = True, None
        return self._opened

    def taken(self) -> None:
        """What was opened was for us."""
        self._opened = None

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        return header + self.encrypted(header, packet), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        packet = self._opened or self.open(first[:header_len], first[header_len:] + rest + mac)
        self._opened = None
        return packet


def cached(encryption: Encryption | None) -> Encryption | None:
    """The same cipher as a GcmStream where it is asyncssh's AES-GCM; any other as it is."""
    return GcmStream(encryption._cipher) if type(encryption) is GCMEncryption else encryption


def check() -> None:
    """AssertionError when our AES-GCM and the library's do not say the same, or cannot read each other."""
    key, iv = os.urandom(16), os.urandom(4) + b"\xff" * 8  # the counter begins anew behind the first packet
    stocks = [GCMEncryption(GCMCipher("aes128-gcm", key, iv)) for _ in range(2)]
    ours = [GcmStream(GCMCipher("aes128-gcm", key, iv)) for _ in range(3)]
    for number in range(3):
        length, packet = b"\0\0\0\x20", os.urandom(32)
        theirs, tag = stocks[0].encrypt_packet(number, length, packet)
        mine, _ = ours[0].encrypt_packet(number, length, packet)
        assert mine == theirs + tag, "another cipher"
        assert ours[1].decrypt_packet(number, mine[:16], mine[16:-16], 4, mine[-16:]) == packet, "another cipher"
        opened = ours[2].open(length, mine[4:])
        assert opened == packet == ours[2].decrypt_packet(number, b"", b"", 4, b""), "another cipher"
        assert stocks[1].decrypt_packet(number, mine[:16], mine[16:-16], 4, mine[-16:]) == packet, "another cipher"
