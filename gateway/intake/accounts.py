"""What the billing system uploads over SFTP and FTPS: a spool for each of its accounts, with the spool's own rules.

An account's files lie under the state directory, in `intake/<account>/`: `tmp/` holds names that say themselves
unfinished, `new/` what is whole, `refused/` and `quarantined/` what was answered so, with the reason beside it. Scratch
files of uploads under way lie in `writing/`. The spool of each takes what is in `new/` through the same path as any
other door. Failures: as of spool.py; one account's do not stop the others.
"""

from pathlib import Path

from ..config import SpoolSettings
from ..errors import Unavailable
from ..pools import ThreadPool
from ..store.blobs import Blobs
from .receive import Intake
from .spool import NEW, QUARANTINED, REFUSED, TMP, Spool

WRITING = "writing"
FOLDERS = (TMP, NEW, REFUSED, QUARANTINED, WRITING)


def prepare(root: Path) -> Path:
    """The folders of an account."""
    for name in FOLDERS:
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def clear(directory: Path) -> None:
    """What a killed process left half written goes; nothing there was ever answered."""
    for leftover in directory.glob(f"*/{WRITING}/*"):
        leftover.unlink(missing_ok=True)


class AccountSpools:
    """The spools of all accounts."""

    def __init__(
        self, directory: Path, batch: int, max_bytes: int, intake: Intake, blobs: Blobs, pool: ThreadPool
    ) -> None:
        """`directory` holds one folder for each account, named by its id."""
        self._directory = directory
        self._batch = batch
        self._max_bytes = max_bytes
        self._intake = intake
        self._blobs = blobs
        self._pool = pool
        self._spools: dict[str, Spool] = {}

    async def turn(self) -> int:
        """How many files were dealt with, of all accounts; Unavailable once all had their turn and one could not."""
        count, failures = 0, []
        for account in await self._pool.run(self._with_work):
            try:
                count += await self._spool(account).turn()
            except Unavailable as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return count

    def _with_work(self) -> list[str]:
        """Accounts of which something is whole, or was when the process ended."""
        found = self._directory.iterdir() if self._directory.is_dir() else iter(())
        return sorted(one.name for one in found if any((one / NEW).glob("*")) or any((one / "work").glob("*")))

    def _spool(self, account: str) -> Spool:
        if account not in self._spools:
            settings = SpoolSettings(directory=self._directory / account, batch=self._batch)
            self._spools[account] = Spool(
                settings, self._max_bytes, self._intake, self._blobs, self._pool, source="account", actor=account
            )
        return self._spools[account]
