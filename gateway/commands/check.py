"""`gateway check`: everything that can be wrong with a configuration, found before a daemon runs on it.

Each finding says what, where (the key) and what to do; errors would stop the daemon or what it is for, warnings
would not. Nothing is changed and nothing outside this machine is asked, except the configured database.
"""

import datetime as dt
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from .. import clock
from ..config import Settings
from ..domain import identifiers
from ..errors import GatewayError
from ..keys.load import SigningKey, load_pkcs12, read_private
from ..keys.trust import Trust, load_certificates
from ..mail import smime
from ..servers import httpd
from ..store import migrations, state
from .reach import daemon_runs

ERROR, WARNING = "error", "warning"
EXPIRY_DAYS = 60
PLATFORM_FROM = dt.date(2026, 9, 1)
VERP_BYTES = 32


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


def check(settings: Settings) -> list[Finding]:
    """Every finding, errors first."""
    found = [finding for part in _PARTS for finding in part(settings)]
    return sorted(found, key=lambda finding: not finding.is_error)


def _issuer(settings: Settings) -> Iterator[Finding]:
    where = "[issuer.sellers]"
    if not settings.issuer.sellers:
        yield Finding(ERROR, where, "no seller: every invoice would be refused; name the sellers' SIRENs")
    for seller in settings.issuer.sellers:
        yield from _said(where, lambda seller=seller: identifiers.party(seller))  # type: ignore[misc]
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
    if not directory.is_dir():
        yield Finding(WARNING, where, f"{directory} does not exist yet; `gateway serve` makes it")
        return
    yield from _said(where, lambda: state.require_owner(directory))
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        yield Finding(ERROR, where, f"{directory}: others may look into it; chmod 700 it")
    space = os.statvfs(directory)
    free = 100.0 * space.f_bavail / max(space.f_blocks, 1)
    if free < settings.store.free_space_floor_percent:
        yield Finding(ERROR, "[store.free_space_floor_percent]", f"{free:.1f} % is free: the intake refuses everything")


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
        yield Finding(ERROR, where, error.message)
        return
    if revision != migrations.newest():
        level = WARNING if file is not None else ERROR
        needed = migrations.newest()
        yield Finding(level, where, f"schema {revision or 'none'}, this release needs {needed}: run `gateway migrate`")


def _seal(settings: Settings) -> Iterator[Finding]:
    seal = settings.seal
    if seal.certificate is None:
        yield Finding(WARNING, "[seal.certificate]", "no key: originals wait unsealed and nothing is delivered")
    else:
        yield from _key("[seal.certificate]", seal.certificate, seal.password_file, seal.trust)
    if not seal.trust:
        yield Finding(WARNING, "[seal.trust]", "no root: the seal's own chain cannot be validated")
    if seal.level == "B-T" and not seal.timestamp_url:
        yield Finding(ERROR, "[seal.timestamp_url]", "level B-T needs a time-stamp authority: documents would wait")
    for path in (*seal.trust, *seal.issuer_certificates):
        yield from _said("[seal.trust]" if path in seal.trust else "[seal.issuer_certificates]", _loads(path))


def _mail(settings: Settings) -> Iterator[Finding]:
    mail = settings.mail
    if not mail.enabled:
        yield Finding(WARNING, "[mail.enabled]", "false: mail deliveries stay planned")
        return
    yield from _said("[mail.from_address]", lambda: identifiers.mail_address(mail.from_address))
    if mail.certificate is None:
        yield Finding(WARNING, "[mail.certificate]", "no key: no mail can be signed, and none leaves unsigned")
    else:
        yield from _key("[mail.certificate]", mail.certificate, mail.password_file, mail.trust)
        yield from _mail_key(settings)
    yield from _verp(settings)
    yield from _relay(settings)


def _mail_key(settings: Settings) -> Iterator[Finding]:
    key = _quietly(settings.mail.certificate, settings.mail.password_file)
    if key is None:
        return
    yield from _said("[mail.certificate]", lambda: smime.check_certificate(key, settings.mail.from_address))
    seal = _quietly(settings.seal.certificate, settings.seal.password_file)
    if seal is not None and seal.certificate_sha256 == key.certificate_sha256:
        yield Finding(ERROR, "[mail.certificate]", "the same as the seal's: the two keys are two certificates")


