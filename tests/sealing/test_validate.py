import datetime as dt
import json
import re
from collections.abc import Callable
from io import BytesIO

import pikepdf
import pytest
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import (
    FieldMDPAction,
    FieldMDPSpec,
    MDPPerm,
    SigFieldSpec,
    SigSeedSubFilter,
    append_signature_field,
)
from pyhanko.sign.validation import DocumentSecurityStore

from gateway import errors
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import pades, validate
from gateway.sealing.validate import verify_issuer_seal
from tests.keys.authority import YEAR, Authority, p256_key
from tests.sealing import documents, foreign

REASON = "Facture émise"


@pytest.fixture(scope="module")
def issuer(authority: Authority) -> SigningKey:
    """The billing system's own seal."""
    return authority.signing_key(common_name="Facturation")


@pytest.fixture(scope="module")
def stranger() -> SigningKey:
    """Somebody whose authority is not known here."""
    return Authority(label="Other").signing_key(p256_key(), "Somebody")


@pytest.fixture
def arrives(issuer: SigningKey, trust: Trust, now: dt.datetime) -> Callable[[bytes], validate.IssuerSeal | None]:
    """What is found on a document that arrives signed."""
    return lambda content: verify_issuer_seal(content, (issuer.certificate,), trust, now)


Arrives = Callable[[bytes], validate.IssuerSeal | None]


def _code(arrives: Arrives, content: bytes) -> str:
    with pytest.raises(errors.Refused) as caught:
        arrives(content)
    return caught.value.code


def test_the_issuers_own_seal_is_recognised(arrives: Arrives, issuer: SigningKey, invoice: bytes) -> None:
    """Such a document is kept as it is: a second seal would say nothing more."""
    at = dt.datetime(2026, 11, 24, 8, 30, tzinfo=dt.UTC)
    found = arrives(pades.seal(invoice, issuer, REASON, at))
    assert found is not None
    assert (found.certificate, found.level, found.sealed_at) == (issuer.certificate, "B-B", at)
    assert found.record["time_from"] == "the signer's claim"
    assert [file["name"] for file in found.record["embedded"]] == ["factur-x.xml"]
    assert json.loads(json.dumps(found.record)) == found.record


def test_the_level_of_an_older_kind_of_signature_is_not_called_pades(
    arrives: Arrives, issuer: SigningKey, invoice: bytes
) -> None:
    """adbe.pkcs7.detached is sound, and claims no PAdES level."""
    found = arrives(foreign.sign(invoice, issuer))
    assert found is not None
    assert found.level == "CMS"


def test_a_time_stamp_of_a_trusted_authority_gives_level_and_time(
    arrives: Arrives, issuer: SigningKey, authority: Authority, invoice: bytes
) -> None:
    """Then the time is no claim."""
    stamper = foreign.timestamper(authority)
    found = arrives(foreign.sign(invoice, issuer, timestamper=stamper, subfilter=SigSeedSubFilter.PADES))
    assert found is not None
    assert found.level == "B-T"
    assert found.record["time_from"] == "time-stamp"


def test_a_time_stamp_of_an_unknown_authority_proves_nothing(
    arrives: Arrives, issuer: SigningKey, invoice: bytes
) -> None:
    """The seal is good without it; its time is the signer's claim."""
    stamper = foreign.timestamper(Authority(label="Other"))
    found = arrives(foreign.sign(invoice, issuer, timestamper=stamper, subfilter=SigSeedSubFilter.PADES))
    assert found is not None
    assert found.level == "B-B"
    assert found.record["time_from"] == "the signer's claim"


def test_a_sound_signature_of_somebody_else_gets_our_seal_on_top(
    arrives: Arrives, stranger: SigningKey, rsa_seal: SigningKey, invoice: bytes, trust: Trust, now: dt.datetime
) -> None:
    """It says nothing about the issuer's origin, and it stays valid."""
    signed = foreign.sign(invoice, stranger)
    assert arrives(signed) is None
    record = validate.full_validate(pades.seal(signed, rsa_seal, REASON, now), trust, now)
    assert record["signatures"] == 2


def test_the_last_signature_decides_whose_the_document_is(
    arrives: Arrives, stranger: SigningKey, issuer: SigningKey, invoice: bytes
) -> None:
    """What the issuer sealed last, the issuer answers for; what somebody signed over the issuer's seal, not."""
    assert arrives(pades.seal(foreign.sign(invoice, stranger), issuer, REASON, _recently())) is not None
    assert arrives(foreign.sign(pades.seal(invoice, issuer, REASON, _recently()), stranger)) is None


def test_a_changed_byte_is_refused(arrives: Arrives, issuer: SigningKey, invoice: bytes) -> None:
    """THREATS: a broken signature is refused, not sealed over."""
    changed = bytearray(pades.seal(invoice, issuer, REASON, _recently()))
    changed[invoice.index(b"/MediaBox")] ^= 0x20
    assert _code(arrives, bytes(changed)) in {"signature_broken", "pdf_unreadable", "signature_unsupported"}
    changed = bytearray(pades.seal(invoice, issuer, REASON, _recently()))
    changed[invoice.index(b"stream") + 20] ^= 1
    assert _code(arrives, bytes(changed)) == "signature_broken"


def test_a_broken_signature_of_anybody_is_refused(arrives: Arrives, stranger: SigningKey, invoice: bytes) -> None:
    """Even of somebody we do not know: the document is not what was signed."""
    changed = bytearray(foreign.sign(invoice, stranger))
    changed[invoice.index(b"stream") + 20] ^= 1
    assert _code(arrives, bytes(changed)) == "signature_broken"


