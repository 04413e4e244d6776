"""Where a data connection is awaited (RFC 959 PASV, RFC 2428 EPSV): on a configured port, or on any that is free."""

import random
import socket
import sys
from typing import TYPE_CHECKING

import structlog

from .. import clock

if TYPE_CHECKING:
    from .ftps_control import FtpsSession

log = structlog.get_logger(__name__)
AWAITED_SECONDS = 30


class NoPassivePort(Exception):
    """Every configured port for data connections is in use."""


class PassiveListener:
    """One port, for one connection, from the address of the control connection."""

    def __init__(self, session: "FtpsSession") -> None:
        """NoPassivePort."""
        self.deadline = clock.monotonic() + AWAITED_SECONDS
        self.is_open = True
        self._session = session
        self._loop = session.ioloop
        self._sock = _bound(session)
        self._sock.setblocking(False)
        self._sock.listen(5)
        self.port: int = self._sock.getsockname()[1]
        self._fileno = self._sock.fileno()
        self._loop.register(self._fileno, self, self._loop.READ)
        self._loop.watch(self)

    def readable(self) -> bool:
        return True

    def handle_read_event(self) -> None:
        """Somebody is there. One from another address is sent away, which may be no fault of the client's."""
        try:
            sock, address = self._sock.accept()
        except OSError:  # it has gone again
            return
        if address[0] != self._session.remote_ip:
            sock.close()
            self._session.respond(f"425 Rejected data connection from foreign address {address[0]}:{address[1]}.")
            return
        self.close()
        self._session.data_is_there(sock)

    def handle_close(self) -> None:
        self.handle_read_event()

    def handle_error(self) -> None:
        """What nobody foresaw: the session is told by its command's answer."""
        log.error("ftps.failed", address=self._session.remote_ip, exc_info=sys.exc_info()[1])
        self._session.data_never_came()

    def overdue(self) -> None:
        """See Timed."""
        self._session.data_never_came()

    def close(self) -> None:
        """Nobody is awaited any more."""
        if self.is_open:
            self.is_open = False
            self._loop.forget(self)
            self._loop.unregister(self._fileno)
            self._sock.close()


def _bound(session: "FtpsSession") -> socket.socket:
    """A socket on the address that the client reached us at."""
    ports = session.listener.passive_ports
    for port in [0] if ports is None else random.sample(ports, len(ports)):
        sock = socket.socket(session.family)
        try:
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((session.local_ip, port))
        except OSError:
            sock.close()
            if port:
                continue
            raise
        return sock
    raise NoPassivePort
