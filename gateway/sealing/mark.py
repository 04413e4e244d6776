"""Mark every page of a PDF for the eye, so that one page of a print-out is enough to tell what it is.

ValueError for a page without an area.
"""

import math
import zlib
from functools import lru_cache
from io import BytesIO

import pikepdf
from pikepdf import Dictionary, Name
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

_FONT = "Vera"  # comes with reportlab, and is embedded


def mark_pages(pdf: pikepdf.Pdf, word: str, line: str) -> None:
    """Put the word across every page, and the line along its lower edge."""
    boxes = [_visible_box(page) for page in pdf.pages]
    sizes = [_upright_size(page, box) for page, box in zip(pdf.pages, boxes, strict=True)]
    distinct = list(dict.fromkeys(sizes))
    with pikepdf.open(_overlays(distinct, word, line)) as overlays:
        marks = [pdf.copy_foreign(page.as_form_xobject()) for page in overlays.pages]
        for page, box, size in zip(pdf.pages, boxes, sizes, strict=True):
            _mark(pdf, page, box, marks[distinct.index(size)])


def _mark(pdf: pikepdf.Pdf, page: pikepdf.Page, box: pikepdf.Rectangle, mark: pikepdf.Object) -> None:
    # What the page draws becomes a form: all that it leaves open (state, clip, text) ends with it, and hides no mark.
    packed = zlib.compress(_drawing(page))  # at once: a hundred pages may share one large stream
    drawing = pdf.make_stream(packed, Filter=Name.FlateDecode, Type=Name.XObject, Subtype=Name.Form)
    drawing.BBox, drawing.Resources = page.mediabox, page.resources
    placed = page.calc_form_xobject_placement(mark, Name.Mark, box, allow_shrink=True, allow_expand=True)
    page.obj.Resources = Dictionary(XObject=Dictionary(Drawing=drawing, Mark=mark))
    page.obj.Contents = pdf.make_stream(b"/Drawing Do\n" + placed)


def _drawing(page: pikepdf.Page) -> bytes:
    """The page's content streams, which only together need to make sense (ISO 32000-1 7.8.2)."""
    contents = page.obj.get("/Contents")
    streams = contents.as_list() if isinstance(contents, pikepdf.Array) else [contents]
    return b"\n".join(stream.read_bytes() for stream in streams if isinstance(stream, pikepdf.Stream))


def _visible_box(page: pikepdf.Page) -> pikepdf.Rectangle:
    """What a viewer shows: the crop box within the media box (ISO 32000-1 14.11.2)."""
    media, crop = pikepdf.Rectangle(page.mediabox), pikepdf.Rectangle(page.cropbox)
    box = pikepdf.Rectangle(
        max(media.llx, crop.llx), max(media.lly, crop.lly), min(media.urx, crop.urx), min(media.ury, crop.ury)
    )
    visible = box if box.width > 0 and box.height > 0 else media
    if visible.width <= 0 or visible.height <= 0:
        raise ValueError("a page has no area")
    return visible


def _upright_size(page: pikepdf.Page, box: pikepdf.Rectangle) -> tuple[float, float]:
    """Width and height as the reader sees them, in units of the page's coordinates."""
    turned = page.rotation % 180 == 90
    width, height = round(float(box.width), 2), round(float(box.height), 2)
    return (height, width) if turned else (width, height)


def _overlays(sizes: list[tuple[float, float]], word: str, line: str) -> BytesIO:
    """A PDF with one page for each size: the word across it, the line along its lower edge."""
    _register_font()
    pdf = BytesIO()
    canvas = Canvas(pdf, invariant=1)
    for width, height in sizes:
        canvas.setPageSize((width, height))
        _draw_word(canvas, width, height, word)
        _draw_line(canvas, width, height, line)
        canvas.showPage()
    canvas.save()
    pdf.seek(0)
    return pdf


@lru_cache(maxsize=1)
def _register_font() -> None:
    pdfmetrics.registerFont(TTFont(_FONT, "Vera.ttf"))


def _draw_word(canvas: Canvas, width: float, height: float, word: str) -> None:
    diagonal = math.hypot(width, height)
    size = min(0.7 * diagonal / pdfmetrics.stringWidth(word, _FONT, 1), 0.5 * min(width, height))
    canvas.saveState()
    canvas.translate(width / 2, height / 2)
    canvas.rotate(math.degrees(math.atan2(height, width)))
    canvas.setFillColorRGB(0.7, 0.1, 0.1, alpha=0.25)
    canvas.setFont(_FONT, size)
    canvas.drawCentredString(0, -size / 3, word)
    canvas.restoreState()


def _draw_line(canvas: Canvas, width: float, height: float, line: str) -> None:
    words, _, digest = line.rpartition(" ")
    wanted = max(6.0, min(width, height) / 85)
    fits = 0.94 * width / pdfmetrics.stringWidth(line, _FONT, 1)
    lines = [line] if fits >= wanted * 0.8 else [digest, words]  # from the bottom up
    size = min(wanted, *(0.94 * width / pdfmetrics.stringWidth(one, _FONT, 1) for one in lines))
    canvas.setFillColorRGB(1, 1, 1, alpha=0.75)
    canvas.rect(0, 0, width, size * (1.6 * len(lines) + 0.4), stroke=0, fill=1)
    canvas.setFillColorRGB(0.5, 0, 0, alpha=1)
    canvas.setFont(_FONT, size)
    for row, one in enumerate(lines):
        canvas.drawCentredString(width / 2, size * (0.7 + 1.5 * row), one)
