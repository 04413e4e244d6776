import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import errors
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust, load_certificates
from tests.keys.authority import YEAR, Authority, key_usage, p256_key, write_pem

SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def trust(authority: Authority) -> Trust:
    return Trust((authority.root,))


def _code(trust: Trust, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...], at: dt.datetime) -> str:
    with pytest.raises(errors.Refused) as caught:
        trust.validate(certificate, chain, at)
    return caught.value.code


def test_a_seal_without_alternative_name_is_trusted_through_its_chain(
    trust: Trust, authority: Authority, seal: SigningKey
) -> None:
    """A seal's certificate names an organisation, not a host: rules made for TLS do not fit."""
    trust.validate(seal.certificate, seal.chain, authority.now)


def test_a_missing_intermediate_breaks_the_chain(trust: Trust, authority: Authority, seal: SigningKey) -> None:
    """Nothing is fetched: what is needed travels with the signature."""
    assert _code(trust, seal.certificate, (), authority.now) == "certificate_untrusted"


def test_another_root_is_not_trusted(authority: Authority, seal: SigningKey) -> None:
    """Only the configured roots count, whatever comes along."""
    trust = Trust((Authority(label="Other").root,))
    assert _code(trust, seal.certificate, (*seal.chain, authority.root), authority.now) == "certificate_untrusted"


def test_no_roots_trust_nobody(authority: Authority, seal: SigningKey) -> None:
    """An empty setting must not mean the system's roots."""
    assert _code(Trust(()), seal.certificate, (*seal.chain, authority.root), authority.now) == "certificate_untrusted"


def test_a_chain_forged_with_the_right_names_is_refused(authority: Authority, trust: Trust) -> None:
    """Names are free; only signatures count."""
    forger = Authority()
    key = forger.signing_key(p256_key())
    assert _code(trust, key.certificate, key.chain, authority.now) == "certificate_untrusted"


def test_a_kept_verdict_ends_with_the_validity(trust: Trust, authority: Authority, rsa_seal: SigningKey) -> None:
    """The verdict is remembered, its dates too: a daemon runs for years."""
    trust.validate(rsa_seal.certificate, rsa_seal.chain, authority.now)
    trust.validate(rsa_seal.certificate, rsa_seal.chain, rsa_seal.not_after)
    for outside in (rsa_seal.not_after + 2 * SECOND, rsa_seal.not_before - 2 * SECOND):
        assert _code(trust, rsa_seal.certificate, rsa_seal.chain, outside) == "certificate_untrusted"


def test_a_kept_verdict_ends_with_the_intermediates_validity(trust: Trust, authority: Authority) -> None:
    """The first certificate of the path to expire decides."""
    short = authority.intermediate_until(authority.now + dt.timedelta(days=30))
    certificate = authority.issue(p256_key())
    trust.validate(certificate, (short,), authority.now)
    assert _code(trust, certificate, (short,), authority.now + dt.timedelta(days=31)) == "certificate_untrusted"


def test_a_verdict_is_for_one_chain_only(trust: Trust, authority: Authority, rsa_seal: SigningKey) -> None:
    """A good chain says nothing about a damaged one with the same certificate at its end."""
    trust.validate(rsa_seal.certificate, rsa_seal.chain, authority.now)
    assert _code(trust, rsa_seal.certificate, (), authority.now) == "certificate_untrusted"


def test_a_certificate_that_may_not_sign_is_refused(trust: Trust, authority: Authority) -> None:
    """RFC 5280 4.2.1.3: the key usage binds."""
    certificate = authority.issue(p256_key(), usage=key_usage(key_agreement=True))
    assert _code(trust, certificate, (authority.intermediate,), authority.now) == "certificate_usage"


@pytest.mark.parametrize("bit", ["digital_signature", "content_commitment"])
def test_either_usage_for_signatures_is_enough(trust: Trust, authority: Authority, bit: str) -> None:
    """Qualified seals often carry nonRepudiation alone."""
    certificate = authority.issue(p256_key(), usage=key_usage(**{bit: True}))
    trust.validate(certificate, (authority.intermediate,), authority.now)


def test_an_expired_certificate_is_refused(trust: Trust, authority: Authority) -> None:
    """Without a time-stamp a signature ends with its certificate."""
    certificate = authority.issue(p256_key(), starts=-2 * YEAR, ends=-YEAR)
    assert _code(trust, certificate, (authority.intermediate,), authority.now) == "certificate_untrusted"


def test_a_damaged_certificate_is_refused_and_never_raises_anything_else(trust: Trust, authority: Authority) -> None:
    """Certificates arrive in documents: the parsers must not take the process with them."""
    der = authority.issue(p256_key()).public_bytes(Encoding.DER)
    seen = 0
    for place in range(0, len(der), 7):
        damaged = bytearray(der)
        damaged[place] ^= 0x04
        try:
            certificate = x509.load_der_x509_certificate(bytes(damaged))
        except (ValueError, Warning):
            continue
        seen += 1
        with pytest.raises(errors.Refused):
            trust.validate(certificate, (authority.intermediate,), authority.now)
    assert seen > 10


def test_roots_are_read_from_pem_files(authority: Authority, tmp_path: Path) -> None:
    """Several files, several certificates in one: all are roots."""
    both = tmp_path / "both.pem"
    both.write_bytes(authority.root.public_bytes(Encoding.PEM) + authority.intermediate.public_bytes(Encoding.PEM))
    other = write_pem(tmp_path / "other.pem", Authority(label="Other").root)
    assert len(Trust.load((both, other)).roots) == 3


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"nothing", "no certificate")])
def test_a_file_without_certificates_is_named(content: bytes | None, says: str, tmp_path: Path) -> None:
    """An empty list of roots would look like a configuration."""
    path = tmp_path / "root.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.ConfigError, match=says) as caught:
        load_certificates(path)
    assert caught.value.facts["where"] == str(path)
