"""What a client does with what arrives: pull files over SFTP, read signed mail, check a seal.

Nothing here uses the gateway's own code for what it checks: OpenSSH's `sftp` and `openssl` do the work where they are
on the PATH, otherwise asyncssh's client and pyHanko; seals are always checked by pyHanko. All functions block (some
run an event loop of their own): from a coroutine, call them in a thread. Unavailable when the other side cannot be
reached or refuses; Refused for a mail or file that is not what it should be.
"""

import asyncio
import datetime as dt
import email.policy
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_detached_cms, async_validate_pdf_signature
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from .. import clock
from ..errors import Refused, Unavailable

T = TypeVar("T")
TIMEOUT_SECONDS = 120
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Account:
    """Where and as whom to log in. `private_key`: OpenSSH format; `host_key`: a public key's line, `TYPE BASE64`."""

    host: str
    port: int
    user: str
    private_key: Path
    host_key: str

    @property
    def known_hosts(self) -> str:
        """The line by which a client knows the server (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        kind, key = self.host_key.split()[:2]
        return f"[{self.host}]:{self.port} {kind} {key}\n"


@dataclass(frozen=True)
class Pull:
    """What one visit fetched, by which program; the seconds include the log-in."""

    files: tuple[Path, ...]
    program: str
    list_seconds: float
    get_seconds: float


def pull_with_sftp(account: Account, target: Path, folder: str = "inbox", remove: bool = False) -> Pull:
    """Fetch every file of a folder into `target`; with `remove`, delete each there after it was fetched: a receipt.

    The server must show the account's host key. Unavailable otherwise, or when any step fails.
    """
    target.mkdir(parents=True, exist_ok=True)
    program = shutil.which("sftp")
    visit: _OpenSsh | _Asyncssh = _OpenSsh(account, program) if program else _Asyncssh(account)
    started = clock.monotonic()
    names = visit.names(folder)
    listed = clock.monotonic()
    if names:
        visit.fetch(folder, names, target, remove)
    files = tuple(target / name for name in names)
    return Pull(files, "sftp" if program else "asyncssh", listed - started, clock.monotonic() - listed)


def _safe(names: Sequence[str]) -> list[str]:
    """Names become commands and local files: only the drop folder's own characters pass."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise Refused(f"a name outside the documented characters: {name[:60]!r}", code="file_name")
    return sorted(names)


class _OpenSsh:
    """OpenSSH's client in batch mode, with its own known hosts and nothing from the user's configuration."""

    def __init__(self, account: Account, program: str) -> None:
        self._account = account
        self._program = program

    def names(self, folder: str) -> list[str]:
        rows = self._run(f"ls -1 {folder}\n").splitlines()
        return _safe([row.rpartition("/")[2] for row in rows if row and not row.startswith("sftp> ")])

    def fetch(self, folder: str, names: Sequence[str], target: Path, remove: bool) -> None:
        commands = [f"get {folder}/{name}\n" + (f"rm {folder}/{name}\n" if remove else "") for name in names]
        self._run("".join(commands), target)

    def _run(self, batch: str, directory: Path | None = None) -> str:
        account = self._account
        with tempfile.TemporaryDirectory() as scratch:
            known_hosts = Path(scratch) / "known_hosts"
            known_hosts.write_text(account.known_hosts, "ascii")
            options = (
                f"UserKnownHostsFile={known_hosts}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
                "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "ConnectTimeout=10",
            )  # fmt: skip
            command = [self._program, "-q", "-b", "-", "-F", "/dev/null", "-P", str(account.port)]
            command += ["-i", str(account.private_key.absolute())]
            command += [part for option in options for part in ("-o", option)]
            return _output([*command, f"{account.user}@{account.host}"], batch, directory)


def _output(command: list[str], text: str, directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=text, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"sftp did not end within {TIMEOUT_SECONDS} s", code="sftp_timeout") from None
    if done.returncode:
        raise Unavailable(f"sftp ended with {done.returncode}: {done.stderr.strip()}", code="sftp_failed")
    return done.stdout


