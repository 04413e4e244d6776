"""When a deferred or uncertain delivery is due again (RFC 5321 4.5.4.1: the delays are a setting). Pure."""

import datetime as dt
import random

from ..config import DeliverySettings


def next_attempt(
    settings: DeliverySettings, failed_attempts: int, since: dt.datetime, now: dt.datetime
) -> dt.datetime | None:
    """When to try again; None means give up: it has been tried for `give_up_hours` since `since`.

    `failed_attempts` >= 1. The last delay repeats; each varies by `retry_jitter_percent`, so that what failed
    together does not come back together.
    """
    if now - since >= dt.timedelta(hours=settings.give_up_hours):
        return None
    minutes = settings.retry_minutes[min(failed_attempts, len(settings.retry_minutes)) - 1]
    jitter = settings.retry_jitter_percent / 100
    return now + dt.timedelta(minutes=minutes * random.uniform(1 - jitter, 1 + jitter))  # noqa: S311 -- not a secret
