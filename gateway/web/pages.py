"""Pages by key: the cursor is the last row's id, so that page 1,000 costs what page 1 costs and nothing is shown
twice when rows arrive meanwhile.

Identifiers sort by their time of creation (clock.new_id). A cursor is opaque to clients but no secret: it moves the
start of a page, never what may be seen.
"""

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from ..errors import Refused

LIMIT = 50
MAX_LIMIT = 200
T = TypeVar("T")


class _HasId(Protocol):
    id: str


Row = TypeVar("Row", bound=_HasId)
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


def equal(*pairs: tuple[Any, object]) -> "list[sa.ColumnElement[bool]]":
    """The conditions of the filters that were given: (column, value), None being no filter."""
    return [col(column) == value for column, value in pairs if value is not None]


def cut(rows: Sequence[T], listing: Listing) -> tuple[Sequence[T], bool]:
    """The page's rows, of up to `limit` + 1 that were asked for, and whether there is another page."""
    return rows[: listing.limit], len(rows) > listing.limit


def of_things(rows: Sequence[Row], listing: Listing, shown: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """A page of things with an id, of up to `limit` + 1 that were asked for."""
    here, more = cut(rows, listing)
    return {"items": [shown(row) for row in here], "next_cursor": encode(here[-1].id) if more else None}


def whole(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A list that is short enough for one page."""
    return {"items": items, "next_cursor": None}


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
