"""Draw one page: text, lines and areas as PDF operators (ISO 32000-1, 8 and 9), in two embedded fonts.

Coordinates are points from the upper left corner of an A4 page, as one reads. Text is in Windows-1252, one byte a
character, which has what French needs; UnicodeEncodeError for anything else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import reportlab
from reportlab.pdfbase.ttfonts import TTFontFace

WIDTH, HEIGHT = 595.28, 841.89
Colour = tuple[float, float, float]
Face = Literal["Regular", "Bold"]
Align = Literal["left", "right", "centre"]

_FILES: dict[Face, str] = {"Regular": "Vera.ttf", "Bold": "VeraBd.ttf"}
_SPECIAL = re.compile(rb"[\\()]")


@dataclass(frozen=True)
class Font:
    """A font program cut down to Windows-1252. `widths` and metrics in thousandths of the size."""

    name: str
    program: bytes
    widths: tuple[float, ...]  # of the codes 0 to 255
    characters: str  # of the codes 0 to 255
    ascent: float
    descent: float
    box: tuple[float, ...]
    stem: float


@cache
def font(face: Face) -> Font:
    """The font for a face: Bitstream Vera, which reportlab ships and whose licence allows embedding."""
    source = TTFontFace(str(Path(reportlab.__file__).parent / "fonts" / _FILES[face]))
    # A code without a character of its own shows a space: the subset needs a glyph in each place.
    codes = [ord(bytes([code]).decode("cp1252", "ignore") or " ") if code >= 32 else 32 for code in range(256)]
    codes = [code if code in source.charToGlyph else 32 for code in codes]
    return Font(
        source.name.decode("ascii"),
        source.makeSubset(codes),
        tuple(source.charWidths[code] for code in codes),
        "".join(map(chr, codes)),
        source.ascent,
        source.descent,
        tuple(source.bbox),
        source.stemV,
    )


def width(text: str, size: float, face: Face = "Regular") -> float:
    """Points that a text takes in a line."""
    widths = font(face).widths
    return sum(map(widths.__getitem__, text.encode("cp1252"))) * size / 1000


@lru_cache(1000)
def wrap(text: str, measure: float, size: float) -> tuple[str, ...]:
    """Lines of at most `measure` points, broken at spaces; a longer word stands alone."""
    rows: list[str] = []
    for word in text.split(" "):
        if rows and width(f"{rows[-1]} {word}", size) <= measure:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return tuple(rows)


class Sheet:
    """A page in the making; `content()` is its content stream."""

    def __init__(self) -> None:
        self._operators: list[bytes] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: Colour,
        size: float = 8,
        face: Face = "Regular",
        align: Align = "left",
    ) -> None:
        """Write one line; `y` is its baseline, `x` its left end, right end or middle."""
        if align != "left":
            x -= width(text, size, face) / (1 if align == "right" else 2)
        shown = _SPECIAL.sub(rb"\\\g<0>", text.encode("cp1252"))
        place = f"{_rgb(colour)} rg BT /{face} {size:g} Tf {x:.2f} {HEIGHT - y:.2f} Td ".encode()
        self._operators.append(place + b"(" + shown + b") Tj ET")

    def paragraph(
        self, x: float, y: float, text: str, colour: Colour, measure: float, size: float = 8, leading: float = 11
    ) -> float:
        """Write lines of at most `measure` points; the baseline after the last one."""
        for row in wrap(text, measure, size):
            self.text(x, y, row, colour, size)
            y += leading
        return y

    def area(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """Fill a rectangle; `x`, `y` is its upper left corner."""
        self._draw(f"{_rgb(colour)} rg {x:.2f} {HEIGHT - y - down:.2f} {across:.2f} {down:.2f} re f")

    def frame(self, x: float, y: float, across: float, down: float, colour: Colour, thickness: float = 0.6) -> None:
        """Draw a rectangle's outline."""
        self._draw(f"{_rgb(colour)} RG {thickness:g} w {x:.2f} {HEIGHT - y - down:.2f} {across:.2f} {down:.2f} re S")

    def rule(self, x1: float, y1: float, x2: float, y2: float, colour: Colour, thickness: float = 0.6) -> None:
        """Draw a line."""
        self._draw(f"{_rgb(colour)} RG {thickness:g} w {x1:.2f} {HEIGHT - y1:.2f} m {x2:.2f} {HEIGHT - y2:.2f} l S")

    def shape(self, corners: Iterable[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon."""
        path = " ".join(f"{x:.2f} {HEIGHT - y:.2f} {'l' if place else 'm'}" for place, (x, y) in enumerate(corners))
        self._draw(f"{_rgb(colour)} rg {path} h f")

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle: four Bézier curves, good to 0.03 %."""
        k, bottom = radius * 0.5523, HEIGHT - y
        quarter = "{:.2f} {:.2f} {:.2f} {:.2f} {:.2f} {:.2f} c"
        curves = [
            quarter.format(x + k, bottom + radius, x + radius, bottom + k, x + radius, bottom),
            quarter.format(x + radius, bottom - k, x + k, bottom - radius, x, bottom - radius),
            quarter.format(x - k, bottom - radius, x - radius, bottom - k, x - radius, bottom),
            quarter.format(x - radius, bottom + k, x - k, bottom + radius, x, bottom + radius),
        ]
        self._draw(f"{_rgb(colour)} rg {x:.2f} {bottom + radius:.2f} m {' '.join(curves)} f")

    def content(self) -> bytes:
        """The operators so far."""
        return b"\n".join(self._operators)

    def _draw(self, operators: str) -> None:
        self._operators.append(operators.encode())


def _rgb(colour: Colour) -> str:
    return "{:g} {:g} {:g}".format(*colour)
