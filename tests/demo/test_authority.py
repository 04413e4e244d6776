"""The development authority: what it issues is fit for its purpose, private, and says what it is."""

import contextlib
import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from gateway import clock
from gateway.demo.authority import Authority, Credential
from gateway.errors import Conflict
from gateway.invoices import DISTRIBUTOR

ADDRESS = "factures@distribution.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority") / "ca", ADDRESS)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _open(credential: Credential) -> pkcs12.PKCS12KeyAndCertificates:
    return pkcs12.load_pkcs12(credential.pkcs12.read_bytes(), credential.password_file.read_bytes().strip())


def test_no_key_or_password_is_readable_by_others(authority: Authority) -> None:
    """The settings demand 0600; a demo must not teach worse."""
    private = [authority.tls_key, *authority.directory.glob("*.p12"), *authority.directory.glob("*.password")]
    assert len(private) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


@pytest.mark.parametrize("name", ["seal", "mail"])
def test_a_credential_opens_with_its_password_and_leads_to_the_root(authority: Authority, name: str) -> None:
    """Key, certificate and chain belong together; each link is signed by the next."""
    credential: Credential = getattr(authority, name)
    opened = _open(credential)
    assert isinstance(opened.key, rsa.RSAPrivateKey)
    assert opened.key.key_size == 2048
    assert opened.cert is not None
    assert opened.cert.certificate == _certificate(credential.certificate)
    assert opened.cert.certificate.public_key() == opened.key.public_key()
    chain = [opened.cert.certificate, *(entry.certificate for entry in opened.additional_certs)]
    assert chain[1:] == [_certificate(authority.intermediate), _certificate(authority.root)]
    for issued, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        issued.verify_directly_issued_by(issuer)


def test_two_authorities_share_no_password(authority: Authority, tmp_path: Path) -> None:
    """Passwords are random, not a constant of the code."""
    other = Authority.create(tmp_path / "ca")
    passwords = {each.password_file.read_text() for each in (authority.seal, authority.mail, other.seal, other.mail)}
    assert len(passwords) == 4


def test_the_seal_is_an_organisations_and_commits_to_content(authority: Authority) -> None:
    """ETSI EN 319 412-3: a legal person's subject; validators of seals ask for nonRepudiation."""
    certificate = _certificate(authority.seal.certificate)
    subject = {attribute.oid: attribute.value for attribute in certificate.subject}
    assert subject[NameOID.ORGANIZATION_NAME] == DISTRIBUTOR.name
    assert subject[NameOID.ORGANIZATION_IDENTIFIER] == f"NTRFR-{DISTRIBUTOR.siren}"
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.content_commitment
    assert not usage.key_cert_sign


def test_the_mail_certificate_holds_the_from_address(authority: Authority) -> None:
    """RFC 8550 3: a reader compares the certificate's address with From."""
    extensions = _certificate(authority.mail.certificate).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == [ADDRESS]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.EMAIL_PROTECTION
    ]


def test_every_subject_but_the_companys_name_says_development_only(authority: Authority) -> None:
    """Whoever meets one of these certificates elsewhere knows that it proves nothing."""
    for path in authority.directory.glob("*.pem"):
        assert "DEVELOPMENT ONLY" in _certificate(path).subject.rfc4514_string()


def test_certificates_are_valid_already_and_for_two_years(authority: Authority) -> None:
    """Five minutes back, for clocks that are a little behind; the TLS server's for one year, as scanners ask."""
    for path in authority.directory.glob("*.pem"):
        certificate = _certificate(path)
        age = clock.now() - certificate.not_valid_before_utc
        assert dt.timedelta(minutes=5) <= age < dt.timedelta(minutes=10)
        days = 365 if path == authority.tls_certificate else 730
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == dt.timedelta(days=days)


def test_the_issuing_certificate_may_issue_no_authority(authority: Authority) -> None:
    """A leaf's key that leaks cannot make an authority below it."""
    constraints = _certificate(authority.intermediate).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert constraints.path_length == 0


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_client_that_trusts_the_root_accepts_the_tls_server(authority: Authority, name: str) -> None:
    """A whole handshake in memory, host name checked."""
    client_context = ssl.create_default_context(cafile=str(authority.root))
    server_in, server_out, client_in, client_out = (ssl.MemoryBIO() for _ in range(4))
    server = authority.server_context().wrap_bio(server_in, server_out, server_side=True)
    client = client_context.wrap_bio(client_in, client_out, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            server_in.write(client_out.read())
            client_in.write(server_out.read())
    assert client.version() in ("TLSv1.2", "TLSv1.3")


def test_the_rules_for_public_certificates_are_kept(authority: Authority) -> None:
    """RFC 5280 as cryptography's strict verifier reads it: key identifiers, criticality, usages."""
    store = Store([_certificate(authority.root)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost"))
    chain = verifier.verify(_certificate(authority.tls_certificate), [_certificate(authority.intermediate)])
    assert chain[-1] == _certificate(authority.root)


def test_a_directory_with_an_authority_is_left_alone(authority: Authority) -> None:
    """What was sealed yesterday must stay verifiable: no silent second authority."""
    before = authority.root.read_bytes()
    with pytest.raises(Conflict):
        Authority.create(authority.directory)
    assert authority.root.read_bytes() == before
