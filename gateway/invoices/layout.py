"""What the pages of an invoice have in common: colours, French numbers and dates, head and foot, table rows."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from .facts import InvoiceFacts
from .sheet import WIDTH, Align, Colour, Face, Sheet

INK: Colour = (0.13, 0.16, 0.2)
MUTED: Colour = (0.4, 0.45, 0.5)
BRAND: Colour = (0.05, 0.3, 0.42)
ACCENT: Colour = (0.93, 0.6, 0.1)
TINT: Colour = (0.93, 0.955, 0.97)
RULE: Colour = (0.8, 0.84, 0.87)
WHITE: Colour = (1, 1, 1)

LEFT, RIGHT = 42.0, WIDTH - 42
MIDDLE = 312.0  # left edge of the right-hand column
MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)  # fmt: skip
TITLES = {"380": "FACTURE", "381": "AVOIR", "384": "FACTURE RECTIFICATIVE"}


def fr_number(value: Decimal | int, decimals: int = 0) -> str:
    """`1 234,50`, with no-break spaces."""
    return f"{value:,.{decimals}f}".replace(",", "\xa0").replace(".", ",")


def fr_euro(value: Decimal) -> str:
    """`1 234,50 €`."""
    return f"{fr_number(value, 2)}\xa0€"


def fr_percent(rate: Decimal) -> str:
    """`5,5 %`."""
    return f"{rate.normalize():f}\xa0%".replace(".", ",")


def fr_day(day: dt.date) -> str:
    """`1er décembre 2026`."""
    return f"{day.day}{'er' if day.day == 1 else ''}\xa0{MONTHS[day.month - 1]}\xa0{day.year}"


def grouped(identifier: str, groups: Sequence[int] = (3, 3, 3)) -> str:
    """An identifier in groups of so many characters, the rest as one more group."""
    parts, rest = [], identifier
    for length in groups:
        parts.append(rest[:length])
        rest = rest[length:]
    return "\xa0".join([*parts, rest] if rest else parts)


def draw_mark(sheet: Sheet, x: float, y: float, radius: float) -> None:
    """The seller's emblem, a bolt on a disc; `x`, `y` is its middle."""
    sheet.disc(x, y, radius, BRAND)
    bolt = ((0.12, -0.68), (-0.46, 0.14), (-0.06, 0.14), (-0.16, 0.7), (0.46, -0.18), (0.06, -0.18), (0.3, -0.68))
    sheet.shape([(x + across * radius, y + down * radius) for across, down in bolt], ACCENT)


def draw_page_head(sheet: Sheet, facts: InvoiceFacts, title: str) -> None:
    """The head of the pages after the first."""
    draw_mark(sheet, LEFT + 10, 48, 10)
    sheet.text(LEFT + 28, 51, facts.seller.name, BRAND, 9, "Bold")
    reference = f"{TITLES[facts.type_code].capitalize()} n° {facts.number} du {fr_day(facts.issue_date)}"
    sheet.text(RIGHT, 51, reference, MUTED, 7.5, align="right")
    sheet.rule(LEFT, 66, RIGHT, 66, ACCENT, 1.2)
    sheet.text(LEFT, 92, title, BRAND, 14, "Bold")


def draw_foot(sheet: Sheet, facts: InvoiceFacts, page: int) -> None:
    """Who the seller is, that nothing of this is real, and the page's number."""
    seller = facts.seller
    legal = f"{seller.name} – {seller.street}, {seller.postcode} {seller.city} – SIREN {grouped(seller.siren)}"
    sheet.rule(LEFT, 796, RIGHT, 796, RULE)
    sheet.text(LEFT, 807, f"{legal} – TVA {seller.vat_number}", MUTED, 6.5)
    sheet.text(LEFT, 816, "Sociétés, sites et prix fictifs : document de démonstration, sans valeur.", MUTED, 6.5)
    sheet.text(RIGHT, 816, f"Page {page} / 3", MUTED, 6.5, align="right")


def draw_heading(sheet: Sheet, x: float, y: float, text: str) -> None:
    """The heading of a block."""
    sheet.text(x, y, text, BRAND, 9, "Bold")
    sheet.rule(x, y + 5, x + 24, y + 5, ACCENT, 1.6)


Column = tuple[float, Align]  # where its cells start, end or have their middle


def draw_row(
    sheet: Sheet,
    y: float,
    columns: Sequence[Column],
    cells: Sequence[str],
    colour: Colour = INK,
    size: float = 8,
    face: Face = "Regular",
) -> None:
    """One row of a table; `y` is its baseline."""
    for (x, align), cell in zip(columns, cells, strict=True):
        sheet.text(x, y, cell, colour, size, face, align)


def draw_table_head(
    sheet: Sheet, y: float, columns: Sequence[Column], cells: Sequence[str], across: float = RIGHT - LEFT
) -> None:
    """The head of a table at the left margin, `across` points wide."""
    sheet.area(LEFT, y - 12, across, 18, BRAND)
    draw_row(sheet, y, columns, cells, WHITE, 7.5, "Bold")
