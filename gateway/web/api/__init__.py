"""The endpoints of /api/v1, a module for each noun. Each names its permission, asks a part, and shows."""

import datetime as dt
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

API = "/api/v1"


def _in_utc(instant: dt.datetime) -> dt.datetime:
    try:
        return instant.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("no calendar has this instant") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
