"""One authority and its keys for all tests of this folder: making RSA keys takes time."""

import pytest

from gateway.keys.load import SigningKey
from tests.keys.authority import Authority, p256_key


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
