"""What `gateway check` asks of keys: the seal's, the mail's with its relay and secret, the FTPS listeners'."""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .. import clock
from ..config import Settings
from ..domain import identifiers
from ..errors import ConfigError, GatewayError
from ..keys.load import SigningKey, load_pkcs12, read_private
from ..keys.trust import Trust, load_certificates
from ..mail import smime
from ..servers.ftps_tls import Identity
from .findings import ERROR, WARNING, Finding, failed, said

EXPIRY_DAYS = 60
VERP_BYTES = 32


def seal(settings: Settings) -> Iterator[Finding]:
    """[seal]"""
    seal = settings.seal
    if seal.certificate is None:
        yield Finding(
            WARNING, "[seal.certificate]", "no key: originals wait unsealed, nothing is delivered, no manifest signed"
        )
    else:
        stops = "then nothing is sealed, and no manifest is signed"
        yield from _key("seal", seal.certificate, seal.password_file, seal.trust, stops)
    if not seal.trust:
        yield Finding(WARNING, "[seal.trust]", "no root: the seal's own chain cannot be validated")
    if seal.level == "B-T":
        yield Finding(WARNING, "[seal.level]", "B-T is not built yet: documents wait, none is sealed below it")
        url = urlsplit(seal.timestamp_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            yield Finding(ERROR, "[seal.timestamp_url]", "level B-T needs an authority's http:// or https:// address")
    for path in seal.trust:
        yield from said("[seal.trust]", _loads(path))
    for path in seal.issuer_certificates:
        yield from said("[seal.issuer_certificates]", _loads(path))


def mail(settings: Settings) -> Iterator[Finding]:
    """[mail]"""
    mail = settings.mail
    if not mail.enabled:
        yield Finding(WARNING, "[mail.enabled]", "false: mail deliveries stay planned")
        return
    yield from said("[mail.from_address]", lambda: identifiers.mail_address(mail.from_address))
    if mail.certificate is None:
        yield Finding(WARNING, "[mail.certificate]", "no key: no mail can be signed, and none leaves unsigned")
    else:
        yield from _key("mail", mail.certificate, mail.password_file, mail.trust, "then no mail leaves")
        yield from _mail_key(settings)
    for path in mail.trust:
        yield from said("[mail.trust]", _loads(path))
    for key in ("return_path_domain", "message_id_domain"):
        if domain := getattr(mail, key):
            yield from _domain(f"[mail.{key}]", domain)
    yield from _verp(settings)
    yield from _relay(settings)


def ftps(settings: Settings) -> Iterator[Finding]:
    """[ftps]"""
    if not settings.ftps.enabled:
        return
    where = "[ftps.certificate]"
    try:
        identity = Identity.load(settings.ftps.certificate, settings.ftps.key)
    except GatewayError as error:
        yield failed(where, error)
        return
    until = identity.certificate.not_valid_after_utc
    if until <= clock.now():
        yield Finding(ERROR, where, f"it expired on {until:%Y-%m-%d}: clients refuse to connect")
    elif (days := (until - clock.now()).days) < EXPIRY_DAYS:
        yield Finding(WARNING, where, f"it expires in {days} days, on {until:%Y-%m-%d}")


def _domain(where: str, domain: str) -> Iterator[Finding]:
    try:
        identifiers.mail_address(f"b@{domain}")
    except GatewayError:
        yield Finding(ERROR, where, f"{domain!r} is not a domain name")


def _mail_key(settings: Settings) -> Iterator[Finding]:
    key = _quietly(settings.mail.certificate, settings.mail.password_file)
    if key is None:
        return
    yield from said("[mail.certificate]", lambda: smime.check_certificate(key, settings.mail.from_address))
    seal = _quietly(settings.seal.certificate, settings.seal.password_file)
    if seal is not None and seal.certificate_sha256 == key.certificate_sha256:
        yield Finding(ERROR, "[mail.certificate]", "the same as the seal's: the two keys are two certificates")


def _verp(settings: Settings) -> Iterator[Finding]:
    where, path = "[mail.verp_secret_file]", settings.mail.verp_secret_file
    if path is None:
        what = f"missing: {VERP_BYTES} random bytes by which a bounce is known to be ours; `gateway init` makes them"
        yield Finding(ERROR, where, what)
        return
    yield from said(where, lambda: read_private(path))
    if path.is_file() and path.stat().st_size < VERP_BYTES:
        yield Finding(ERROR, where, f"{path}: under {VERP_BYTES} bytes")


def _relay(settings: Settings) -> Iterator[Finding]:
    mail = settings.mail
    if mail.relay_tls == "off" and not _is_loopback(mail.relay_host):
        yield Finding(ERROR, "[mail.relay_tls]", f"off is for loopback: mail to {mail.relay_host} would go in clear")
    if mail.relay_ca is not None:
        yield from said("[mail.relay_ca]", _loads(mail.relay_ca))
    password = mail.relay_password_file
    if mail.username and password is None:
        yield Finding(ERROR, "[mail.relay_password_file]", "missing, while [mail.username] is set")
    if password is not None:
        yield from said("[mail.relay_password_file]", lambda: read_private(password))


def _key(
    section: str, path: Path, password_file: Path | None, trust: tuple[Path, ...], stops: str
) -> Iterator[Finding]:
    """A PKCS#12 file: it opens, key and certificate belong together, it is valid, its chain leads to a root.

    `stops`: what does when it ends.
    """
    where = f"[{section}.certificate]"
    try:
        key = load_pkcs12(path, password_file)
        key.check(clock.now())
    except GatewayError as error:
        yield failed(where, error)
        return
    try:
        if trust:
            Trust.load(trust).validate(key.certificate, key.chain, clock.now())
    except ConfigError:
        pass  # a root that does not load, which is said at its own key
    except GatewayError as error:
        yield Finding(ERROR, where, f"{error.message}; name the root of its chain in [{section}.trust]")
    days = (key.not_after - clock.now()).days
    if days < EXPIRY_DAYS:
        yield Finding(WARNING, where, f"{key.subject} expires in {days} days, on {key.not_after:%Y-%m-%d}: {stops}")


def _quietly(path: Path | None, password_file: Path | None) -> SigningKey | None:
    """The key, or None where `_key` has already said what is wrong."""
    try:
        return None if path is None else load_pkcs12(path, password_file)
    except GatewayError:
        return None


def _loads(path: Path) -> Callable[[], object]:
    return lambda: load_certificates(path)


def _is_loopback(host: str) -> bool:
    try:
        return all(ipaddress.ip_address(info[4][0]).is_loopback for info in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False
