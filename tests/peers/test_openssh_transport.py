"""Bytes stay whole on every algorithm that OpenSSH and the gateway share, while keys are exchanged anew.

OpenSSH asks for new keys after 1 GB at most; here it does every 200 KB, in the middle of a get and of a put.
"""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from gateway.domain.folders import Folder, ReceiptMode
from gateway.servers.ssh_algorithms import MODERN
from tests.dropfolder.world import World
from tests.peers import program, requires
from tests.peers.test_sftp_peers import SSH, Client, received, world
from tests.servers.sftp_world import listening
from tests.servers.test_uploads import content

__all__ = ["world"]
pytestmark = requires("sftp")
CONTENT = os.urandom(700_001)
OPTIONS = {"cipher": "Ciphers", "mac": "MACs", "kex": "KexAlgorithms"}
OFFERED = {"cipher": MODERN.ciphers, "mac": MODERN.macs, "kex": MODERN.key_exchange}


def shared(kind: str) -> list[str]:
    """What this machine's ssh knows of what the gateway offers."""
    ssh = str(program("sftp")).removesuffix("sftp") + "ssh"
    known = subprocess.run([ssh, "-Q", kind], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in OFFERED[kind] if name in known]


@pytest.mark.parametrize("kind", OFFERED)
def test_bytes_stay_whole_while_keys_are_exchanged_anew(kind: str, world: World, tmp_path: Path) -> None:
    """The idea of OpenSSH's rekey.sh and try-ciphers.sh: a document comes and is received, a file goes."""
    names = shared(kind)
    assert len(names) >= 3
    world.set(Folder, world.folder.id, receipt_mode=ReceiptMode.FULL_READ)

    async def main() -> None:
        async with listening(world, tmp_path / "server") as listener:
            documents = listener.publish(*(CONTENT + algorithm.encode() for algorithm in names))
            client = Client(tmp_path / "client", listener)
            for algorithm, document in zip(names, documents, strict=True):
                await moved(client, kind, algorithm, document)
                wanted = CONTENT + algorithm.encode()
                assert client.got()[document] == wanted
                assert content(world, document) == wanted

    (tmp_path / "server").mkdir()
    asyncio.run(main())
    assert received(world) == [True] * len(names)


async def moved(client: Client, kind: str, algorithm: str, document: str) -> None:
    """A document to here and back into the sandbox: by this algorithm, with at least three more key exchanges."""
    options = [f"{OPTIONS[kind]}={algorithm}", "RekeyLimit=200K", "LogLevel=DEBUG1"]
    if kind == "mac":
        options.append("Ciphers=aes128-ctr")  # the others bring their own
    status, said = await client.run(
        program("sftp"), *(part for option in options for part in ("-o", option)), *SSH, "-b", "-",
        "-P", str(client.listener.port), "acme@127.0.0.1", stdin=f"get inbox/{document}\nput {document} sandbox\n",
    )  # fmt: skip
    assert status == 0, said[-500:]
    assert f" {algorithm} " in said or f": {algorithm}" in said, "another one was agreed on"
    assert said.count("SSH2_MSG_NEWKEYS received") > 3
