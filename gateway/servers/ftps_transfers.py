"""The data connections of an FTPS session, as its commands see them: announced, awaited, made, over, aborted.

One is awaited or open at a time, and one thing goes over it; it is passive always (PORT and EPRT do not exist: nobody
is called back). What was announced by 150 or 125 gets one final answer, after what became of it was recorded.
"""

import ipaddress
import socket
from typing import Any

import structlog

from ..errors import Unavailable
from .ftps_cargo import Cargo, Incoming, let_go
from .ftps_commands import FolderCommands
from .ftps_data import DONE, NOT_RESUMED, DataConnection
from .ftps_loop import Errands, Loop
from .ftps_passive import NoPassivePort, PassiveListener

log = structlog.get_logger(__name__)
ABORTED = "426 The transfer is aborted."
NO_CONNECTION = "425 There is no data connection for this: send PASV first, and one transfer at a time."
_NO_PORT = "425 Every port for data connections is in use: try again."


class Transfers(FolderCommands):
    """The part of a session that has to do with data connections."""

    ioloop: Loop
    errands: Errands
    remote_ip: str
    masquerade_address: str | None
    data_channel: DataConnection | None = None  # pyftpdlib's name
    _dtp_acceptor: PassiveListener | None  # the same
    _closed: bool
    _quit_pending: bool
    _epsvall: bool

    def begin_transfers(self, conn: socket.socket) -> None:
        """Where data connections will be awaited: at the address that the client reached us at."""
        self.family = conn.family
        self.local_ip: str = conn.getsockname()[0]
        self._awaited: Cargo | None = None  # what goes over the data connection that is not made yet
        self._connections: set[DataConnection] = set()  # that are not over
        self._is_data_refused = False
        address = ipaddress.ip_address(self.local_ip.partition("%")[0])
        self._is_ipv6 = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None

    def end_transfers(self) -> None:
        """The session is closed; what was under way is recorded."""
        for connection in list(self._connections):
            connection.close()

    # -- what goes over it

    @property
    def can_transfer(self) -> bool:
        """Whether a data connection is there or awaited, and free."""
        if self._is_data_refused:
            return False
        if self.data_channel is not None:
            return self.data_channel.is_free
        return self._dtp_acceptor is not None and self._dtp_acceptor.is_open and self._awaited is None

    def refuse_transfer(self) -> None:
        """Say why not."""
        self.respond(NOT_RESUMED if self._is_data_refused else NO_CONNECTION)
        self._is_data_refused = False

    def transfer(self, cargo: Cargo) -> None:
        """Send or receive it over the data connection, which is made already or awaited."""
        if not self.can_transfer:
            self._let_go(cargo)
            self.refuse_transfer()
            return
        is_there = self.data_channel is not None
        if isinstance(cargo, Incoming):
            self.respond("125 Send it." if is_there else "150 Connect and send it.")
        else:
            self.respond("125 Here it comes." if is_there else "150 Connect and take it.")
        if self._closed:  # that a client is gone shows when it is answered
            self._let_go(cargo)
        elif self.data_channel is not None:
            self.data_channel.carry(cargo)
        else:
            self._awaited = cargo

    def _let_go(self, cargo: Cargo) -> None:
        if not cargo.settle_at_once(has_arrived=False):
            self.errands.run(lambda: let_go(cargo), lambda _: None)

    # -- what becomes of it

    def data_is_there(self, sock: socket.socket) -> None:
        """The client has connected."""
        self._dtp_acceptor = None
        connection = DataConnection(sock, self)
        self.data_channel = connection
        self._connections.add(connection)
        cargo, self._awaited = self._awaited, None
        if cargo is not None:
            connection.carry(cargo)

    def data_never_came(self) -> None:
        """The client has not connected in time."""
        self._shutdown_connecting_dtp()
        self.respond("421 Passive data channel timed out.")

    def data_was_refused(self) -> None:
        """The one that was made is not taken: said when something is to go over it."""
        self._is_data_refused = True

    def data_is_over(self, connection: DataConnection, answer: str) -> None:
        """It is closed, and what became of it is recorded; `answer` is empty where none is awaited."""
        self._connections.discard(connection)
        if self.data_channel is connection:
            self.data_channel = None
        if self._closed:
            return
        if answer:
            self.respond(answer)
        if self._quit_pending:
            self.close()

    def _shutdown_connecting_dtp(self) -> None:
        """What waited for that data connection must not come over the next one, which is for something else."""
        if self._dtp_acceptor is not None:
            self._dtp_acceptor.close()
            self._dtp_acceptor = None
        self._is_data_refused = False
        cargo, self._awaited = self._awaited, None
        if cargo is not None:
            self._let_go(cargo)

    # -- commands

    def _make_epasv(self, extmode: bool = False) -> None:
        self._shutdown_connecting_dtp()
        connection, self.data_channel = self.data_channel, None
        if connection is not None and not connection.has_sent_all:
            connection.close()
        try:
            self._dtp_acceptor = listener = PassiveListener(self)
        except NoPassivePort:
            self.respond(_NO_PORT)
        except OSError as error:
            raise Unavailable("no data connection can be made at the moment; try again") from error
        else:
            self.respond(self._extended(listener.port) if extmode else self._plain(listener.port))

    def _extended(self, port: int) -> str:
        return f"229 Entering extended passive mode (|||{port}|)."

    def _plain(self, port: int) -> str:
        address = (self.masquerade_address or self.local_ip.removeprefix("::ffff:")).replace(".", ",")
        return f"227 Entering passive mode ({address},{port >> 8},{port & 255})."

    def ftp_PASV(self, line: str) -> None:
        """Its answer has room for an IPv4 address alone (RFC 2428 3: EPSV is for both)."""
        if self._is_ipv6 and not self.masquerade_address:
            self.respond("425 This connection is over IPv6: use EPSV.")
        else:
            super().ftp_PASV(line)

    def ftp_ABOR(self, line: str) -> None:
        """RFC 959 4.1.3: 426 for what is under way, even if its data connection is not made yet, then 226.

        What was sent whole is answered as that, once; there is nothing to abort any more.
        """
        connection, is_waiting = self.data_channel, self._awaited is not None
        if connection is not None and connection.has_sent_all:
            connection.abort(DONE)
            self._answer_behind_it("225 The transfer was over.")
            return
        is_under_way = is_waiting or (connection is not None and not connection.is_free)
        self._shutdown_connecting_dtp()
        if is_waiting:
            self.respond(ABORTED)
        if connection is not None:
            connection.abort(ABORTED)
        self._answer_behind_it("226 It is aborted." if is_under_way else "225 There is nothing to abort.")

    def _answer_behind_it(self, answer: str) -> None:
        """After the final answer of the transfer, which waits until it is recorded."""
        if self.errands.are_over:
            self.respond(answer)
        else:
            nothing: Any = lambda: None  # noqa: E731
            self.wait_for(nothing, lambda _: self.respond(answer))