def test_a_change_after_the_signature_is_refused(arrives: Arrives, issuer: SigningKey) -> None:
    """The page shows something else; the signature covers the earlier revision and is intact."""
    signed = pades.seal(documents.plain(), issuer, REASON, _recently())
    with pikepdf.open(BytesIO(signed)) as pdf:
        number = pdf.pages[0].obj.Contents.objgen[0]
    text = documents.TEXT.replace(b"42", b"43")
    changed = documents.append(signed, {number: b"<< /Length %d >>\nstream\n%bendstream" % (len(text), text)})
    assert _code(arrives, changed) == "signature_changed"


@pytest.mark.parametrize("added", [b"\n", b"% a remark\n", None], ids=["line end", "remark", "object"])
def test_the_issuers_seal_covers_the_whole_document(arrives: Arrives, issuer: SigningKey, added: bytes | None) -> None:
    """What follows it changes nothing that is shown; and still a client would find half a document sealed."""
    signed = pades.seal(documents.plain(), issuer, REASON, _recently())
    extended = documents.append(signed, {50: b"<< /Added true >>"}) if added is None else signed + added
    assert _code(arrives, extended) == "signature_changed"


def test_validation_data_may_follow_the_issuers_seal(
    arrives: Arrives, issuer: SigningKey, authority: Authority
) -> None:
    """Level B-LT puts certificates and revocation behind the seal (EN 319 142-1 5.4)."""
    extended = BytesIO(pades.seal(documents.plain(), issuer, REASON, _recently()))
    writer = IncrementalPdfFileWriter(extended)
    root = asn1_x509.Certificate.load(authority.root.public_bytes(Encoding.DER))
    DocumentSecurityStore.supply_dss_in_writer(writer, None, certs=[root])
    writer.write_in_place()
    found = arrives(extended.getvalue())
    assert found is not None and found.certificate == issuer.certificate


def test_an_expired_signature_is_refused(arrives: Arrives, authority: Authority, invoice: bytes) -> None:
    """Nobody can tell whether it was made before its certificate ended."""
    expired = authority.signing_key(p256_key(), starts=-2 * YEAR, ends=-YEAR)
    assert _code(arrives, pades.seal(invoice, expired, REASON, _recently())) == "signature_expired"


def test_the_issuers_seal_must_lead_to_a_trusted_root(invoice: bytes, stranger: SigningKey, trust: Trust) -> None:
    """Naming a certificate in the settings does not replace its root."""
    signed = pades.seal(invoice, stranger, REASON, _recently())
    with pytest.raises(errors.Refused) as caught:
        verify_issuer_seal(signed, (stranger.certificate,), trust, _recently())
    assert caught.value.code == "certificate_untrusted"


def test_a_kind_of_signature_that_cannot_be_checked_is_refused(arrives: Arrives, stranger: SigningKey) -> None:
    """Ignoring it would call a signed document unsigned."""
    signed = foreign.sign(documents.plain(), stranger)
    assert _code(arrives, signed.replace(b"/adbe.pkcs7.detached", b"/adbe.x509.rsa_sha1 ")) == "signature_unsupported"


def test_a_signature_hidden_by_an_update_is_refused(arrives: Arrives, issuer: SigningKey) -> None:
    """The form that showed it is gone; the signature is still in the file."""
    signed = pades.seal(documents.plain(), issuer, REASON, _recently())
    with pikepdf.open(BytesIO(signed)) as pdf:
        number, pages = pdf.Root.objgen[0], pdf.Root.Pages.objgen[0]
    hidden = documents.append(signed, {number: b"<< /Type /Catalog /Pages %d 0 R >>" % pages})
    assert _code(arrives, hidden) == "signature_unsupported"


def test_a_hole_in_the_signed_range_is_refused(arrives: Arrives, issuer: SigningKey) -> None:
    """What stands in the hole could be anything."""
    signed = pades.seal(documents.plain(), issuer, REASON, _recently())
    numbers = [int(number) for number in re.findall(rb"/ByteRange \[0 (\d+) (\d+) (\d+)\]", signed)[0]]
    wide = b"[0 %d %d %d]" % (numbers[0] - 20, numbers[1], numbers[2])
    changed = re.sub(
        rb"/ByteRange \[[^\]]*\]", b"/ByteRange " + wide.ljust(len(b"[0 %d %d %d]" % tuple(numbers))), signed
    )
    assert _code(arrives, changed) in {"seal_coverage", "signature_broken"}


def test_a_seal_on_top_must_respect_what_the_first_signature_allows(
    stranger: SigningKey, rsa_seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """Certified for signatures: allowed, and the certification is still good afterwards."""
    certified = foreign.sign(documents.plain(), stranger, certify=True, docmdp_permissions=MDPPerm.FILL_FORMS)
    assert verify_issuer_seal(certified, (), trust, now) is None
    validate.full_validate(pades.seal(certified, rsa_seal, REASON, now), trust, now)


def test_a_signature_that_locks_the_document_is_named(
    stranger: SigningKey, rsa_seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """It is sound, and nobody changed anything: it is our seal that it forbids."""
    lock = FieldMDPSpec(FieldMDPAction.ALL)
    writer = IncrementalPdfFileWriter(BytesIO(documents.plain()))
    append_signature_field(writer, SigFieldSpec("Signature1", field_mdp_spec=lock))
    prepared = BytesIO()
    writer.write(prepared)
    locked = foreign.sign(prepared.getvalue(), stranger)
    assert verify_issuer_seal(locked, (), trust, now) is None
    with pytest.raises(errors.Refused) as caught:
        validate.full_validate(pades.seal(locked, rsa_seal, REASON, now), trust, now)
    assert caught.value.code == "pdf_locked"


def _recently() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
