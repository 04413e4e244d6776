"""The keys of one account of another SSH server: OpenSSH's authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

What an option restricts is kept or the key is refused, never widened in silence: `from=` becomes networks where it
names addresses only, `expiry-time=` the key's end. Options that forbid what no client can do here (terminals,
forwarding) say nothing; a forced command is refused, unless it is sftp itself.

Input is a stranger's file: a line that cannot be read is reported as refused, never raised.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from ..errors import Refused
from .sshkeys import read_public_key

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_KEY_TYPE = re.compile(r"(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+\s")
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(,|\s+)')
_END = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z?)")
_ALWAYS_SO = frozenset(
    {
        "restrict",
        "agent-forwarding",
        "no-agent-forwarding",
        "environment",
        "permitlisten",
        "permitopen",
        "port-forwarding",
        "no-port-forwarding",
        "pty",
        "no-pty",
        "user-rc",
        "no-user-rc",
        "x11-forwarding",
        "no-x11-forwarding",
    }
)


@dataclass(frozen=True)
class KeyLine:
    """One key of the file. `refused` says why it is not taken; empty: it is.

    `networks`: where it may come from; None: from everywhere. `expires_at`: an instant, UTC.
    """

    number: int
    public_key: str = ""
    fingerprint: str = ""
    label: str = ""
    networks: tuple[Network, ...] | None = None
    expires_at: dt.datetime | None = None
    refused: str = ""


def read(text: str, zone: ZoneInfo) -> list[KeyLine]:
    """The keys of a file, without comments and empty lines; `zone` is of an `expiry-time` that names none."""
    lines = enumerate(text.splitlines(), 1)
    return [_line(number, line.strip(), zone) for number, line in lines if line.strip() and line.strip()[0] != "#"]


def _line(number: int, text: str, zone: ZoneInfo) -> KeyLine:
    found = KeyLine(number, label=f"key {number}")
    try:
        options, rest = _split(text)
        parts = rest.split(None, 2)
        key = read_public_key(" ".join(parts[:2]))
        label = (parts[2].strip() if len(parts) > 2 else "") or found.label
        found = replace(found, public_key=key.line, fingerprint=key.fingerprint, label=label[:100].strip())
        for name, value in options:
            found = _restricted(found, name, value, zone)
    except Refused as error:
        return replace(found, refused=error.message)
    return found


def _split(text: str) -> tuple[list[tuple[str, str]], str]:
    """The options in front of a key, and the key; Refused."""
    options: list[tuple[str, str]] = []
    position = 0
    if not _KEY_TYPE.match(text):
        for option in _options(text):
            options.append((option[1].lower(), (option[2] or "").replace('\\"', '"')))
            position = option.end()
    return options, text[position:]


def _options(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while option := _OPTION.match(text, position):
        yield option
        if option[3] != ",":
            return
        position = option.end()
    raise Refused("this is neither a public key nor options in front of one")


def _restricted(line: KeyLine, name: str, value: str, zone: ZoneInfo) -> KeyLine:
    """The line under one more option; Refused for one that cannot be kept."""
    match name:
        case "from":
            return replace(line, networks=_networks(value))
        case "expiry-time":
            end = _instant(value, zone)
            return replace(line, expires_at=min(end, line.expires_at or end))
        case "command" if value.split() == ["internal-sftp"]:
            return line
        case _ if name in _ALWAYS_SO:
            return line
    raise Refused(f"its option {name[:40]} cannot be kept here: take the option away if the key may do without it")


def _networks(patterns: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(pattern.strip()) for pattern in patterns.split(","))
    except ValueError:
        raise Refused(
            f"its from={patterns[:80]!r} names more than addresses and networks: write those that are meant, as "
            "192.0.2.0/24"
        ) from None


def _instant(text: str, zone: ZoneInfo) -> dt.datetime:
    parts = _END.fullmatch(text)
    try:
        if parts is None:
            raise ValueError
        numbers = [int(part or 0) for part in parts.groups()[:6]]
        return dt.datetime(*numbers, tzinfo=dt.UTC if parts[7] else zone).astimezone(dt.UTC)  # type: ignore[misc,arg-type]
    except (ValueError, OverflowError):  # the second: in UTC it lies before the first year
        raise Refused(f"its expiry-time={text[:40]!r} is no day or instant: YYYYMMDD, or YYYYMMDDHHMM") from None
