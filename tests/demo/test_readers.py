"""The demo's readers find what is right, and above all what is wrong: a check that never fails proves nothing."""

import datetime as dt
import io
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import PdfSignatureMetadata, SimpleSigner, sign_pdf
from pyhanko.sign.fields import SigSeedSubFilter

from gateway import invoices
from gateway.demo import readers
from gateway.demo.authority import Authority, Credential
from gateway.errors import Refused
from tests.peers import requires

FROM = "factures@distribution.example"
both = pytest.mark.parametrize("tool", [pytest.param("program", marks=requires("openssl")), "library"], indirect=True)


@pytest.fixture
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which tools there are: those of the machine, or none, as on a bare one."""
    if request.param == "library":
        monkeypatch.setenv("PATH", "")
    return str(request.param)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"), FROM)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts, with certificates that look the same."""
    return Authority.create(tmp_path_factory.mktemp("stranger"), FROM)


def _open(credential: Credential) -> pkcs12.PKCS12KeyAndCertificates:
    return pkcs12.load_pkcs12(credential.pkcs12.read_bytes(), credential.password_file.read_bytes().strip())


def _signed(credential: Credential, sender: str = FROM, attachments: tuple[bytes, ...] = (b"%PDF-1.7\n",)) -> bytes:
    """A mail signed by cryptography, which shares no code with what checks it."""
    opened = _open(credential)
    assert opened.cert is not None
    content = EmailMessage()
    content.set_content("Bonjour,\nvoici votre facture.\n")
    for number, attachment in enumerate(attachments):
        content.add_attachment(attachment, maintype="application", subtype="pdf", filename=f"f{number}.pdf")
    entity = content.as_bytes().replace(b"\n", b"\r\n")
    builder = pkcs7.PKCS7SignatureBuilder().set_data(entity)
    builder = builder.add_signer(opened.cert.certificate, opened.key, hashes.SHA256())  # type: ignore[arg-type]
    for entry in opened.additional_certs:
        builder = builder.add_certificate(entry.certificate)
    der = builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
    signature = EmailMessage()
    signature.set_content(der, "application", "pkcs7-signature", disposition="attachment", filename="smime.p7s")
    head = (
        f"From: Factures <{sender}>\nTo: compta@client.example\nSubject: Facture\nMIME-Version: 1.0\n"
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\n micalg=sha-256; boundary="=_b"\n\n'
    )
    parts = head.encode() + b"--=_b\n", entity, b"\n--=_b\n" + signature.as_bytes() + b"\n--=_b--\n"
    return b"".join(part if part is entity else part.replace(b"\n", b"\r\n") for part in parts)


def _kept(tmp_path: Path, message: bytes) -> Path:
    path = tmp_path / "message.eml"
    path.write_bytes(message)
    return path


