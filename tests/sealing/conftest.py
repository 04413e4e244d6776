"""Keys, an invoice, and odd documents for the tests of the seal."""

import datetime as dt

import pytest

from gateway import clock, invoices
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import pades
from tests.keys.authority import Authority, p256_key

REASON = "Facture originale"


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def rsa_seal(authority: Authority) -> SigningKey:
    return authority.signing_key()


@pytest.fixture(scope="session")
def ec_seal(authority: Authority) -> SigningKey:
    return authority.signing_key(p256_key())


@pytest.fixture(params=["rsa", "ecdsa"])
def seal(request: pytest.FixtureRequest, rsa_seal: SigningKey, ec_seal: SigningKey) -> SigningKey:
    """Once with an RSA-2048 key, once with one on P-256."""
    return rsa_seal if request.param == "rsa" else ec_seal


@pytest.fixture(scope="session")
def trust(authority: Authority) -> Trust:
    return Trust((authority.root,))


@pytest.fixture(scope="session")
def invoice() -> bytes:
    """A Factur-X invoice of the demo: three pages, 75 KB, PDF/A-3."""
    return next(content for _, content in invoices.series(1, dt.date(2026, 3, 2)))


@pytest.fixture
def now() -> dt.datetime:
    return clock.now()


@pytest.fixture(scope="session")
def sealed(invoice: bytes, rsa_seal: SigningKey) -> bytes:
    """The invoice, sealed with the RSA key."""
    return pades.seal(invoice, rsa_seal, REASON, clock.now())
