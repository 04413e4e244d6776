"""Pages by key: the cursor is the last row's id, so that page 1,000 costs what page 1 costs and nothing is shown
twice when rows arrive meanwhile.

Identifiers sort by their time of creation (clock.new_id). A cursor is opaque to clients but no secret: it moves the
start of a page, never what may be seen.
"""

import base64
import re
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..errors import Refused

LIMIT = 50
MAX_LIMIT = 200
T = TypeVar("T")
_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")


class Listing(BaseModel):
    """The query of every list; a list with filters inherits it. An unknown parameter is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(LIMIT, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before")

    @property
    def after(self) -> str | None:
        """The id that the page follows; None: it is the first. Refused for a cursor that is none of ours."""
        return None if self.cursor is None else decode(self.cursor)


class Page(BaseModel, Generic[T]):
    """A page of a list. `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None


def cut(rows: Sequence[T], listing: Listing) -> tuple[Sequence[T], bool]:
    """The page's rows, of up to `limit` + 1 that were asked for, and whether there is another page."""
    return rows[: listing.limit], len(rows) > listing.limit


def encode(last_id: str) -> str:
    """The cursor after the row with this id."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The id in a cursor; Refused when it is none of ours."""
    try:
        last_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        last_id = ""
    if not _ID.fullmatch(last_id):
        raise Refused("this cursor is none that the gateway gave: start again without one", code="cursor")
    return last_id
