"""`gateway check`: everything that can be wrong with a configuration, found before a daemon runs on it.

Each finding says what, where (the key) and what to do; errors would stop the daemon or what it is for, warnings
would not. Nothing is changed and nothing outside this machine is asked, except the configured database.
"""

import datetime as dt
import ipaddress
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from .. import clock
from ..config import IssuerSettings, Settings
from ..domain import identifiers
from ..errors import GatewayError
from ..servers import httpd
from ..store import migrations, state
from . import check_keys, check_permits
from .findings import ERROR, WARNING, Finding, failed, said
from .reach import daemon_runs

PLATFORM_FROM = dt.date(2026, 9, 1)


def check(settings: Settings) -> list[Finding]:
    """Every finding, errors first."""
    found = [finding for part in _PARTS for finding in part(settings)]
    return sorted(found, key=lambda finding: not finding.is_error)


def _issuer(settings: Settings) -> Iterator[Finding]:
    where = "[issuer.sellers]"
    if not settings.issuer.sellers:
        yield Finding(ERROR, where, "no seller: every invoice would be refused; name the sellers' SIRENs")
    if settings.issuer.name == IssuerSettings().name:
        yield Finding(WARNING, "[issuer.name]", f"still {settings.issuer.name!r}: clients read it in every mail")
    for seller in settings.issuer.sellers:
        yield from said(where, lambda seller=seller: identifiers.party(seller))  # type: ignore[misc]
    if settings.issuer.original_channel == "gateway" and _today(settings) >= PLATFORM_FROM:
        yield Finding(
            WARNING,
            "[issuer.original_channel]",
            f"gateway: from {PLATFORM_FROM} on, invoices between French companies go through an approved platform, and "
            "what goes out here is a copy; set platform unless this issuer or its buyers are not bound",
        )


def _store(settings: Settings) -> Iterator[Finding]:
    directory = settings.store.directory
    where = "[store.directory]"
    yield from _writable(where, directory)
    if not directory.is_dir():
        return
    yield from said(where, lambda: state.require_owner(directory))
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        yield Finding(ERROR, where, f"{directory}: others may look into it; chmod 700 it")
    space = os.statvfs(directory)
    free = 100.0 * space.f_bavail / max(space.f_blocks, 1)
    if free < settings.store.free_space_floor_percent:
        yield Finding(ERROR, "[store.free_space_floor_percent]", f"{free:.1f} % is free: the intake refuses everything")


def _writable(where: str, directory: Path) -> Iterator[Finding]:
    """A directory that is ours to write into, or can be made."""
    found = next(place for place in (directory, *directory.parents) if place.exists())
    if not found.is_dir():
        yield Finding(ERROR, where, f"{found} is not a directory")
    elif not os.access(found, os.W_OK | os.X_OK):
        what = "" if found == directory else f"{directory} does not exist, and "
        yield Finding(ERROR, where, f"{what}{found} is not writable for this user")
    elif found != directory:
        yield Finding(WARNING, where, f"{directory} does not exist yet; `gateway serve` makes it")


def _blobs(settings: Settings) -> Iterator[Finding]:
    if settings.store.blobs:
        from ..store.s3 import open_store

        yield from said("[store.blobs]", lambda: open_store(settings.store.blobs))


def _database(settings: Settings) -> Iterator[Finding]:
    where = "[store.database]"
    url = state.database_url(settings.store)
    try:
        file = sa.make_url(url).database if url.startswith("sqlite:") else None
        if file is not None and not Path(file).exists():
            return  # `serve` makes it
        revision = migrations.current(url)
    except sa.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
        yield Finding(ERROR, where, f"the database does not answer: {cause}")
        return
    except GatewayError as error:
        yield failed(where, error)
        return
    if revision != migrations.newest():
        level = WARNING if file is not None else ERROR
        needed = migrations.newest()
        yield Finding(level, where, f"schema {revision or 'none'}, this release needs {needed}: run `gateway migrate`")


