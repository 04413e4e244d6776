"""A mail is written, signed and checked in one step, before anything is stored or sent."""

import datetime as dt
import email
import email.policy

import pytest

from gateway.errors import Unavailable
from gateway.keys.load import SigningKey
from gateway.mail import smime
from gateway.mail.compose import compose
from gateway.mail.message import entity
from tests.mail.conftest import NOW, PDF, a_letter


def test_the_message_is_whole(key: SigningKey) -> None:
    """Header, signed entity, signature; a mail reader finds the document in it."""
    message = compose(a_letter(), key, NOW)
    read = email.message_from_bytes(message.content, policy=email.policy.default)
    assert read.get_content_type() == "multipart/signed"
    (attached,) = (part for part in read.walk() if part.get_content_type() == "application/pdf")
    assert attached.get_payload(decode=True) == PDF
    assert message.message_id == a_letter().message_id
    assert message.content.startswith(message.headers.encode("ascii") + b"\r\n")
    assert "\r\nContent-Type: multipart/signed;" in message.headers


def test_composing_again_changes_nothing_but_the_signature(key: SigningKey) -> None:
    """What is signed depends on the letter alone; the signature names its time."""
    first, second = compose(a_letter(), key, NOW), compose(a_letter(), key, NOW)
    assert first.headers == second.headers
    assert smime.split(first.content)[0] == smime.split(second.content)[0] == entity(a_letter())


@pytest.mark.parametrize("days", [-40, 40])
def test_an_invalid_certificate_signs_nothing(key: SigningKey, days: int) -> None:
    """The mail waits for a valid key; readers would call the signature invalid."""
    with pytest.raises(Unavailable):
        compose(a_letter(), key, NOW + dt.timedelta(days=days))
