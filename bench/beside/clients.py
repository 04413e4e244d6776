"""OpenSSH's sftp client, kept open and told what to do, so that a log-in is not counted with what comes after it."""

import itertools
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .servers import Server, find

OPTIONS = (
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "IdentitiesOnly=yes",
)  # fmt: skip
_ECHO = b"sftp> "  # in batch mode each command is shown as it begins


class Sftp:
    """A session that has logged in."""

    def __init__(self, server: Server, folder: str, key: Path) -> None:
        options = [word for option in OPTIONS for word in ("-o", option)]
        self._process = subprocess.Popen(
            [
                find("sftp", "openssh-client"), "-F", "/dev/null", "-P", str(server.port), "-b", "-", "-i", str(key),
                *options, f"{server.login(folder)}@127.0.0.1",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self.do([])

    def do(self, commands: Sequence[str]) -> list[float]:
        """Run these; how many seconds each one took."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"{command}\n" for command in [*commands, "pwd"]).encode())
        process.stdin.flush()
        times = []
        while not (line := process.stdout.readline()).startswith(b"Remote working directory"):
            if not line:
                raise SystemExit(f"sftp ended early, with {process.wait()}")
            if line.startswith(_ECHO):
                times.append(time.perf_counter())
        if len(times) != len(commands) + 1:
            raise SystemExit(f"sftp did {len(times) - 1} of {len(commands)} things")
        return [end - start for start, end in itertools.pairwise(times)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