def _listeners(settings: Settings) -> Iterator[Finding]:
    if settings.intake.max_megabytes > settings.http.max_upload_megabytes:
        yield Finding(WARNING, "[http.max_upload_megabytes]", "under [intake.max_megabytes]: large uploads fail")
    try:
        free = not daemon_runs(settings)
    except OSError:
        free = False  # the state directory is another user's, which is said already
    yield from _listener("[http.listen]", settings.http.listen, loopback_only=True, free=free)
    if settings.sftp.enabled:
        yield from _listener("[sftp.listen]", settings.sftp.listen, loopback_only=False, free=free)
        yield from _host_keys(settings)
    if settings.sftp.enabled and settings.sftp_legacy.enabled:
        yield from _listener("[sftp_legacy.listen]", settings.sftp_legacy.listen, loopback_only=False, free=free)
    if settings.ftps.enabled:
        yield from _listener("[ftps.listen]", settings.ftps.listen, loopback_only=False, free=free)
        if settings.ftps.listen_implicit:
            where = "[ftps.listen_implicit]"
            yield from _listener(where, settings.ftps.listen_implicit, loopback_only=False, free=free)
    yield from _collisions(settings)


def _host_keys(settings: Settings) -> Iterator[Finding]:
    if settings.sftp.host_keys:
        from ..servers.ssh_keys import load  # asyncssh takes half a second

        for path in settings.sftp.host_keys:
            yield from said("[sftp.host_keys]", lambda path=path: load([path], path.parent))  # type: ignore[misc]


def _collisions(settings: Settings) -> Iterator[Finding]:
    """Each port was found free: together they may still be one."""
    sftp, ftps = settings.sftp, settings.ftps
    wanted = [("[http.listen]", settings.http.listen)]
    wanted += [("[sftp.listen]", sftp.listen)] if sftp.enabled else []
    if sftp.enabled and settings.sftp_legacy.enabled:
        wanted.append(("[sftp_legacy.listen]", settings.sftp_legacy.listen))
    wanted += [("[ftps.listen]", ftps.listen), ("[ftps.listen_implicit]", ftps.listen_implicit)] if ftps.enabled else []
    taken: list[tuple[str, str, int]] = []
    for where, listen in wanted:
        try:
            host, port = httpd.resolve(listen, where)[1][:2]
        except GatewayError:
            continue  # said already, or empty
        for of, other, same in taken:
            either_is_any = ipaddress.ip_address(host).is_unspecified or ipaddress.ip_address(other).is_unspecified
            if port == same != 0 and (host == other or either_is_any):
                yield Finding(ERROR, where, f"{listen} takes the port of {of}: name another")
        taken.append((where, str(host), int(port)))


def _listener(where: str, listen: str, *, loopback_only: bool, free: bool) -> Iterator[Finding]:
    """An address to listen on; whether its port is free is asked only when no daemon of ours holds it."""
    try:
        family, address = httpd.resolve(listen, where)
        if loopback_only and not ipaddress.ip_address(address[0]).is_loopback:
            yield Finding(ERROR, where, f"{listen}: plain HTTP is served on loopback only")
        elif free:
            httpd.bind(family, address, where).close()
    except GatewayError as error:
        yield failed(where, error)


def _spool(settings: Settings) -> Iterator[Finding]:
    directory = settings.spool.directory
    if not settings.spool.enabled:
        return
    if directory.exists() or settings.store.directory not in directory.parents:
        yield from _writable("[spool.directory]", directory)
    for name in ("tmp", "new", "refused", "quarantined"):
        if (directory / name).exists():
            yield from _writable("[spool.directory]", directory / name)


_PARTS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _issuer,
    _store,
    _blobs,
    _database,
    check_keys.seal,
    check_keys.mail,
    check_keys.ftps,
    _listeners,
    check_permits.legacy,
    _spool,
)


def _today(settings: Settings) -> dt.date:
    return clock.day_of(clock.now(), settings.issuer.zone)
