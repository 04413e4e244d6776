"""Documents as billing systems write them and as they should not: small PDFs, each odd in one way."""

import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf, String

TEXT = b"BT /F1 12 Tf 20 40 Td (Facture 42) Tj ET\n"


def blank(pages: int = 1, size: tuple[float, float] = (595, 842)) -> Pdf:
    """Pages with a line of text each."""
    pdf = pikepdf.new()
    font = pdf.make_indirect(Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica))
    for _ in range(pages):
        page = pdf.add_blank_page(page_size=size)
        page.obj.Resources = Dictionary(Font=Dictionary(F1=font))
        page.obj.Contents = pdf.make_stream(TEXT)
    return pdf


def saved(pdf: Pdf, **options: Any) -> bytes:
    """As bytes; classic cross-reference table unless the options say otherwise."""
    options.setdefault("object_stream_mode", pikepdf.ObjectStreamMode.disable)
    content = BytesIO()
    pdf.save(content, **options)
    return content.getvalue()


def plain() -> bytes:
    return saved(blank())


def object_streams() -> bytes:
    return saved(blank(), object_stream_mode=pikepdf.ObjectStreamMode.generate)


def linearized() -> bytes:
    return saved(blank(3), linearize=True)


def old_version() -> bytes:
    return saved(blank(), force_version="1.4")


def version_two() -> bytes:
    return saved(blank(), force_version="2.0")


def without_last_line_end() -> bytes:
    return plain().rstrip()


def with_bytes_after_the_end() -> bytes:
    return plain() + b"\n\n  \n"


def without_info_and_id() -> bytes:
    pdf = blank()
    content = saved(pdf)
    start = content.index(b"/ID [")
    end = content.index(b"]", start)
    return content[:start] + b" " * (end + 1 - start) + content[end + 1 :]


def with_a_size_that_says_too_little() -> bytes:
    """As tools leave it that append objects and copy the trailer."""
    content = plain()
    return content.replace(b"/Size %d" % _size(content), b"/Size 2")


def with_form() -> bytes:
    """A text field with the name that a seal would take."""
    pdf = blank()
    field = pdf.make_indirect(
        Dictionary(
            Type=Name.Annot,
            Subtype=Name.Widget,
            FT=Name.Tx,
            T=String("Cachet"),
            V=String("x"),
            Rect=Array([10, 10, 100, 30]),
            P=pdf.pages[0].obj,
        )
    )
    pdf.pages[0].obj.Annots = Array([field])
    pdf.Root.AcroForm = Dictionary(Fields=Array([field]), NeedAppearances=True)
    return saved(pdf)


def with_empty_form() -> bytes:
    pdf = blank()
    pdf.Root.AcroForm = pdf.make_indirect(Dictionary())
    return saved(pdf)


def with_indirect_lists() -> bytes:
    """The lists that a seal adds to are objects of their own."""
    pdf = blank()
    link = Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([0, 0, 9, 9]))
    pdf.pages[0].obj.Annots = pdf.make_indirect(Array([pdf.make_indirect(link)]))
    pdf.Root.AcroForm = pdf.make_indirect(Dictionary(Fields=pdf.make_indirect(Array())))
    return saved(pdf)


def with_empty_signature_field() -> bytes:
    """Prepared for a signature of somebody else."""
    pdf = blank()
    field = pdf.make_indirect(
        Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Sig, T=String("Cachet"), Rect=Array([0, 0, 0, 0]))
    )
    pdf.pages[0].obj.Annots = Array([field])
    pdf.Root.AcroForm = Dictionary(Fields=Array([field]), SigFlags=1)
    return saved(pdf)


def with_inherited_page_attributes() -> bytes:
    """MediaBox and Resources stand in the node above the pages, which stand in a tree of two levels."""
    pdf = blank(4)
    nodes = []
    for pair in (pdf.pages[:2], pdf.pages[2:]):
        node = pdf.make_indirect(
            Dictionary(
                Type=Name.Pages,
                Count=2,
                Kids=Array([page.obj for page in pair]),
                MediaBox=pair[0].obj.MediaBox,
                Resources=pair[0].obj.Resources,
                Parent=pdf.Root.Pages,
            )
        )
        for page in pair:
            del page.obj.MediaBox, page.obj.Resources
            page.obj.Parent = node
        nodes.append(node)
    pdf.Root.Pages.Kids = Array(nodes)
    return saved(pdf)


def updated() -> bytes:
    """Changed once by an incremental update, as stamping tools do."""
    return append(plain(), {4: b"<< /Length 41 >>\nstream\n" + TEXT + b"endstream"})


