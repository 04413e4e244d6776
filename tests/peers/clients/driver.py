"""What every client can be asked for, by whichever program."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.peers.clients.station import Station


class Driver(ABC):
    """One client at its station. Names are those of documents in the inbox; what is pulled comes to `here/`."""

    name: ClassVar[str]
    protocol: ClassVar[str]  # SFTP or FTPS
    needs: ClassVar[tuple[str, ...]]  # of tests/peers.toml
    resumes: ClassVar[bool] = True  # goes on where it was cut; else it begins again
    logs_in_by: ClassVar[str] = "key"
    found: ClassVar[str]  # what an integrator should know, for docs/clients.md

    def __init__(self, station: Station) -> None:
        self.station = station

    @abstractmethod
    def version(self) -> str:
        """What the program calls itself."""

    @abstractmethod
    def listed(self) -> list[str]:
        """The names in the inbox."""

    @abstractmethod
    def pull(self, names: Sequence[str]) -> None:
        """Download these."""

    @abstractmethod
    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """Start the download of one, which will be killed."""

    @abstractmethod
    def resume(self, name: str) -> None:
        """Complete what was cut."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give another name in the inbox."""

    @abstractmethod
    def remove(self, names: Sequence[str]) -> None:
        """Delete from the inbox."""
