"""The envelope sender names its delivery, survives what relays do to it, and cannot be made without the secret."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.clock import ID_LENGTH
from gateway.domain.identifiers import mail_address
from gateway.errors import ConfigError
from gateway.mail import verp

CURRENT, PREVIOUS, FOREIGN = b"c" * 32, b"p" * 32, b"f" * 32
IDENTIFIER_LETTERS, TOKEN_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz", "abcdefghijklmnopqrstuvwxyz234567"
deliveries = st.text(IDENTIFIER_LETTERS, min_size=ID_LENGTH, max_size=ID_LENGTH).map("dlv_".__add__)
secrets = st.binary(min_size=32, max_size=64)


@given(deliveries, secrets)
def test_an_address_names_the_delivery_it_was_made_for(delivery: str, secret: bytes) -> None:
    """It is a plain address, short enough for every relay, and lower case."""
    address = verp.sender(delivery, secret, "Bounces.Gateway.example")
    assert verp.read(address, [secret]) == delivery
    assert mail_address(address) == address == address.lower()
    assert len(address.partition("@")[0]) <= 64


@given(deliveries)
def test_case_does_not_matter(delivery: str) -> None:
    """Relays on the way back change it."""
    address = verp.sender(delivery, CURRENT, "gateway.example")
    mixed = "".join(c.upper() if i % 2 else c for i, c in enumerate(address))
    assert verp.read(mixed, [CURRENT]) == verp.read(address.upper(), [CURRENT]) == delivery


@given(deliveries, st.integers(2, 43), st.integers(1, 31))
def test_one_changed_character_is_found(delivery: str, position: int, steps: int) -> None:
    """A forged bounce changes nothing: neither another delivery's identifier nor a guessed token passes."""
    address = verp.sender(delivery, CURRENT, "gateway.example")
    letters = IDENTIFIER_LETTERS if position < 2 + ID_LENGTH else TOKEN_LETTERS
    other = letters[(letters.index(address[position]) + steps) % len(letters)]
    assert verp.read(address[:position] + other + address[position + 1 :], [CURRENT, PREVIOUS]) is None


def test_the_previous_secret_is_still_read_and_a_foreign_one_is_not() -> None:
    """A secret rolls without losing the bounces of what went out before."""
    delivery = clock.new_id("dlv")
    address = verp.sender(delivery, PREVIOUS, "gateway.example")
    assert verp.read(address, [CURRENT, PREVIOUS]) == delivery
    assert verp.read(address, [CURRENT, FOREIGN]) is None
    assert verp.read(address, []) is None


@given(st.text())
def test_anything_else_is_no_address_of_ours(address: str) -> None:
    """Recipients at the inbound listener are whatever anyone sends."""
    assert verp.read(address, [CURRENT]) is None


def test_a_short_secret_is_a_wrong_setting(tmp_path: Path) -> None:
    """Fewer than 32 bytes could be guessed offline from one address."""
    path = tmp_path / "verp"
    path.write_bytes(b"x" * 31)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="fewer than 32"):
        verp.load_secret(path)
    path.write_bytes(b"x" * 32)
    assert verp.load_secret(path) == b"x" * 32