@both
@pytest.mark.usefixtures("tool")
class TestReadMail:
    """Both checkers agree."""

    def test_a_good_mail_is_read_and_its_signature_holds(self, authority: Authority, tmp_path: Path, tool: str) -> None:
        """Header fields, the attachment's very bytes, and who signed."""
        pdf = invoices.make(next(invoices.series(1, dt.date(2026, 11, 3)))[0])
        mail = readers.read_mail(_kept(tmp_path, _signed(authority.mail, attachments=(pdf,))), authority.root)
        assert mail.headers["Subject"] == "Facture"
        assert mail.pdf == pdf
        assert list(mail.attachments) == ["f0.pdf"]
        expected = "openssl" if tool == "program" else "pyHanko"
        assert mail.signature == readers.MailSignature(True, FROM, expected)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda message: message.replace(b"Bonjour", b"Bonsoir"),
            lambda message: message.replace(b"JVBERi0xLjcK", b"JVBERi0xLjYK"),
            lambda message: message.replace(b"multipart/signed", b"multipart/mixed"),
        ],
        ids=["text", "attachment", "not signed"],
    )
    def test_a_changed_mail_is_not_ok(
        self, authority: Authority, tmp_path: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        """One bit of text or attachment, or a signature that is no longer one."""
        good = _signed(authority.mail)
        message = damage(good)
        assert message != good
        signature = readers.read_mail(_kept(tmp_path, message), authority.root).signature
        assert not signature.ok
        assert signature.reason

    def test_a_signer_that_the_roots_do_not_vouch_for_is_not_ok(
        self, authority: Authority, stranger: Authority, tmp_path: Path
    ) -> None:
        """The same names, another authority."""
        mail = readers.read_mail(_kept(tmp_path, _signed(stranger.mail)), authority.root)
        assert not mail.signature.ok

    def test_a_certificate_for_something_else_is_not_ok(self, authority: Authority, tmp_path: Path) -> None:
        """The seal's certificate names no address: its signature on a mail is nobody's."""
        assert not readers.read_mail(_kept(tmp_path, _signed(authority.seal)), authority.root).signature.ok

    def test_another_sender_than_the_certificates_is_not_ok(self, authority: Authority, tmp_path: Path) -> None:
        """RFC 8550 3: the signature is good, but it is not From's."""
        message = _signed(authority.mail, sender="factures@ailleurs.example")
        signature = readers.read_mail(_kept(tmp_path, message), authority.root).signature
        assert not signature.ok
        assert signature.signer == FROM


@pytest.mark.parametrize("attachments", [(), (b"%PDF-1.7\n", b"%PDF-1.7\n2"), (b"PK",)])
def test_a_mail_without_exactly_one_pdf_has_no_pdf(
    authority: Authority, tmp_path: Path, attachments: tuple[bytes, ...]
) -> None:
    """The demo compares the one document that was sent."""
    mail = readers.read_mail(_kept(tmp_path, _signed(authority.mail, attachments=attachments)), authority.root)
    assert len(mail.attachments) == len(attachments)
    with pytest.raises(Refused):
        _ = mail.pdf


# The seal


@pytest.fixture(scope="module")
def unsealed() -> bytes:
    return next(invoices.series(1, dt.date(2026, 11, 3)))[1]


def _sealed(pdf: bytes, authority: Authority) -> bytes:
    """Sealed by stock pyHanko, not by the gateway."""
    password = authority.seal.password_file.read_bytes().strip()
    signer = SimpleSigner.load_pkcs12(str(authority.seal.pkcs12), passphrase=password)
    metadata = PdfSignatureMetadata(field_name="Cachet", md_algorithm="sha256", subfilter=SigSeedSubFilter.PADES)
    sealed = sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), metadata, signer)
    return bytes(sealed.getbuffer())


def test_a_good_seal_holds_in_every_way(unsealed: bytes, authority: Authority) -> None:
    """And its signer is named as in the certificate."""
    report = readers.check_seal(_sealed(unsealed, authority), authority.root)
    assert report.ok
    assert (report.intact, report.valid, report.trusted, report.whole_file) == (True, True, True, True)
    assert invoices.DISTRIBUTOR.name in report.signer
    assert report.sealed_at is not None
    assert abs(report.sealed_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_a_changed_byte_is_seen(unsealed: bytes, authority: Authority) -> None:
    """Anywhere in what was sealed: here in the title."""
    sealed = bytearray(_sealed(unsealed, authority))
    sealed[sealed.index(b"urn:factur-x")] = ord("U")
    report = readers.check_seal(bytes(sealed), authority.root)
    assert not report.intact
    assert not report.ok


def test_something_added_after_the_seal_is_seen(unsealed: bytes, authority: Authority) -> None:
    """An update behind the seal leaves it intact, yet the reader sees another document."""
    sealed = _sealed(unsealed, authority)
    writer = IncrementalPdfFileWriter(io.BytesIO(sealed))
    writer.root[generic.pdf_name("/Lang")] = generic.pdf_string("en")
    writer.update_root()
    output = io.BytesIO()
    writer.write(output)
    report = readers.check_seal(output.getvalue(), authority.root)
    assert report.intact
    assert not report.whole_file
    assert not report.ok


def test_a_seal_of_a_stranger_is_not_trusted(unsealed: bytes, authority: Authority, stranger: Authority) -> None:
    """Same subject, other root."""
    report = readers.check_seal(_sealed(unsealed, stranger), authority.root)
    assert (report.intact, report.valid, report.trusted) == (True, True, False)
    assert not report.ok


@pytest.mark.parametrize("content", [b"", b"not a PDF", b"%PDF-1.7\n%%EOF\n"])
def test_what_is_no_pdf_is_refused(content: bytes, authority: Authority) -> None:
    """A reader meets whatever was in the folder."""
    with pytest.raises(Refused):
        readers.check_seal(content, authority.root)


def test_a_pdf_without_a_seal_is_refused(unsealed: bytes, authority: Authority) -> None:
    """Absence is an answer of its own, not a false one among the four."""
    with pytest.raises(Refused, match="no seal"):
        readers.check_seal(unsealed, authority.root)
