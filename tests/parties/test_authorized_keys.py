"""What another server's authorized_keys says of a key is kept, or the key is refused."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.parties import authorized_keys
from gateway.parties.authorized_keys import KeyLine

from .test_sshkeys import ED25519, FINGERPRINT

PARIS = ZoneInfo("Europe/Paris")


def _one(options: str = "", comment: str = "") -> KeyLine:
    (found,) = authorized_keys.read(f"{options} {ED25519} {comment}".strip(), PARIS)
    return found


def test_comments_and_empty_lines_are_no_keys() -> None:
    """Administrators write in these files."""
    text = f"# the ERP\r\n\r\n  {ED25519} erp@fonderie\r\n#{ED25519}\n"
    (found,) = authorized_keys.read(text, PARIS)
    assert (found.number, found.public_key, found.fingerprint) == (3, ED25519, FINGERPRINT)
    assert (found.label, found.networks, found.expires_at, found.refused) == ("erp@fonderie", None, None, "")


@pytest.mark.parametrize(
    "options",
    ["restrict", "no-pty,no-port-forwarding,no-X11-forwarding", 'command="internal-sftp"', 'permitopen="h:1",restrict']
)  # fmt: skip
def test_what_no_client_can_do_here_needs_no_option(options: str) -> None:
    """Nearly every account of an SFTP server has such options."""
    assert _one(options).refused == ""


@pytest.mark.parametrize(
    "options",
    ['command="/usr/bin/rrsync /data"', 'command="internal-sftp -R"', "cert-authority", 'principals="a"', "unheard-of",
     'tunnel="0"', 'from="*.fonderie.example"', 'from="192.0.2.7,!192.0.2.9"', 'from="192.0.2.1/24"', "verify-required",
     'expiry-time="soon"', 'expiry-time="20261399"', 'expiry-time="00010101"'],
)  # fmt: skip
def test_a_restriction_that_cannot_be_kept_refuses_its_key(options: str) -> None:
    """A key that was for one purpose must not become one for everything."""
    found = _one(options, "erp")
    assert found.refused
    assert found.fingerprint == FINGERPRINT  # whose line it is can be told


def test_from_becomes_networks() -> None:
    """Addresses too."""
    found = _one('from="192.0.2.0/24,198.51.100.7, 2001:db8::/32",no-pty')
    assert [str(one) for one in found.networks or ()] == ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("20270101", dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC)),
        ("20270101Z", dt.datetime(2027, 1, 1, tzinfo=dt.UTC)),
        ("202707011230", dt.datetime(2027, 7, 1, 10, 30, tzinfo=dt.UTC)),
        ("20270701123059Z", dt.datetime(2027, 7, 1, 12, 30, 59, tzinfo=dt.UTC)),
    ],
)
def test_expiry_time_is_local_unless_it_ends_in_z(text: str, end: dt.datetime) -> None:
    """As sshd reads it; local is the issuer's zone."""
    assert _one(f'expiry-time="{text}"').expires_at == end


def test_a_comma_or_a_quote_inside_a_value_ends_nothing() -> None:
    """Else `command="a,restrict"` would be read as two options."""
    assert "command" in _one(r'command="internal-sftp \",restrict,\" -d /",restrict').refused


@pytest.mark.parametrize("line", ["ssh-dss AAAAB3NzaC1kc3M= old", "garbage", "ssh-ed25519", "restrict", 'from="a'])
def test_what_is_no_key_is_refused_with_the_number_of_its_line(line: str) -> None:
    """So that somebody finds it."""
    good, bad = authorized_keys.read(f"{ED25519}\n{line}\n", PARIS)
    assert (good.refused, bad.number) == ("", 2)
    assert bad.refused


@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    """The files are strangers'."""
    for line in authorized_keys.read(text, PARIS):
        assert line.refused or line.public_key
