"""The demo's mailbox server: what it accepts it keeps, and it accepts little."""

import asyncio
import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.demo import mailbox as module
from gateway.demo.authority import Authority
from gateway.demo.mailbox import Mailbox
from gateway.errors import ConfigError

T = TypeVar("T")
MESSAGE = b"From: <a@gateway.example>\r\nSubject: essai\r\n\r\n.un point\r\n.\r\ntexte\r\n"
SENDER, RECIPIENT = "bounces+abc@gateway.example", "compta@client.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def _serving(directory: Path, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Mailbox, int]]:
    mailbox = Mailbox(directory, "client.example", tls)
    port = await mailbox.start()
    try:
        yield mailbox, port
    finally:
        await mailbox.stop()
        await asyncio.sleep(0)


def _run(directory: Path, client: Callable[[int], T], tls: ssl.SSLContext | None = None) -> tuple[T, Mailbox]:
    """Serve, run a blocking client in a thread, stop."""

    async def scene() -> tuple[T, Mailbox]:
        async with _serving(directory, tls) as (mailbox, port):
            return await asyncio.to_thread(client, port), mailbox

    return asyncio.run(scene())


def _send(port: int, recipients: list[str], message: bytes = MESSAGE, sender: str = SENDER) -> dict[str, Any]:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="gateway.example", timeout=10) as smtp:
        return smtp.sendmail(sender, recipients, message)


def test_a_message_is_kept_byte_for_byte_with_its_envelope(tmp_path: Path) -> None:
    """What the reader verifies must be what was sent: dots unstuffed, no header added."""
    _, mailbox = _run(tmp_path, lambda port: _send(port, [RECIPIENT, "autre@CLIENT.example"]))
    (received,) = mailbox.messages()
    assert received.path.read_bytes() == MESSAGE
    assert received.sender == SENDER
    assert received.recipients == (RECIPIENT, "autre@CLIENT.example")
    assert not received.tls
    assert list((tmp_path / "tmp").iterdir()) == []


def test_messages_come_oldest_first(tmp_path: Path) -> None:
    """Names sort by time."""

    def client(port: int) -> None:
        for number in range(5):
            _send(port, [RECIPIENT], b"Subject: %d\r\n\r\n" % number)

    _, mailbox = _run(tmp_path, client)
    assert [message.path.read_bytes() for message in mailbox.messages()] == [
        b"Subject: %d\r\n\r\n" % number for number in range(5)
    ]


def test_the_null_sender_is_kept_as_empty(tmp_path: Path) -> None:
    """A DSN has no return path; smtplib sends it as `<>`."""
    _, mailbox = _run(tmp_path, lambda port: _send(port, [RECIPIENT], sender=""))
    assert mailbox.messages()[0].sender == ""


@pytest.mark.parametrize("address", ["compta@ailleurs.example", "compta@client.example.net", "x@sub.client.example"])
def test_nothing_is_relayed(tmp_path: Path, address: str) -> None:
    """An open relay is the first thing that is found on a network."""

    def client(port: int) -> int:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            _send(port, [address])
        return refused.value.recipients[address][0]

    code, mailbox = _run(tmp_path, client)
    assert code == 550
    assert mailbox.messages() == []


def test_recipients_over_the_limit_are_put_off(tmp_path: Path) -> None:
    """The rest of the recipients still get theirs (RFC 5321 4.5.3.1.10: 452)."""
    addresses = [f"a{number}@client.example" for number in range(module.MAX_RECIPIENTS + 2)]
    refused, mailbox = _run(tmp_path, lambda port: _send(port, addresses))
    assert {code for code, _ in refused.values()} == {452}
    assert list(refused) == addresses[module.MAX_RECIPIENTS :]
    assert mailbox.messages()[0].recipients == tuple(addresses[: module.MAX_RECIPIENTS])


def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    """By its announced size already, before the bytes are sent (RFC 1870)."""

    def client(port: int) -> int:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="gateway.example", timeout=10) as smtp:
            smtp.ehlo()
            return smtp.docmd(f"MAIL FROM:<{SENDER}> SIZE={module.MAX_BYTES + 1}")[0]

    code, _ = _run(tmp_path, client)
    assert code == 552


def test_a_message_that_cannot_be_written_is_not_acknowledged(tmp_path: Path) -> None:
    """The sender must keep what we did not: 451, and it tries again."""

    def client(port: int) -> int:
        (tmp_path / "new").rmdir()
        (tmp_path / "new").write_text("no folder")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            _send(port, [RECIPIENT])
        return refused.value.smtp_code

    code, _ = _run(tmp_path, client)
    assert code == 451


def test_starttls_with_the_authoritys_certificate(tmp_path: Path, authority: Authority) -> None:
    """A sender that demands a verified certificate gets one for localhost."""
    trusted = ssl.create_default_context(cafile=str(authority.root))

    def client(port: int) -> None:
        with smtplib.SMTP("localhost", port, local_hostname="gateway.example", timeout=10) as smtp:
            smtp.starttls(context=trusted)
            smtp.sendmail(SENDER, [RECIPIENT], MESSAGE)

    _, mailbox = _run(tmp_path, client, authority.server_context())
    assert mailbox.messages()[0].tls


def test_without_a_certificate_no_starttls_is_offered(tmp_path: Path) -> None:
    """A sender that requires TLS must see at once that there is none."""

    def client(port: int) -> bool:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="gateway.example", timeout=10) as smtp:
            smtp.ehlo()
            return smtp.has_extn("starttls")

    offered, _ = _run(tmp_path, client)
    assert not offered


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_it_listens_on_loopback_only(tmp_path: Path, host: str) -> None:
    """A demo opens no door to the network."""

    async def scene() -> None:
        mailbox = Mailbox(tmp_path, "client.example")
        try:
            await mailbox.start(host)
        finally:
            await mailbox.stop()

    with pytest.raises(ConfigError):
        asyncio.run(scene())


def test_stopping_closes_connections_that_are_open(tmp_path: Path) -> None:
    """A client that says nothing does not hold up the end of the demo."""

    async def scene() -> bytes:
        async with _serving(tmp_path) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting = await reader.readline()
        rest = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return greeting + rest

    assert asyncio.run(scene()).startswith(b"220 mx.client.example")


def test_connections_over_the_limit_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that floods us takes no more than its share; when it has gone, there is room again."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)

    def client(port: int) -> None:
        held = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(2)]
        assert all(connection.recv(3) == b"220" for connection in held)
        with socket.create_connection(("127.0.0.1", port), 5) as third:
            assert third.recv(3) == b""
        for connection in held:
            connection.close()
        for _ in range(100):  # until the server has seen that they are gone
            with contextlib.suppress(smtplib.SMTPServerDisconnected, ConnectionError):
                _send(port, [RECIPIENT])
                return
            time.sleep(0.05)

    _, mailbox = _run(tmp_path, client)
    assert len(mailbox.messages()) == 1
