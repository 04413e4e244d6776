"""What `gateway check` finds: one thing that is wrong, where, and what to do."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import GatewayError

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `where` is the key of the settings."""

    level: str
    where: str
    what: str

    @property
    def is_error(self) -> bool:
        """It would stop the gateway, or what the gateway is for."""
        return self.level == ERROR


def said(where: str, attempt: Callable[[], object]) -> Iterator[Finding]:
    """What `attempt` raises, as an error at `where`."""
    try:
        attempt()
    except GatewayError as error:
        yield failed(where, error)


def failed(where: str, error: GatewayError) -> Finding:
    """What a part says when it is built on such settings; it may begin with the key, which stands in `where`."""
    return Finding(ERROR, where, re.sub(r"^(\[[\w.]+\]:? ?)+", "", error.message))
