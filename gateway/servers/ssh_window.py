"""How much of what was sent over an SSH channel its client has taken, by the channel's window (RFC 4254 section 5.2).

A client widens the window by what it has taken off the channel, some time later (OpenSSH: every 96 KB). Some widen it
ahead of that (libssh and PuTTY, to be served faster): a window that is larger than it was in the beginning shows by
how much, and so much less is known to have been taken from then on. asyncssh keeps the window under a private name,
which this module alone reads; without it nothing is known to have been taken, and receipts come late, never wrong.
"""

from typing import Any


class Window:
    """The window of one channel, from its opening on."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._first = self._now()
        self._ahead = 0  # bytes by which it was widened for what had not been sent

    def taken(self, sent: int) -> int:
        """Of the first `sent` bytes of the channel's stream, which are sent: at least so many were taken."""
        now = self._now()
        if now is None or self._first is None:
            return 0
        widened = now - self._first
        if widened > self._ahead:
            self._ahead = widened
        return max(0, widened - self._ahead + sent)

    def _now(self) -> int | None:
        value = getattr(self._channel, "_send_window", None)
        return value if isinstance(value, int) else None
