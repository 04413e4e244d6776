"""The envelope sender of a mail names its delivery, so that whatever comes back is about one delivery (VERP).

`b+` + the 26 characters of the delivery's identifier + 16 of HMAC-SHA256 + `@` + the return path's domain: 44
characters before the `@` (RFC 5321 4.5.3.1.1 allows 64), all lower case and read without regard to case,
because relays on the way back change it. Without the secret nobody makes one: a forged bounce changes nothing.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path

from ..clock import ID_LENGTH
from ..errors import ConfigError
from ..keys.load import read_private

PREFIX = "dlv_"
MIN_SECRET_BYTES = 32
_TOKEN_BYTES = 10  # 16 characters of base32
_LOCAL_PART = re.compile(rf"b\+([0-9a-hjkmnp-tv-z]{{{ID_LENGTH}}})([a-z2-7]{{16}})")


def sender(delivery_id: str, secret: bytes, domain: str) -> str:
    """The address of `delivery_id` (`dlv_…`)."""
    identifier = delivery_id.removeprefix(PREFIX)
    return f"b+{identifier}{_token(identifier, secret)}@{domain.lower()}"


def read(address: str, secrets: Sequence[bytes]) -> str | None:
    """The delivery id that `address` names; None unless one of `secrets` (the current, the previous) made it."""
    found = _LOCAL_PART.fullmatch(address.partition("@")[0].lower())
    if found is None:
        return None
    identifier, token = found.groups()
    # Every secret is tried, and each in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(token, _token(identifier, secret)) for secret in secrets]
    return PREFIX + identifier if any(matches) else None


def load_secret(path: Path) -> bytes:
    """The secret of a file; ConfigError when it is missing, open to others or too short."""
    secret = read_private(path)
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(f"{path}: fewer than {MIN_SECRET_BYTES} random bytes", where="[mail] verp_secret_file")
    return secret


def _token(identifier: str, secret: bytes) -> str:
    digest = hmac.digest(secret, identifier.encode("ascii"), hashlib.sha256)
    return base64.b32encode(digest[:_TOKEN_BYTES]).decode("ascii").lower()
