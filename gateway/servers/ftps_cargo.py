"""What a data connection of FTPS carries: a file that goes out, a listing, a file that comes in.

`settle` says what became of it and may wait; whoever holds a cargo calls it once.
"""

from collections.abc import Callable

import structlog

from ..dropfolder.nodes import File, Listing, Node
from ..dropfolder.uploads import Upload
from ..dropfolder.visit import Visit
from ..errors import GatewayError

log = structlog.get_logger(__name__)
LINES_AT_ONCE = 500


class Download:
    """An open file that is sent from some byte on."""

    is_at_hand = True  # whether `next` answers at once

    def __init__(self, visit: Visit, reading: File, offset: int) -> None:
        self._visit = visit
        self._reading = reading
        self._position = offset

    def next(self, size: int) -> bytes | None:
        """The next bytes; None at the end. Unavailable when the disk refuses."""
        if self._position >= self._reading.size:
            return None
        data = self._reading.read(self._position, size)
        self._position += len(data)
        return data or None

    def settle_at_once(self, *, has_arrived: bool) -> bool:
        """The same as `settle`, without waiting; False when something has to be durable first."""
        return has_arrived and self._visit.close_at_once(self._reading)

    def settle(self, *, has_arrived: bool) -> None:
        """Record what became of it, and let go of the bytes; Unavailable when that cannot be recorded now."""
        if not has_arrived:
            self._visit.abandon([self._reading])
            return
        try:
            self._visit.close(self._reading)
        except GatewayError:
            self._reading.release()
            raise


class Lines:
    """A listing, a line for each node."""

    def __init__(self, listing: Listing, line: Callable[[Node], str], wanted: Callable[[Node], object]) -> None:
        self._listing = listing
        self._line = line
        self._wanted = wanted

    @property
    def is_at_hand(self) -> bool:
        """See Download; a month of the archive may have to be read."""
        return self._listing.is_at_hand

    def next(self, _size: int) -> bytes | None:
        """The next lines, perhaps none yet; None at the end. Unavailable, where it is not at hand."""
        nodes = self._listing.take(LINES_AT_ONCE)
        if not nodes:
            return None
        text = "".join(f"{self._line(node)}\r\n" for node in nodes if self._wanted(node))
        return text.encode("utf-8", "surrogateescape")

    def settle_at_once(self, *, has_arrived: bool) -> bool:
        """A listing proves nothing."""
        return True

    def settle(self, *, has_arrived: bool) -> None:
        """Never needed."""


class Incoming:
    """A file that is being received."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._position = 0

    def write(self, data: bytes) -> None:
        """The next bytes; Refused over a limit, Unavailable when the disk refuses."""
        self._upload.write(self._position, data)
        self._position += len(data)

    def settle_at_once(self, *, has_arrived: bool) -> bool:
        """Never: the disk takes its time."""
        return False

    def settle(self, *, has_arrived: bool) -> None:
        """Keep it if the client said that this was all of it (see Upload.finish); else it was cut."""
        if has_arrived:
            self._upload.finish()
        else:
            self._upload.release()


Cargo = Download | Lines | Incoming


def let_go(cargo: Cargo) -> None:
    """It was announced, and is not sent any more."""
    try:
        if not cargo.settle_at_once(has_arrived=False):
            cargo.settle(has_arrived=False)
    except GatewayError as error:
        log.warning("entry.read_not_recorded", cause=error.message)