def _verp(settings: Settings) -> Iterator[Finding]:
    where, path = "[mail.verp_secret_file]", settings.mail.verp_secret_file
    if path is None:
        yield Finding(ERROR, where, f"missing: {VERP_BYTES} random bytes, by which a bounce is known to be ours")
        return
    yield from _said(where, lambda: read_private(path))
    if path.is_file() and path.stat().st_size < VERP_BYTES:
        yield Finding(ERROR, where, f"{path}: under {VERP_BYTES} bytes")


def _relay(settings: Settings) -> Iterator[Finding]:
    mail = settings.mail
    if mail.relay_tls == "off" and not _is_loopback(mail.relay_host):
        yield Finding(ERROR, "[mail.relay_tls]", f"off is for loopback: mail to {mail.relay_host} would go in clear")
    if mail.relay_ca is not None:
        yield from _said("[mail.relay_ca]", _loads(mail.relay_ca))
    password = mail.relay_password_file
    if mail.username and password is None:
        yield Finding(ERROR, "[mail.relay_password_file]", "missing, while [mail.username] is set")
    if password is not None:
        yield from _said("[mail.relay_password_file]", lambda: read_private(password))


def _listeners(settings: Settings) -> Iterator[Finding]:
    if settings.intake.max_megabytes > settings.http.max_upload_megabytes:
        yield Finding(WARNING, "[http.max_upload_megabytes]", "under [intake.max_megabytes]: large uploads fail")
    for key in settings.sftp.host_keys:
        yield from _said("[sftp.host_keys]", lambda key=key: read_private(key))  # type: ignore[misc]
    try:
        free = not daemon_runs(settings)
    except OSError:
        free = False  # the state directory is another user's, which is said already
    yield from _listener("[http.listen]", settings.http.listen, loopback_only=True, free=free)
    if settings.sftp.enabled:
        yield from _listener("[sftp.listen]", settings.sftp.listen, loopback_only=False, free=free)


def _listener(where: str, listen: str, *, loopback_only: bool, free: bool) -> Iterator[Finding]:
    """An address to listen on; whether its port is free is asked only when no daemon of ours holds it."""
    try:
        family, address = httpd.resolve(listen, where)
        if loopback_only and not ipaddress.ip_address(address[0]).is_loopback:
            yield Finding(ERROR, where, f"{listen}: plain HTTP is served on loopback only")
        elif free:
            httpd.bind(family, address, where).close()
    except GatewayError as error:
        yield Finding(ERROR, where, error.message)


def _spool(settings: Settings) -> Iterator[Finding]:
    directory = settings.spool.directory
    if settings.spool.enabled and directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
        yield Finding(ERROR, "[spool.directory]", f"{directory} is not writable for this user")


_PARTS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _issuer,
    _store,
    _database,
    _seal,
    _mail,
    _listeners,
    _spool,
)


def _today(settings: Settings) -> dt.date:
    return clock.day_of(clock.now(), settings.issuer.zone)


def _key(where: str, path: Path, password_file: Path | None, trust: tuple[Path, ...]) -> Iterator[Finding]:
    """A PKCS#12 file: it opens, key and certificate belong together, it is valid, its chain leads to a root."""
    try:
        key = load_pkcs12(path, password_file)
        key.check(clock.now())
        if trust:
            Trust.load(trust).validate(key.certificate, key.chain, clock.now())
    except GatewayError as error:
        yield Finding(ERROR, where, error.message)
        return
    days = (key.not_after - clock.now()).days
    if days < EXPIRY_DAYS:
        yield Finding(WARNING, where, f"{key.subject} expires in {days} days, on {key.not_after:%Y-%m-%d}")


def _quietly(path: Path | None, password_file: Path | None) -> SigningKey | None:
    """The key, or None where `_key` has already said what is wrong."""
    try:
        return None if path is None else load_pkcs12(path, password_file)
    except GatewayError:
        return None


def _loads(path: Path) -> Callable[[], object]:
    return lambda: load_certificates(path)


def _said(where: str, attempt: Callable[[], object]) -> Iterator[Finding]:
    """What `attempt` raises, as an error at `where`."""
    try:
        attempt()
    except GatewayError as error:
        yield Finding(ERROR, where, error.message)


def _is_loopback(host: str) -> bool:
    try:
        return all(ipaddress.ip_address(info[4][0]).is_loopback for info in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False