class _Asyncssh:
    """asyncssh's client, for a machine without OpenSSH."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def names(self, folder: str) -> list[str]:
        async def step(client: asyncssh.SFTPClient) -> list[str]:
            return [name for name in map(str, await client.listdir(folder)) if not name.startswith(".")]

        return _safe(self._run(step))

    def fetch(self, folder: str, names: Sequence[str], target: Path, remove: bool) -> None:
        async def step(client: asyncssh.SFTPClient) -> None:
            for name in names:
                await client.get(f"{folder}/{name}", target / name)
                if remove:
                    await client.remove(f"{folder}/{name}")

        self._run(step)

    def _run(self, step: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        async def visit() -> T:
            account = self._account
            async with (
                asyncssh.connect(
                    account.host,
                    account.port,
                    username=account.user,
                    client_keys=[str(account.private_key)],
                    known_hosts=asyncssh.import_known_hosts(account.known_hosts),
                    agent_path=None,
                    config=None,
                    connect_timeout=10,
                ) as connection,
                connection.start_sftp_client() as client,
            ):
                return await step(client)

        try:
            return asyncio.run(asyncio.wait_for(visit(), TIMEOUT_SECONDS))
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise Unavailable(f"asyncssh: {error}", code="sftp_failed") from None


@dataclass(frozen=True)
class MailSignature:
    """Whether a mail's signature holds and is the sender's, who says so, and why not."""

    ok: bool
    signer: str  # the certificate's e-mail address
    checked_by: str
    reason: str = ""


@dataclass(frozen=True)
class Mail:
    """A mail as its reader sees it: header fields, attachments by name, and the verdict on its signature."""

    headers: EmailMessage
    attachments: dict[str, bytes]
    signature: MailSignature

    @property
    def pdf(self) -> bytes:
        """The one PDF attached. Refused when there is none or more than one."""
        found = [content for content in self.attachments.values() if content.startswith(b"%PDF-")]
        if len(found) != 1:
            raise Refused(f"{len(found)} PDF files in this mail", code="mail_attachments")
        return found[0]


def read_mail(path: Path, roots: Path) -> Mail:
    """Parse a mail and check its S/MIME signature (RFC 8551) against the roots in a PEM file.

    `signature.ok` is false, with the reason, for a mail that is not signed, was changed, is signed by somebody the
    roots do not vouch for, or by a certificate of another address than From's.
    """
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return Mail(message, dict(_attachments(message)), _signature(path, message, roots))


def _attachments(message: EmailMessage) -> Iterator[tuple[str, bytes]]:
    for part in message.walk():
        content = part.get_payload(decode=True)
        if (
            isinstance(content, bytes)
            and part.get_content_disposition() == "attachment"
            and part.get_content_type() != "application/pkcs7-signature"
        ):
            yield part.get_filename() or "", content


def _signature(path: Path, message: EmailMessage, roots: Path) -> MailSignature:
    program = shutil.which("openssl")
    checked_by = "openssl" if program else "pyHanko"
    if message.get_content_type() != "multipart/signed":
        return MailSignature(False, "", checked_by, "not signed")
    try:
        signer = _signer_by_openssl(program, path, roots) if program else _signer_by_pyhanko(path, message, roots)
    except Refused as refused:
        return MailSignature(False, "", checked_by, refused.message)
    address = _address(signer)
    sender = message["From"].addresses[0].addr_spec
    if address.lower() != sender.lower():
        return MailSignature(False, address, checked_by, f"signed by {address or 'nobody'}, sent from {sender}")
    return MailSignature(True, address, checked_by)


def _address(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.RFC822Name)), "")


def _signer_by_openssl(program: str, path: Path, roots: Path) -> x509.Certificate:
    with tempfile.TemporaryDirectory() as scratch:
        signer = Path(scratch) / "signer.pem"
        done = subprocess.run(
            [program, "cms", "-verify", "-in", path, "-inform", "SMIME", "-CAfile", roots, "-no-CApath", "-no-CAstore",
             "-purpose", "smimesign", "-signer", signer, "-out", "/dev/null"],
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr.strip(), code="mail_signature")
        return x509.load_pem_x509_certificate(signer.read_bytes())


def _signer_by_pyhanko(path: Path, message: EmailMessage, roots: Path) -> x509.Certificate:
    entity, signature = _signed_parts(path.read_bytes(), message)
    usage = KeyUsageConstraints(key_usage={"digital_signature"}, extd_key_usage={"email_protection"})
    try:
        signed = cms.ContentInfo.load(signature)["content"]
        status = asyncio.run(async_validate_detached_cms(entity, signed, _context(roots), key_usage_settings=usage))
    except ValueError as error:
        raise Refused(f"the signature cannot be read: {error}", code="mail_signature") from None
    if not status.bottom_line:
        raise Refused(f"the signature does not hold: {status.summary()}", code="mail_signature")
    return x509.load_der_x509_certificate(status.signing_cert.dump())


def _signed_parts(raw: bytes, message: EmailMessage) -> tuple[bytes, bytes]:
    """The signed bytes, exactly as between the boundaries (RFC 1847 2.1), and the signature's DER."""
    delimiter = b"\r\n--" + (message.get_boundary() or "").encode("ascii")
    parts = raw.split(delimiter)
    if len(parts) != 4:
        raise Refused("not two parts between boundaries", code="mail_structure")
    attached = email.message_from_bytes(parts[2].removeprefix(b"\r\n"))
    signature = attached.get_payload(decode=True)
    assert isinstance(signature, bytes)
    return parts[1].removeprefix(b"\r\n"), signature


@dataclass(frozen=True)
class SealReport:
    """What a validator says about a document's seal, the last one where there are several."""

    intact: bool  # the bytes under it are unchanged
    valid: bool  # the signature fits the certificate
    trusted: bool  # the certificate leads to a root
    whole_file: bool  # nothing was added after it
    signer: str
    sealed_at: dt.datetime | None  # as the signer says

    @property
    def ok(self) -> bool:
        """All of it."""
        return self.intact and self.valid and self.trusted and self.whole_file


def check_seal(pdf: bytes, roots: Path) -> SealReport:
    """Check a document's seal (PAdES) by pyHanko's validator against the roots in a PEM file.

    Refused when the document is no PDF or carries no seal.
    """
    try:
        seals = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    except PdfError as error:
        raise Refused(f"not a PDF: {error}", code="not_pdf") from None
    if not seals:
        raise Refused("this document carries no seal", code="no_seal")
    status = asyncio.run(async_validate_pdf_signature(seals[-1], _context(roots)))
    return SealReport(
        intact=status.intact,
        valid=status.valid,
        trusted=status.trusted,
        whole_file=status.coverage == SignatureCoverageLevel.ENTIRE_FILE,
        signer=status.signing_cert.subject.human_friendly,
        sealed_at=status.signer_reported_dt,
    )


def _context(roots: Path) -> Any:
    """These roots and no others; nothing is fetched, so revocation is only seen where the signature carries it."""
    anchors = [
        asn1_x509.Certificate.load(root.public_bytes(Encoding.DER))
        for root in x509.load_pem_x509_certificates(roots.read_bytes())
    ]
    return ValidationContext(trust_roots=anchors, allow_fetching=False, revocation_mode="soft-fail")
