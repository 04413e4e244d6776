import datetime as dt
import hashlib
import json
import re
from io import BytesIO
from typing import Any

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pikepdf import Array, Dictionary, Name, String

from gateway import errors
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from gateway.sealing import pades, validate
from gateway.sealing.verify import verify
from tests.intake import makers
from tests.keys.authority import YEAR, Authority, p256_key
from tests.sealing import documents, foreign

REASON = "Facture originale"


class Verifier:
    """Our verifier, told what to expect of the sealed invoice."""

    def __init__(self, received: bytes, key: SigningKey, trust: Trust, at: dt.datetime) -> None:
        self.received, self.key, self.trust, self.at = received, key, trust, at

    def __call__(self, sealed: bytes) -> dict[str, Any]:
        return verify(sealed, self.received, (self.key.certificate, *self.key.chain), self.trust, self.at)

    def code(self, sealed: bytes) -> str:
        with pytest.raises(errors.Refused) as caught:
            self(sealed)
        return caught.value.code


@pytest.fixture(scope="module")
def verifier(invoice: bytes, rsa_seal: SigningKey, trust: Trust, authority: Authority) -> Verifier:
    return Verifier(invoice, rsa_seal, trust, authority.now + dt.timedelta(minutes=10))


def test_the_record_says_what_was_checked_and_found(verifier: Verifier, sealed: bytes, rsa_seal: SigningKey) -> None:
    """It is stored as it is, and shown to an auditor years later."""
    record = verifier(sealed)
    assert json.loads(json.dumps(record)) == record
    assert set(record["checks"].values()) == {"passed"}
    assert record["signer"]["certificate_sha256"] == rsa_seal.certificate_sha256
    assert record["byte_range"][3] + record["byte_range"][2] == len(sealed)
    assert [file["name"] for file in record["embedded"]] == ["factur-x.xml"]
    assert record["at"] == verifier.at.isoformat()


@pytest.mark.parametrize("holder", ["page", "annotation"])
def test_a_file_that_is_not_in_the_catalog_s_lists_is_compared_too(
    holder: str, verifier: Verifier, rsa_seal: SigningKey
) -> None:
    """Where the intake finds the XML, the seal must leave it alone."""
    pdf = documents.blank()
    specification = Dictionary(Type=Name.Filespec, F=String("factur-x.xml"), EF=Dictionary(F=pdf.make_stream(b"<x/>")))
    if holder == "page":
        pdf.pages[0].obj.AF = Array([specification])
    else:
        note = Dictionary(Subtype=Name.FileAttachment, Rect=Array([0, 0, 9, 9]), FS=specification)
        pdf.pages[0].obj.Annots = Array([pdf.make_indirect(note)])
    received = documents.saved(pdf)
    sealed = pades.seal(received, rsa_seal, REASON, verifier.at)
    record = Verifier(received, rsa_seal, verifier.trust, verifier.at)(sealed)
    assert record["embedded"] == [{"name": "factur-x.xml", "sha256": hashlib.sha256(b"<x/>").hexdigest()}]


def test_what_was_not_compared_is_said(verifier: Verifier, sealed: bytes) -> None:
    """Without the received bytes nothing is claimed about them."""
    certificates = (verifier.key.certificate, *verifier.key.chain)
    checks = verify(sealed, None, certificates, verifier.trust, verifier.at)["checks"]
    of_received = ("original_first", "objects_same", "embedded_same", "metadata_same")
    assert [checks[name] for name in of_received] == ["not run"] * 4
    assert checks["signature"] == "passed"


def test_no_byte_of_the_seal_can_be_changed(verifier: Verifier, sealed: bytes) -> None:
    """The seal's own contents are the one place that no digest covers: every fourth byte of it and each edge."""
    start, end = _gap(sealed)
    places = {*range(start, end, 4), *range(start - 2, start + 3), *range(end - 20, end + 2)}
    for place in sorted(places):
        for bit in (0x01, 0x20):
            changed = bytearray(sealed)
            changed[place] ^= bit
            assert verifier.code(bytes(changed)), f"byte {place}"


@given(data=st.data())
def test_no_byte_of_the_document_can_be_changed(data: st.DataObject, verifier: Verifier, sealed: bytes) -> None:
    """Anywhere: in the invoice, in the update, in the signature."""
    place = data.draw(st.integers(0, len(sealed) - 1))
    bits = data.draw(st.integers(1, 255))
    changed = bytearray(sealed)
    changed[place] ^= bits
    assert verifier.code(bytes(changed))


@pytest.mark.parametrize("more", [b"\n", b"\0", b"%%EOF\n", b"x" * 1000])
def test_nothing_can_be_appended(verifier: Verifier, sealed: bytes, more: bytes) -> None:
    """The seal covers the whole file, or it does not count."""
    assert verifier.code(sealed + more)


@given(cut=st.integers(1, 80_000))
def test_nothing_can_be_cut_off(verifier: Verifier, sealed: bytes, cut: int) -> None:
    """Half a transfer is no document."""
    assert verifier.code(sealed[: max(0, len(sealed) - cut)])


