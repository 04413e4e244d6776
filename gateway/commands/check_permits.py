"""What `gateway check` asks of the legacy SFTP listener: whether anybody may come, and until when."""

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from .. import clock
from ..config import Settings
from ..errors import GatewayError
from ..parties import permits
from ..store import migrations, state
from ..store.database import Database
from .findings import WARNING, Finding

SOON_DAYS = 14


def legacy(settings: Settings) -> Iterator[Finding]:
    """[sftp_legacy]"""
    where = "[sftp_legacy.enabled]"
    if not settings.sftp_legacy.enabled:
        return
    if not settings.sftp.enabled:
        yield Finding(WARNING, where, "without [sftp] enabled it does not listen")
    try:
        if not _is_readable(settings):
            return  # what is wrong with the database is said of [store.database]
        db = Database.open(state.database_url(settings.store))
    except (GatewayError, sa.exc.SQLAlchemyError):
        return
    try:
        found = db.read(permits.in_force)
    finally:
        db.close()
    if not found:
        yield Finding(WARNING, where, "on, and nobody has a permit: turn it off, or gateway permit add CLIENT")
    for permit in found:
        if (days := (permit.ends_at - clock.now()).days) < SOON_DAYS:
            yield Finding(
                WARNING,
                where,
                f"permit {permit.id} of client {permit.client_id} ends in {days} days, on {permit.ends_at:%Y-%m-%d}",
            )


def _is_readable(settings: Settings) -> bool:
    url = state.database_url(settings.store)
    file = sa.make_url(url).database if url.startswith("sqlite:") else None
    return (file is None or Path(file).exists()) and migrations.current(url) == migrations.newest()
