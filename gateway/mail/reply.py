"""What the relay's answer, or its absence, means for the delivery: the only retry-or-fail policy of the mail channel.

Replies are read as RFC 5321 4.2 and RFC 2034 say, from input that may be hostile: Garbage, never a guess.
Whatever is not a clear yes or no is worth another try. What counts is where it happened (Phase): before a
message is named the trouble is the relay's and no message is to blame; once the final dot may have been sent,
silence is not a no, and the delivery is uncertain. No I/O; transport.py asks, delivery/ acts on the verdict.
"""

import enum
import re
from dataclasses import dataclass
from typing import Literal

MAX_LINE = 2048  # octets with CRLF; RFC 5321 4.5.3.1.5 says 512, real relays write more
MAX_LINES = 200  # of one reply
MAX_TEXT = 900  # characters kept

_LINE = re.compile(rb"([2-5][0-9]{2})([ -]?)((?<=[ -])[^\r\n]*|)\r\n")
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_QUEUE_IDS = (  # what relays say they filed the message under
    re.compile(r"queued as ([A-Za-z0-9._/-]{1,100})"),  # Postfix
    re.compile(r"\bid=([A-Za-z0-9._-]{1,100})"),  # Exim
    re.compile(r"InternalId=([0-9]{1,100})"),  # Exchange
    re.compile(r"([A-Za-z0-9._-]{1,100}) Message accepted for delivery"),  # Sendmail
    re.compile(r"OK +[0-9]+ ([A-Za-z0-9._-]{1,100}) - gsmtp"),  # Gmail
)


class Garbage(ValueError):
    """Not an SMTP reply: another protocol, a line without CRLF, a flood."""


@dataclass(frozen=True)
class Reply:
    """One reply, of one line or several."""

    code: int  # 200 to 599
    status: str  # enhanced status code, RFC 3463; empty: none
    lines: tuple[str, ...]  # without code and status; printable characters only

    @property
    def text(self) -> str:
        """The lines as one, at most MAX_TEXT characters."""
        return " ".join(filter(None, self.lines))[:MAX_TEXT]

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.status, self.text) if part)

    @property
    def queue_id(self) -> str:
        """The relay's name for the message it accepted; empty when it said none that is known."""
        found = (pattern.search(self.text) for pattern in _QUEUE_IDS)
        return next((match[1].rstrip(".") for match in found if match), "")


def take(buffer: bytearray) -> Reply | None:
    """Cut one whole reply from the front of `buffer`; None: not whole yet, nothing was cut.

    Garbage when no reply can come of it; the buffer is then worth nothing.
    """
    lines: list[re.Match[bytes]] = []
    start = 0
    while (end := buffer.find(b"\n", start)) >= 0:
        lines.append(_line(bytes(buffer[start : end + 1])))
        if lines[-1][1] != lines[0][1]:
            raise Garbage("a reply with two codes")
        start = end + 1
        if lines[-1][2] != b"-":
            del buffer[:start]
            return _joined(lines)
        if len(lines) >= MAX_LINES:
            raise Garbage("a reply without end")
    if len(buffer) - start > MAX_LINE:
        raise Garbage("a reply line without end")
    return None


def _line(line: bytes) -> re.Match[bytes]:
    if len(line) > MAX_LINE:
        raise Garbage("a reply line that is too long")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Garbage(f"not a line of an SMTP reply: {_printable(line[:80])}")
    return found


def _joined(lines: list[re.Match[bytes]]) -> Reply:
    code, status, texts = int(lines[0][1]), "", []
    for line in lines:
        text = _printable(line[3])
        found = _STATUS.match(text)
        if found and int(found[1]) == code // 100:  # RFC 2034 4: a status of another class means nothing
            status = status or found[0]
            text = text[found.end() :]
        texts.append(text.strip())
    return Reply(code, status, tuple(texts))


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))


