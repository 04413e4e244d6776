"""Passwords: made, hashed with argon2id (RFC 9106), checked; a few at a time, since each check takes 64 MB and a core.

A password that matched is remembered for a while, in memory and only as a digest keyed by a secret of this process:
a client that logs in anew for each file costs one argon2 an hour. Failures: Refused for one that is too short or too
long, Unavailable when too many are being checked.
"""

import hashlib
import secrets
import threading
from collections.abc import Sequence

import argon2

from .. import clock
from ..errors import Refused, Unavailable

SHORTEST, LONGEST = 12, 256  # characters
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # what nobody confuses on the telephone
_AT_ONCE = 2
_WAIT_SECONDS = 10.0
_REMEMBERED_SECONDS = 3600.0
_MOST_REMEMBERED = 10_000
_hasher = argon2.PasswordHasher()
_NOBODY = _hasher.hash(secrets.token_hex())  # checked where there is nothing to check: an unknown name takes as long


def make() -> str:
    """A new password of 24 letters and digits in groups: 118 bits."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(6)) for _ in range(4))
    return "-".join(groups)


def hashed(password: str) -> str:
    """The hash to keep, a PHC string; Refused (`password_length`)."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Refused(f"a password has {SHORTEST} to {LONGEST} characters", code="password_length")
    return _hasher.hash(password)


class Passwords:
    """Checks passwords. Any thread may; it blocks for a tenth of a second and more."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._secret = secrets.token_bytes(32)
        self._matched: dict[tuple[str, bytes], float] = {}  # (hash, keyed digest of the password) -> until when

    def match(self, hashes: Sequence[str], password: str) -> int | None:
        """Which of the hashes is the password's; None: none of them."""
        digest = hashlib.blake2b(password.encode("utf-8", "surrogatepass"), key=self._secret).digest()
        for number, one in enumerate(hashes):
            if self._matched.get((one, digest), 0.0) > clock.monotonic():
                return number
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise Unavailable("too many log-ins at once; try again", code="passwords")
        try:
            found = self._check(hashes, password)
        finally:
            self._free.release()
        if found is not None:
            if len(self._matched) >= _MOST_REMEMBERED:
                self._matched.clear()
            self._matched[hashes[found], digest] = clock.monotonic() + _REMEMBERED_SECONDS
        return found

    def _check(self, hashes: Sequence[str], password: str) -> int | None:
        too_long = len(password) > LONGEST
        for number, one in enumerate(hashes):
            if not too_long and _matches(one, password):
                return number
        if too_long or not hashes:
            _matches(_NOBODY, password[:LONGEST])
        return None


def _matches(one: str, password: str) -> bool:
    try:
        return _hasher.verify(one, password.encode("utf-8", "surrogatepass"))
    except argon2.exceptions.VerifyMismatchError:
        return False
