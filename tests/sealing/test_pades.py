import datetime as dt
import hashlib
from collections.abc import Callable
from io import BytesIO

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.sign.fields import MDPPerm

from gateway import errors
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import document, pades, validate, verify
from tests.sealing import documents, foreign

REASON = "Facture originale"


def _valid(sealed: bytes, received: bytes, key: SigningKey, trust: Trust, at: dt.datetime) -> None:
    verify.verify(sealed, received, (key.certificate, *key.chain), trust, at)
    validate.full_validate(sealed, trust, at)
    with pikepdf.open(BytesIO(sealed)) as pdf:
        assert not pdf.check_pdf_syntax()


def test_a_sealed_invoice_is_valid_for_both_verifiers(
    invoice: bytes, seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """Ours, which looks at every document, and pyHanko's, which has nothing to do with how we write."""
    _valid(pades.seal(invoice, seal, REASON, now), invoice, seal, trust, now)


def test_the_received_bytes_come_first_unchanged(invoice: bytes, sealed: bytes) -> None:
    """Whoever cuts the seal off has what the billing system wrote."""
    assert sealed.startswith(invoice)
    assert len(sealed) < len(invoice) + 6000


def test_metadata_stay_as_they_were(invoice: bytes, sealed: bytes) -> None:
    """The XMP says which profile the XML inside has; not one byte of it may change, nor may Info."""
    with pikepdf.open(BytesIO(invoice)) as before, pikepdf.open(BytesIO(sealed)) as after:
        assert before.Root.Metadata.objgen == after.Root.Metadata.objgen
        assert before.Root.Metadata.read_raw_bytes() == after.Root.Metadata.read_raw_bytes()
        assert before.trailer.Info.objgen == after.trailer.Info.objgen
        assert before.trailer.Info.unparse(resolved=True) == after.trailer.Info.unparse(resolved=True)


def test_the_library_would_rewrite_the_metadata(invoice: bytes) -> None:
    """Why its update is overridden, and by which name: when this fails, look at pades._SealUpdate again."""
    assert "_update_meta" in vars(BasePdfFileWriter)
    assert "_write_header" in vars(IncrementalPdfFileWriter)
    stock = IncrementalPdfFileWriter(BytesIO(invoice))
    stock.update_root()
    written = BytesIO()
    stock.write(written)
    with pikepdf.open(BytesIO(invoice)) as before, pikepdf.open(written) as after:
        assert before.Root.Metadata.read_raw_bytes() != after.Root.Metadata.read_raw_bytes()


def test_nothing_but_form_page_and_catalog_is_touched(invoice: bytes, sealed: bytes) -> None:
    """The seal, its field, the form, the first page's list of annotations, the catalog: no other object."""
    with pikepdf.open(BytesIO(invoice)) as before, pikepdf.open(BytesIO(sealed)) as after:
        changed = [
            one.objgen
            for one in before.objects
            if one.unparse(resolved=True) != after.get_object(one.objgen).unparse(resolved=True)
        ]
        assert set(changed) == {before.Root.objgen, before.pages[0].obj.objgen}
        assert len(after.objects) - len(before.objects) == 3
        assert set(after.Root.keys()) - set(before.Root.keys()) == {"/AcroForm", "/Extensions"}


def test_the_seal_is_not_seen(sealed: bytes) -> None:
    """A visible stamp would need a font, and would change what the invoice shows."""
    with pikepdf.open(BytesIO(sealed)) as pdf:
        field = pdf.Root.AcroForm.Fields[0]
        assert [int(side) for side in field.Rect.as_list()] == [0, 0, 0, 0]
        assert "/AP" not in field
        assert int(field.F) == 4 | 128  # print and locked: what PDF/A asks of an annotation


def test_time_and_reason_stand_in_the_seal(invoice: bytes, rsa_seal: SigningKey) -> None:
    """EN 319 142-1: the time goes into /M."""
    at = dt.datetime(2026, 11, 24, 12, 0, 1, tzinfo=dt.UTC)
    with pikepdf.open(BytesIO(pades.seal(invoice, rsa_seal, "Reçu à l'été", at))) as pdf:
        value = pdf.Root.AcroForm.Fields[0].V
        assert str(value.Reason) == "Reçu à l'été"
        assert str(value.M) == "D:20261124120001Z"
        assert value.SubFilter == "/ETSI.CAdES.detached"


@pytest.mark.parametrize("make", documents.ODD, ids=lambda make: make.__name__)
def test_odd_documents_are_sealed(make: Callable[[], bytes], seal: SigningKey, trust: Trust, now: dt.datetime) -> None:
    """Real billing systems write all of these."""
    received = make()
    _valid(pades.seal(received, seal, REASON, now), received, seal, trust, now)


@pytest.mark.parametrize("make", documents.ODD, ids=lambda make: make.__name__)
def test_a_document_is_sealed_again_on_top(
    make: Callable[[], bytes], rsa_seal: SigningKey, ec_seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """The first seal stays valid in its place; names of fields do not collide."""
    once = pades.seal(make(), rsa_seal, REASON, now)
    twice = pades.seal(once, ec_seal, REASON, now)
    _valid(twice, once, ec_seal, trust, now)
    with pikepdf.open(BytesIO(twice)) as pdf:
        names = [str(field.T) for field in pdf.Root.AcroForm.Fields]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("number", [b"0.00000012", b"-0.0000003", b"0.00000000", b"595.27559055"])
def test_the_numbers_of_the_first_page_stay_numbers(number: bytes, rsa_seal: SigningKey, now: dt.datetime) -> None:
    """The library would write 1.2E-7, which no viewer reads: the page has no size any more."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 %b 595 842] >>" % number
    received = documents.append(documents.plain(), {3: page})
    with pikepdf.open(BytesIO(pades.seal(received, rsa_seal, REASON, now))) as pdf:
        assert float(pdf.pages[0].obj.MediaBox[1]) == float(number)


def test_a_document_that_readers_take_for_two_is_not_sealed(rsa_seal: SigningKey, now: dt.datetime) -> None:
    """One finds the last change, the library the state before it: the seal would be on what nobody sees."""
    received = documents.updated().removesuffix(b"%%EOF\n") + b"%%%EOF\n"
    with pytest.raises(errors.Refused) as caught:
        pades.seal(received, rsa_seal, REASON, now)
    assert caught.value.code == "pdf_unsealable"


def test_a_taken_field_name_is_left_alone(rsa_seal: SigningKey, now: dt.datetime) -> None:
    """A field of the document may have the name that we like."""
    sealed = pades.seal(documents.with_form(), rsa_seal, REASON, now)
    with document.opened(sealed) as pdf:
        assert [one.field_name for one in document.signatures(sealed, pdf)] == ["Cachet2"]


def test_the_documents_version_stays(rsa_seal: SigningKey, now: dt.datetime) -> None:
    """PDF/A binds the version; the seal needs none."""
    with pikepdf.open(BytesIO(pades.seal(documents.old_version(), rsa_seal, REASON, now))) as pdf:
        assert pdf.pdf_version == "1.4"
        assert "/Version" not in pdf.Root


def test_the_update_begins_on_a_line_of_its_own(rsa_seal: SigningKey, now: dt.datetime) -> None:
    """Behind %%EOF without a line end the first object would stand in a comment."""
    received = documents.without_last_line_end()
    sealed = pades.seal(received, rsa_seal, REASON, now)
    assert received.endswith(b"%%EOF")
    assert sealed[len(received) : len(received) + 1] == b"\n"


@pytest.mark.parametrize("user", ["", "secret"])
def test_an_encrypted_document_is_refused(user: str, rsa_seal: SigningKey, now: dt.datetime) -> None:
    """With an empty password too: the recipient could not check what was sealed."""
    received = documents.saved(documents.blank(), encryption=pikepdf.Encryption(owner="owner", user=user))
    with pytest.raises(errors.Refused) as caught:
        pades.seal(received, rsa_seal, REASON, now)
    assert caught.value.code == "encrypted"


def test_a_document_that_allows_no_change_is_refused(rsa_seal: SigningKey, now: dt.datetime) -> None:
    """A certification without any change (DocMDP, P 1) would break under our seal."""
    with pytest.raises(errors.Refused) as caught:
        pades.seal(certified(rsa_seal, MDPPerm.NO_CHANGES), rsa_seal, REASON, now)
    assert caught.value.code == "pdf_locked"


def test_a_certified_document_that_allows_signatures_is_sealed(
    rsa_seal: SigningKey, ec_seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """DocMDP, P 2: filling in forms and signing."""
    received = certified(rsa_seal, MDPPerm.FILL_FORMS)
    _valid(pades.seal(received, ec_seal, REASON, now), received, ec_seal, trust, now)


@pytest.mark.parametrize(
    "content",
    [b"", b"%", b"%PDF-1.7\n", b"junk\n" + documents.plain(), documents.plain()[:600], b"\0" * 5000],
    ids=["empty", "one byte", "header", "junk first", "cut", "zeros"],
)
def test_what_takes_no_update_is_refused(content: bytes, rsa_seal: SigningKey, now: dt.datetime) -> None:
    """A repaired copy would not be what was received."""
    with pytest.raises(errors.Refused) as caught:
        pades.seal(content, rsa_seal, REASON, now)
    assert caught.value.code == "pdf_unsealable"


@given(data=st.data())
def test_a_damaged_document_is_refused_or_sealed_soundly(
    data: st.DataObject, ec_seal: SigningKey, trust: Trust
) -> None:
    """Nothing else may happen: no traceback, no seal that does not verify unseen."""
    received = documents.updated()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(received) - 1))
        received = received[:place] + data.draw(st.binary(max_size=3)) + received[place + 1 :]
    at = dt.datetime.now(dt.UTC)
    try:
        sealed = pades.seal(received, ec_seal, REASON, at)
        verify.verify(sealed, received, (ec_seal.certificate, *ec_seal.chain), trust, at)
    except errors.Refused:
        return
    assert hashlib.sha256(sealed[: len(received)]).digest() == hashlib.sha256(received).digest()


def certified(key: SigningKey, permissions: MDPPerm) -> bytes:
    return foreign.sign(documents.plain(), key, certify=True, docmdp_permissions=permissions)
