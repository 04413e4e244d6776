"""The gateway's own kinds of error; each protocol has one table that answers them.

A message is safe to show to the person at the other end: it says what was wrong, where, and what to
do, and never contains a path of the host, an internal address or a secret.
"""


class GatewayError(Exception):
    """Base of everything the gateway says no with."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (pools/): keyword arguments would be lost by the default.
        return _rebuild, (type(self), self.message, self.code, self.facts)


def _rebuild(kind: type[GatewayError], message: str, code: str, facts: dict[str, object]) -> GatewayError:
    return kind(message, code=code, **facts)


class Refused(GatewayError):
    """The input breaks a rule; the same input will be refused again."""

    code = "refused"


class TooLarge(Refused):
    """Over a limit of size; said before the whole input was read."""

    code = "too_large"


class NotFound(GatewayError):
    """It does not exist, or it is not yours: the two are never told apart."""

    code = "not_found"


class Denied(GatewayError):
    """Known, but not allowed to do this."""

    code = "denied"


class Conflict(GatewayError):
    """The state of the thing does not allow it now (a lost race, a name in use, a quarantined document)."""

    code = "conflict"


class Unavailable(GatewayError):
    """Not now: something that this needs is away or full. The same request may succeed later."""

    code = "unavailable"


class ConfigError(GatewayError):
    """The settings cannot be used; `where` in the facts names the key."""

    code = "config"
