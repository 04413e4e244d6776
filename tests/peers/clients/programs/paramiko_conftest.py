"""For paramiko's own tests: their `sftp` is a session at the gateway, and their folder one in the sandbox."""

import itertools
import os
from collections.abc import Iterator

import paramiko
import pytest

_NUMBERS = itertools.count(1)


@pytest.fixture
def sftp() -> Iterator[paramiko.SFTPClient]:
    client = paramiko.SSHClient()
    client.load_host_keys(os.environ["KNOWN_HOSTS"])
    port, key = int(os.environ["PORT"]), os.environ["KEY"]
    client.connect("127.0.0.1", port, "acme", key_filename=key, allow_agent=False, look_for_keys=False)
    session = client.open_sftp()
    session.FOLDER = f"sandbox/{next(_NUMBERS)}"
    session.mkdir(session.FOLDER)
    yield session
    client.close()
