"""Lists that other people made, read by a command: CSV, UTF-8, `;` or `,`, with a header that names known columns.

What is wrong with the file as a whole is Refused before anything is done; what is wrong with a line is said of it.
"""

import csv
import dataclasses
import difflib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import Refused
from .files import content


@dataclasses.dataclass
class Row:
    """A line of the file: what is sent of it, or what is wrong with it; then what came of it."""

    number: int
    cells: dict[str, str]
    report: dict[str, Any] | None = None

    def refuse(self, column: str, reason: str) -> None:
        """Say what is wrong with it."""
        self.report = {"outcome": "refused", "column": column, "reason": reason}


def read(
    file: Path, columns: Sequence[str], required: Sequence[str], *, max_lines: int, max_bytes: int = 10_000_000
) -> list[Row]:
    """The lines of a list. Refused: no such file, no text, no header, a column that nobody knows, too long."""
    try:
        text = content(file, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{file}: not UTF-8: save it as CSV UTF-8") from None
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from None
    first = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    try:
        rows = list(_rows(lines, file, columns, required))
    except csv.Error as error:
        raise Refused(f"{file}, line {lines.line_num}: not CSV ({error})") from None
    if len(rows) > max_lines:
        raise Refused(f"{file}: {len(rows)} lines, at most {max_lines} at once: split it")
    return rows


def _rows(lines: Any, file: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[Row]:
    header = [name.strip().lower() for name in next(lines, [])]
    _check_header(header, file, columns, required)
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = Row(lines.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=False)})
        if len(cells) != len(header):
            row.refuse("", f"the line has {len(cells)} cells, the header {len(header)}")
        yield row


def _check_header(header: Sequence[str], file: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    for name in header:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1)
            meant = f"; {near[0]} was meant?" if near else f": the columns are {', '.join(columns)}"
            raise Refused(f"{file}: no column is named {name!r}{meant}")
        if header.count(name) > 1:
            raise Refused(f"{file}: the column {name} is there twice")
    for name in required:
        if name not in header:
            raise Refused(f"{file}: the column {name} is missing")
