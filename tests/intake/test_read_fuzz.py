"""Whatever a document is made into, reading it ends in facts or in Refused, and soon."""

import re
import time

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.intake import read
from tests.intake import makers
from tests.intake.makers import LIMITS, PAGE, PAGES, TODAY, factur_x, invoice_xml, raw_pdf, stream

GOOD = factur_x()
PACKED = makers.saved(makers.opened(GOOD), object_stream_mode=pikepdf.ObjectStreamMode.generate)
# Where the structure is: words and references, rather than the insides of streams.
PLACES = [match.span() for match in re.finditer(rb"/[A-Z][A-Za-z]+|\b\d+ 0 R|\b\d+\b|<<|>>|\[|\]", GOOD)]
WORDS = [
    b"/Names", b"/Kids", b"/EF", b"/F", b"/UF", b"/AF", b"/JS", b"/Count", b"/Type", b"/Page", b"/Pages", b"/Root",
    b"/Encrypt", b"/Metadata", b"/Annots", b"/FS", b"/Filter", b"/LZWDecode", b"/DecodeParms", b"/Length", b"/Prev",
    b"/#ff", b"null", b"true", b"-1", b"0", b"99999999999", b"1.5",
    b"1 0 R", b"3 0 R", b"<<", b">>", b"[", b"]", b"(x)",
    b"<feffd800>", b"stream", b"endstream", b"endobj", b"",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    read.prepare()


def ends_well(document: bytes) -> None:
    started = time.process_time()
    said = ""
    try:
        read.read(document, None, LIMITS, TODAY)
    except Refused as error:
        said = error.message
    assert said.isprintable() and "stream <" not in said
    assert time.process_time() - started < 5


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(WORDS)), min_size=1, max_size=6))
def test_a_document_whose_words_were_exchanged_is_read_or_refused(changes: list[tuple[tuple[int, int], bytes]]) -> None:
    """Of the same length where it fits, so that the cross-reference stays true and what follows is reached."""
    document = bytearray(GOOD)
    for (start, end), word in changes:
        document[start:end] = word[: end - start].ljust(end - start)
    ends_well(bytes(document))


@settings(max_examples=200)
@given(
    st.sampled_from([GOOD, PACKED]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 40)), min_size=1, max_size=4),
)
def test_a_document_with_bytes_changed_added_and_lost_is_read_or_refused(
    good: bytes, changes: list[tuple[float, bytes, int]]
) -> None:
    """A bad disk, a bad line."""
    document = bytearray(good)
    for place, added, lost in changes:
        start = int(place * len(document))
        document[start : start + lost] = added
    ends_well(bytes(document))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 40)), min_size=1, max_size=4))
def test_an_xml_with_bytes_changed_added_and_lost_is_read_or_refused(changes: list[tuple[float, bytes, int]]) -> None:
    """Inside a PDF that is whole."""
    xml = bytearray(invoice_xml().encode())
    for place, added, lost in changes:
        start = int(place * len(xml))
        xml[start : start + lost] = added
    ends_well(factur_x(bytes(xml)))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(raw: bytes) -> None:
    """Also behind the right beginning and before the right end."""
    for document in (raw, b"%PDF-1.7\n" + raw + b"\n%%EOF\n"):
        with pytest.raises(Refused):
            read.read(document, None, LIMITS, TODAY)


LEAVES = [
    b"null", b"true", b"-1", b"7", b"1.5", b"(x)", b"<feffd800>", b"<efbbbfff>", b"/Filespec", b"/FlateDecode",
    b"/JavaScript", b"/#ff#fe", b"1 0 R", b"3 0 R", b"4 0 R", b"5 0 R", b"9 0 R",
]  # fmt: skip
KEYS = [
    b"/Names", b"/Kids", b"/EF", b"/F", b"/UF", b"/AF",
    b"/FS", b"/S", b"/JS", b"/EmbeddedFiles", b"/JavaScript", b"/Annots",
    b"/#ff", b"/Filter", b"/Subtype",
]  # fmt: skip


def _dictionary(pairs: dict[bytes, bytes]) -> bytes:
    return b"<< %b >>" % b" ".join(key + b" " + value for key, value in pairs.items())


values = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"[%b]" % b" ".join(items))
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4).map(_dictionary)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from([b"/Names", b"/AF", b"/OpenAction", b"/Metadata", b"/X"]), values, max_size=4),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=3),
    st.dictionaries(st.sampled_from([b"/Filter", b"/DecodeParms", b"/Subtype", b"/F", b"/Type"]), values, max_size=3),
)
def test_objects_of_the_wrong_type_everywhere_are_read_or_refused(
    catalog: dict[bytes, bytes], specification: dict[bytes, bytes], file: dict[bytes, bytes]
) -> None:
    """Well-formed, and nothing in it is what it should be."""
    document = raw_pdf(
        _dictionary({b"/Type": b"/Catalog", b"/Pages": b"2 0 R", b"/AF": b"[4 0 R]", **catalog}),
        PAGES,
        PAGE,
        _dictionary({b"/UF": b"(factur-x.xml)", b"/EF": b"<< /F 5 0 R >>", **specification}),
        stream(invoice_xml().encode(), b" ".join(key + b" " + value for key, value in file.items())),
    )
    ends_well(document)