def test_an_update_after_the_seal_is_seen(verifier: Verifier, sealed: bytes) -> None:
    """A PDF can be changed by appending; the signature in it stays good for the earlier part."""
    with_more = documents.append(sealed, {4: b"<< /Length 0 >>\nstream\n\nendstream"})
    assert verifier.code(with_more) == "seal_coverage"


def test_a_document_without_seal_is_seen(verifier: Verifier, invoice: bytes) -> None:
    """The update may have failed to reach the form."""
    assert verifier.code(invoice) == "seal_missing"


def test_another_certificate_of_the_same_authority_is_not_ours(
    verifier: Verifier, invoice: bytes, authority: Authority
) -> None:
    """The chain alone does not say who sealed."""
    assert verifier.code(pades.seal(invoice, authority.signing_key(p256_key()), REASON, verifier.at)) == "seal_signer"


def test_a_chain_left_out_is_seen(verifier: Verifier, invoice: bytes, rsa_seal: SigningKey) -> None:
    """Without the intermediate a reader could not follow it."""
    alone = SigningKey(rsa_seal.private_key, rsa_seal.certificate)
    assert verifier.code(pades.seal(invoice, alone, REASON, verifier.at)) == "seal_signer"


def test_an_unknown_root_is_refused(invoice: bytes, sealed: bytes, rsa_seal: SigningKey, now: dt.datetime) -> None:
    """Trust is what the settings say."""
    other = Trust((Authority(label="Other").root,))
    assert Verifier(invoice, rsa_seal, other, now).code(sealed) == "certificate_untrusted"


def test_an_expired_certificate_is_refused(
    invoice: bytes, sealed: bytes, rsa_seal: SigningKey, trust: Trust, now: dt.datetime
) -> None:
    """Without a time-stamp nobody can tell when it was sealed."""
    assert Verifier(invoice, rsa_seal, trust, now + 2 * YEAR).code(sealed) == "certificate_untrusted"


def test_another_original_is_seen(verifier: Verifier, sealed: bytes) -> None:
    """The seal must be on what was received, not on something that looks like it."""
    other = Verifier(documents.plain(), verifier.key, verifier.trust, verifier.at)
    assert other.code(sealed) == "seal_original"


def test_a_changed_embedded_file_is_seen(verifier: Verifier, invoice: bytes, rsa_seal: SigningKey) -> None:
    """Everything signed, the received bytes first, and still another XML for the client's ERP."""
    with pikepdf.open(BytesIO(invoice)) as pdf:
        number = pdf.Root.Names.EmbeddedFiles.Names[1].EF.F.objgen[0]
    body = b"<< /Type /EmbeddedFile /Subtype /text#2Fxml /Length 4 >>\nstream\n<x/>\nendstream"
    sealed = pades.seal(documents.append(invoice, {number: body}), rsa_seal, REASON, verifier.at)
    assert verifier.code(sealed) == "seal_embedded"


def test_a_page_that_shows_something_else_is_seen(verifier: Verifier, invoice: bytes, rsa_seal: SigningKey) -> None:
    """A writer that takes a number twice leaves the bytes, the XML and every digest as they should be."""
    with pikepdf.open(BytesIO(invoice)) as pdf:
        number = pdf.pages[1].obj.Contents.objgen[0]
    other = documents.append(invoice, {number: b"<< /Length 0 >>\nstream\n\nendstream"})
    assert verifier.code(pades.seal(other, rsa_seal, REASON, verifier.at)) == "seal_original"


@pytest.mark.parametrize("holder", ["catalog", "page"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"/F#fc", b"/F#c3#bc"),
        (b"0.5", b"0.25"),
        (b"[4 0 R]", b"[5 0 R]"),
        (b"<</A(a)>>", b"<</A(b)>>"),
        (b"1", b"null"),
    ],
)
def test_where_the_seal_is_entered_nothing_else_changes(
    holder: str, before: bytes, after: bytes, verifier: Verifier, rsa_seal: SigningKey
) -> None:
    """The library reads and writes them anew: a font's name in another encoding is found by no text any more."""
    received = _with_entry(holder, before)
    of_received = Verifier(received, rsa_seal, verifier.trust, verifier.at)
    sealed = pades.seal(documents.append(received, _entries(holder, after)), rsa_seal, REASON, verifier.at)
    assert of_received.code(sealed) == "seal_original"


@pytest.mark.parametrize(
    "written", [b"/F#c3#bc", b"0.5", b".50", b"(\\376\\377\\000\\351)", b"[[4 0 R 4.]]", b"<</A<41>/B null>>"]
)
def test_what_only_reads_otherwise_is_the_same(written: bytes, verifier: Verifier, rsa_seal: SigningKey) -> None:
    """Half a unit is 0.5 and .50; a text has three encodings."""
    received = _with_entry("page", written)
    sealed = pades.seal(received, rsa_seal, REASON, verifier.at)
    assert Verifier(received, rsa_seal, verifier.trust, verifier.at)(sealed)["checks"]["objects_same"] == "passed"


