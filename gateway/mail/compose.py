"""Compose a mail once, before the first connection: written, signed, and checked as whoever receives it will.

Every attempt sends these bytes. Pure but for the key: it blocks as long as a signature takes, so it runs in
a pool. Refused when the letter cannot be sent or the finished message fails its check; Unavailable when the
key's certificate is not valid now.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from ..keys.load import SigningKey
from . import smime
from .message import Letter, entity, header


@dataclass(frozen=True)
class Message:
    """A finished message: what is stored and sent, unchanged, at every attempt."""

    content: bytes = field(repr=False)  # header, empty line, body; CRLF
    headers: str  # the header fields of the message, kept when the content goes
    message_id: str  # without angle brackets


def compose(letter: Letter, key: SigningKey, at: dt.datetime) -> Message:
    """The signed message of `letter`; `at`: now, which the signature names; the certificate must be valid then."""
    key.check(at)
    content = header(letter) + smime.sign(entity(letter), key, at)
    smime.verify(
        content, key.certificate, [hashlib.sha256(attached.content).hexdigest() for attached in letter.attachments]
    )
    headers = content.partition(b"\r\n\r\n")[0].decode("ascii") + "\r\n"
    return Message(content, headers, letter.message_id)