class Phase(enum.StrEnum):
    """How far an attempt had come: what was asked last. `banner` to `auth` are the relay's own affair."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    TLS = "tls"  # the handshake
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the command
    BODY = "body"  # the message is being sent, but not its final dot
    DOT = "dot"  # the final dot may have been sent


class Trouble(enum.StrEnum):
    """Why there is no reply."""

    UNREACHABLE = "unreachable"
    CUT = "cut"  # closed or reset
    DEADLINE = "deadline"
    GARBAGE = "garbage"
    NO_STARTTLS = "no_starttls"
    INJECTED = "injected"  # bytes behind the reply to STARTTLS, sent in clear
    TLS_FAILED = "tls_failed"
    NO_AUTH = "no_auth"
    TOO_LARGE = "too_large"


@dataclass(frozen=True)
class Silence:
    """The absence of an answer, and what is known of it."""

    trouble: Trouble
    detail: str = ""

    def __str__(self) -> str:
        return f"{_SAID[self.trouble]}: {self.detail}"[:MAX_TEXT] if self.detail else _SAID[self.trouble]


_SAID = {
    Trouble.UNREACHABLE: "no connection",
    Trouble.CUT: "connection cut",
    Trouble.DEADLINE: "no answer before the deadline",
    Trouble.GARBAGE: "not SMTP",
    Trouble.NO_STARTTLS: "the relay offers no STARTTLS, and TLS is required",
    Trouble.INJECTED: "bytes in clear behind the reply to STARTTLS",
    Trouble.TLS_FAILED: "TLS failed",
    Trouble.NO_AUTH: "the relay offers no log-in that can be used",
    Trouble.TOO_LARGE: "larger than the relay takes",
}

Ending = Literal["accepted", "deferred", "uncertain", "failed"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of the delivery: the word is the event of its move (domain.states.MAIL_MOVES)."""

    outcome: Ending
    phase: Phase
    reply: str  # the relay's answer, or why there is none
    of_relay: bool = False  # the relay is in trouble, not this message


@dataclass(frozen=True)
class _Policy:
    """The row of a phase."""

    temporary: Ending  # 4yz
    permanent: Ending  # 5yz
    otherwise: Ending  # no answer, or one that means nothing here
    of_relay: bool = False


# A 5yz before MAIL speaks of us or of the relay (a banner 554, a wrong password), not of a message: messages wait.
_RELAY = _Policy("deferred", "deferred", "deferred", of_relay=True)
_MESSAGE = _Policy("deferred", "failed", "deferred")

POLICY: dict[Phase, _Policy] = {
    Phase.CONNECT: _RELAY,
    Phase.BANNER: _RELAY,
    Phase.EHLO: _RELAY,
    Phase.STARTTLS: _RELAY,
    Phase.TLS: _RELAY,
    Phase.AUTH: _RELAY,
    Phase.MAIL: _MESSAGE,
    Phase.RCPT: _MESSAGE,
    Phase.DATA: _MESSAGE,
    Phase.BODY: _MESSAGE,
    # A relay that took the message and was cut before its 250 looks the same as one that never got the dot.
    Phase.DOT: _Policy("deferred", "failed", "uncertain"),
}
_OUR_SESSION = frozenset({530, 538})  # RFC 4954 6, RFC 3207 4: "log in first", "TLS first": our settings, no message


def verdict(phase: Phase, answer: Reply | Silence) -> Verdict:
    """What an attempt comes to that ended in `phase` with `answer`; RFC 5321 4.2.1, THREATS of SMTP in POLICY.

    Only a 2yz to the final dot is accepted. A relay's shutting down (421) is its own trouble wherever it comes.
    """
    policy = POLICY[phase]
    said = str(answer)
    if isinstance(answer, Silence):
        if answer.trouble is Trouble.TOO_LARGE:
            return Verdict("failed", phase, said)
        return Verdict(policy.otherwise, phase, said, of_relay=policy.of_relay)
    kind = answer.code // 100
    if kind == 2 and phase is Phase.DOT:
        return Verdict("accepted", phase, said)
    if answer.code in _OUR_SESSION and phase is not Phase.DOT:
        return Verdict("deferred", phase, said, of_relay=True)
    if kind == 4:
        return Verdict(policy.temporary, phase, said, of_relay=policy.of_relay or answer.code == 421)
    if kind == 5:
        return Verdict(policy.permanent, phase, said, of_relay=policy.of_relay)
    return Verdict(policy.otherwise, phase, f"unexpected: {said}", of_relay=policy.of_relay)