def test_changed_metadata_are_seen(verifier: Verifier, invoice: bytes, rsa_seal: SigningKey) -> None:
    """What pyHanko's own update would do."""
    with pikepdf.open(BytesIO(invoice)) as pdf:
        number = pdf.Root.Metadata.objgen[0]
    body = b"<< /Type /Metadata /Subtype /XML /Length 4 >>\nstream\n<x/>\nendstream"
    sealed = pades.seal(documents.append(invoice, {number: body}), rsa_seal, REASON, verifier.at)
    assert verifier.code(sealed) == "seal_embedded"


def test_a_range_with_a_hole_is_refused(verifier: Verifier, sealed: bytes) -> None:
    """What a range leaves out besides the signature could be changed at will."""
    start, end = _gap(sealed)
    for first, second in ((start - 10, end), (start, end + 10), (start + 1, end), (start, end - 1)):
        changed = _with_range(sealed, (0, first, second, len(sealed) - second))
        assert verifier.code(changed) == "seal_coverage"


@pytest.mark.parametrize(
    "numbers",
    [(1, 2, 3, 4), (0, 0, 0, 0), (0, -1, 10, 99999), (0, 10**9, 10**9 + 5, 1), (5, 100, 200, 300)],
)
def test_a_range_out_of_bounds_is_refused(verifier: Verifier, sealed: bytes, numbers: tuple[int, ...]) -> None:
    """Numbers come from the file: they are not indices until they were checked."""
    assert verifier.code(_with_range(sealed, numbers)) == "seal_coverage"


def test_two_seals_that_both_claim_the_whole_file_are_refused(
    verifier: Verifier, invoice: bytes, rsa_seal: SigningKey
) -> None:
    """A verifier that takes the first and a viewer that shows the second would see two documents."""
    sealed = pades.seal(invoice, rsa_seal, REASON, verifier.at)
    with pikepdf.open(BytesIO(sealed)) as pdf:
        fields, seal = pdf.Root.AcroForm.Fields, pdf.Root.AcroForm.Fields[0].V
        twin = pdf.make_indirect(pikepdf.Dictionary(FT=pikepdf.Name.Sig, T=pikepdf.String("Twin"), V=seal))
        fields.append(twin)
        doubled = documents.saved(pdf)
    start = doubled.index(b"/ByteRange")
    changed = doubled[:start] + re.sub(rb"\[[^\]]*\]", b"[ 0 1 2 %d ]" % (len(doubled) - 2), doubled[start:], count=1)
    changed = re.sub(rb"\[ 0 1 2 \d+ \]", b"[ 0 1 2 %d ]" % (len(changed) - 2), changed)
    assert verifier.code(changed) == "seal_coverage"


def test_a_signature_of_another_kind_is_not_our_seal(verifier: Verifier, invoice: bytes, rsa_seal: SigningKey) -> None:
    """With the same key, by another writer: not PAdES, not what we promise."""
    assert verifier.code(foreign.sign(invoice, rsa_seal)) == "seal_contents"


def test_the_full_validator_sees_a_change_too(sealed: bytes, trust: Trust, now: dt.datetime) -> None:
    """It must be able to fail, or it would be no check of ours."""
    changed = bytearray(sealed)
    changed[1000] ^= 1
    for broken in (bytes(changed), sealed + documents.TEXT, sealed[:-100], documents.plain()):
        with pytest.raises(errors.Refused):
            validate.full_validate(broken, trust, now)


def test_the_full_validator_sees_who_is_not_trusted(sealed: bytes, now: dt.datetime) -> None:
    """It gets our roots, not the system's."""
    with pytest.raises(errors.Refused) as caught:
        validate.full_validate(sealed, Trust((Authority(label="Other").root,)), now)
    assert caught.value.code == "seal_invalid"


def _entries(holder: str, value: bytes) -> dict[int, bytes]:
    """Catalog and page (by object number), one of them with an entry more, written like this."""
    number = {"catalog": 1, "page": 3}[holder]
    objects = {1: makers.CATALOG, 3: makers.PAGE}
    return objects | {number: objects[number].removesuffix(b">>") + b"/Extra %b >>" % value}


def _with_entry(holder: str, value: bytes) -> bytes:
    objects = _entries(holder, value)
    return makers.raw_pdf(objects[1], makers.PAGES, objects[3], b"(x)", b"(y)")


def _gap(sealed: bytes) -> tuple[int, int]:
    numbers = re.findall(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", sealed)[-1]
    return int(numbers[1]), int(numbers[2])


def _with_range(sealed: bytes, numbers: tuple[int, ...]) -> bytes:
    start = sealed.rindex(b"/ByteRange [")
    end = start + len(b"/ByteRange ") + 62  # the place that pyHanko leaves for it
    text = b"/ByteRange [%b]" % b" ".join(b"%d" % number for number in numbers)
    return sealed[:start] + text.ljust(end - start) + sealed[end:]