def updated_by_nothing() -> bytes:
    """An update without an object in it, as some tools append when they only save."""
    content = plain()
    trailer = b"trailer\n<< /Size %d /Root %b /Prev %d >>\n" % (_size(content), _root(content), _startxref(content))
    return content + b"xref\n0 0\n" + trailer + b"startxref\n%d\n%%%%EOF\n" % len(content)


def hybrid() -> bytes:
    """A cross-reference table with a stream beside it for newer readers (ISO 32000-1 7.5.8.4), as Word writes it."""
    content = plain()
    size = _size(content)
    start = len(content)
    entries = b"\x00\x00\x00\xff" + b"\x01" + start.to_bytes(2, "big") + b"\x00"
    stream = (
        f"{size} 0 obj\n<< /Type /XRef /Size {size + 1} /W [1 2 1] /Index [0 1 {size} 1] /Length {len(entries)} >>\n"
    ).encode()
    stream += b"stream\n" + entries + b"\nendstream\nendobj\n"
    table = start + len(stream)
    trailer = f"trailer\n<< /Size {size + 1} /Root 1 0 R /Prev {_startxref(content)} /XRefStm {start} >>\n"
    return content + stream + b"xref\n0 0\n" + trailer.encode() + f"startxref\n{table}\n%%EOF\n".encode()


def with_odd_file_lists() -> bytes:
    """Lists of embedded files as some tools leave them: a file outside, a file under its DOS name only, no list."""
    pdf = blank()
    outside = Dictionary(Type=Name.Filespec, F=String("conditions.pdf"))
    under_dos = Dictionary(Type=Name.Filespec, DOS=String("A.TXT"), EF=Dictionary(DOS=pdf.make_stream(b"a")))
    names = [String("a"), pdf.make_indirect(outside), String("b"), under_dos]
    pdf.Root.Names = Dictionary(EmbeddedFiles=Dictionary(Names=Array(names)))
    pdf.Root.AF = outside
    return saved(pdf)


def with_a_picture_attached() -> bytes:
    """Packed by a filter that is a format of its own."""
    pdf = blank()
    picture = pikepdf.Stream(pdf, b"\0\0\0\x0cjP  \r\n\x87\n", Filter=Name.JPXDecode)
    pdf.Root.AF = Array([Dictionary(Type=Name.Filespec, F=String("logo.jp2"), EF=Dictionary(F=picture))])
    return saved(pdf)


def with_a_file_that_inflates(megabytes: int) -> bytes:
    """Some KB that become so many MB when they are unpacked."""
    packer = zlib.compressobj(9)
    block = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = block + (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * (megabytes - 1)
    pdf = blank()
    file = pikepdf.Stream(pdf, packed + packer.flush(), Filter=Name.FlateDecode)
    pdf.Root.AF = Array([Dictionary(Type=Name.Filespec, F=String("n.txt"), EF=Dictionary(F=file))])
    return saved(pdf, compress_streams=False, stream_decode_level=pikepdf.StreamDecodeLevel.none)


def append(content: bytes, objects: dict[int, bytes]) -> bytes:
    """An incremental update with a classic table: object numbers and their new bodies."""
    update, offsets = b"", {}
    for number, body in objects.items():
        offsets[number] = len(content) + len(update)
        update += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"xref\n" + b"".join(b"%d 1\n%010d 00000 n \n" % item for item in offsets.items())
    size = max(_size(content), *(number + 1 for number in objects))
    trailer = b"trailer\n<< /Size %d /Root %b /Prev %d >>\n" % (size, _root(content), _startxref(content))
    return content + update + table + trailer + b"startxref\n%d\n%%%%EOF\n" % (len(content) + len(update))


def _size(content: bytes) -> int:
    return int(content.rpartition(b"/Size ")[2].split()[0])


def _root(content: bytes) -> bytes:
    return b" ".join(content.rpartition(b"/Root ")[2].split()[:3])


def _startxref(content: bytes) -> int:
    return int(content.rpartition(b"startxref")[2].split()[0])


ODD: tuple[Callable[[], bytes], ...] = (
    plain,
    object_streams,
    linearized,
    old_version,
    version_two,
    without_last_line_end,
    with_bytes_after_the_end,
    without_info_and_id,
    with_a_size_that_says_too_little,
    with_form,
    with_empty_form,
    with_indirect_lists,
    with_empty_signature_field,
    with_inherited_page_attributes,
    updated,
    updated_by_nothing,
    hybrid,
    with_odd_file_lists,
    with_a_picture_attached,
)
