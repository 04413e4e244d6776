"""Java's JSch 0.1.5x, which knows SHA-1 signatures only: on the legacy listener, with a permit."""

import datetime as dt
from typing import ClassVar

import asyncssh

from gateway import clock
from gateway.domain.folders import Folder, LegacyPermit, SshKey
from tests.peers import program
from tests.peers.clients.libraries import Library
from tests.peers.clients.station import Station


class Jsch(Library):
    """A key as it reads one: RSA, in PKCS#1."""

    name, protocol, source = "Java JSch", "SFTP", "JschClient.java"
    needs: ClassVar[tuple[str, ...]] = ("javac", "java", "jsch")
    found = (
        "It signs with SHA-1 and asks for an `ssh-rsa` host key: the legacy port alone, from the client's listed "
        "networks, while it has a permit (`gateway permit add`). The main port refuses it, and keeps what is missing "
        "(`gateway connections --failed`). It reads RSA keys in the old PEM format only (`ssh-keygen -p -m PEM`). Its "
        "successor under the same package names, `com.github.mwiede:jsch`, knows what the main port asks for."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.port = station.legacy_port
        inbox, now = station.inbox, clock.now()
        inbox.set(Folder, inbox.folder.id, networks=["127.0.0.0/8"])
        inbox.add(
            LegacyPermit(
                client_id=inbox.client.id, reason="old ERP", created_by="test", created_at=now,
                ends_at=now + dt.timedelta(days=1),
            )
        )  # fmt: skip
        key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
        inbox.set(SshKey, inbox.key.id, fingerprint=key.get_fingerprint())
        key.write_private_key(station.directory / "id_rsa", "pkcs1-pem")
        station.run(program("javac"), "-cp", program("jsch"), self.source)

    def _interpreter(self) -> list[str]:
        return [program("java"), "-cp", f"{program('jsch')}:.", "JschClient"]

    def version(self) -> str:
        """As it tells a server."""
        return self.station.inbox.sessions()[0].banner.rpartition("-")[2]
