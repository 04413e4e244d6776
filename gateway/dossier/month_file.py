"""Read a monthly list (`index-YYYY-MM.csv`, dropfolder/monthly_csv.py) from bytes that anybody may have written.

Refused with one sentence for everything else: no input makes it raise anything but that.
"""

import csv
import io
from collections.abc import Iterator

from ..dropfolder.monthly_csv import COLUMNS, unharmed
from ..errors import Refused

_EVENT, _NAME, _SIZE, _SHA256 = (COLUMNS.index(column) for column in ("event", "name", "size", "sha256"))


def read(content: bytes) -> Iterator[tuple[int, tuple[str, str, str, str]]]:
    """Each line's number, with event, name, SHA-256 and size as they stand there; Refused, also for a gap."""
    before: int | None = None
    for number, row in enumerate(_rows(content), 2):
        if len(row) != len(COLUMNS) or not (row[0].isascii() and row[0].isdigit() and len(row[0]) < 20):
            raise Refused(f"it cannot be read as a monthly list: line {number}")
        sequence = int(row[0])
        if before is not None and sequence != before + 1:
            raise Refused(f"number {sequence} follows number {before}: between them something is missing, or twice")
        before = sequence
        yield sequence, (row[_EVENT], unharmed(row[_NAME]), row[_SHA256], row[_SIZE])


def _rows(content: bytes) -> Iterator[list[str]]:
    """Behind the header."""
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        if tuple(next(rows, ())) != COLUMNS:
            raise Refused(f"its first line is not {','.join(COLUMNS)}")
        if not content.endswith(b"\n"):
            raise Refused("it cannot be read as a monthly list: its last line is cut")
        yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"it cannot be read as a monthly list ({error})") from None
