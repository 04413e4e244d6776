"""`python -m tests.peers.clients`: print docs/clients.md anew; `make docs/clients.md` keeps it."""

import platform
import tempfile
from pathlib import Path

from gateway import clock, log
from gateway.config import LogSettings
from tests.peers import find
from tests.peers.clients import CLIENTS
from tests.peers.clients.inbox import stocked
from tests.peers.clients.page import BEFORE_YOU_COPY, HEAD, night, row, section, table
from tests.peers.clients.station import opened

if missing := sorted({name for kind in CLIENTS for name in kind.needs if find(name) is None}):
    raise SystemExit(f"not here: {', '.join(missing)}; `make test-peers` installs them")
log.configure(LogSettings(level="error"))
rows, sections = [], []
with tempfile.TemporaryDirectory() as scratch:
    stock = stocked(Path(scratch) / "stock")
    for kind in CLIENTS:
        directory = Path(scratch) / kind.__name__
        directory.mkdir()
        with opened(stock, directory) as station:
            driver = kind(station)
            steps = night(driver)
            rows.append(row(driver, steps))
            sections.append(section(driver, steps))
system = platform.freedesktop_os_release()["PRETTY_NAME"]
print(f"{HEAD}Last run: {clock.now():%Y-%m-%d}, {system}.\n\n{table(rows)}{BEFORE_YOU_COPY}{''.join(sections)}", end="")
