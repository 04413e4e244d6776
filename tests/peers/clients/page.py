"""docs/clients.md: what each client was asked, what it was run with, and what came of it, from a run.

Ports, paths and names of one run are replaced by those of an installation, so that only times and versions differ
from run to run. `python -m tests.peers.clients` does the work with every client and prints the page.
"""

import itertools
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.clients.driver import Driver
from tests.peers.clients.night import work
from tests.peers.clients.station import Ran, Station

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"
HEAD = """\
# Clients that pull from a drop folder

Made by `make docs/clients.md` from a run of the tests (`tests/peers/clients/`); do not edit it. Each of these programs
and libraries is asked for one night's work over a fresh folder: log in, list an inbox of 5,000 documents, be killed
in the middle of the download of 64 MB, complete that download, pull 200 documents, rename two, delete the others.
Every file is compared by SHA-256 with what was published, and the ledger must say *received* of what was fully read
and taken out of the inbox, and of nothing else. The numbers are seconds on two cores that others use too, with the
program's start and its log-in. *Leave*: killed in the middle, and the gateway has seen it; no receipt comes of it.

"""
COLUMNS = ("Client", "Version", "Protocol", "Log in", "List", "Leave", "Resume", "Pull", "Rename", "Delete")
BEFORE_YOU_COPY = """
## Before you copy

Below is what the tests ran. `acme` stands for the user name of the folder, `gateway.example` for the gateway's name,
2022 for its SFTP port, 2023 for its legacy port, 2121 for its FTPS port, `here/` for the directory that documents
come to.

- `id` is the private key whose public half the folder knows; `id.pub` is that half. The file belongs to the user that
  runs the client and to nobody else (mode 0600), as do the files with a password.
- `known_hosts` holds the gateway's two host keys, one a line: `[gateway.example]:2022 ssh-ed25519 AAAA…`. Take them
  from the issuer (`ssh-keyscan -p 2022` on the gateway itself), not from the first connection; `gateway host-keys list`
  has their fingerprints.
- `authority.pem` is the authority that signed the gateway's TLS certificate. If the system knows it, leave it out.
- Delete what you have read. A deletion is the receipt; a rename counts as one too, together with a full read.
"""
HEADINGS = {"list": "List", "resume": "Complete a download", "pull": "Pull", "rename": "Rename", "delete": "Delete"}
_DOCUMENT = re.compile(r"20260131_C-acme_(?:F\d{5}|G-[a-z0-9]+)_ORIG\.pdf")


@dataclass(frozen=True)
class Step:
    """One step of the night: how long it took, and what was run for it."""

    name: str
    seconds: float
    ran: tuple[Ran, ...]


def night(driver: Driver) -> list[Step]:
    """The night's work, checked step by step; the first "step" is what was set up before."""
    ran = driver.station.ran
    steps = [Step("set up", 0, (*ran, Ran((), "", driver.station.written())))]
    ran.clear()
    began = time.monotonic()
    for name in work(driver):
        steps.append(Step(name, time.monotonic() - began, tuple(ran)))
        ran.clear()
        began = time.monotonic()
    return steps


def row(driver: Driver, steps: Sequence[Step]) -> str:
    """The client's line of the table."""
    took = {step.name: f"{step.seconds:.1f}" for step in steps}
    resumed = f"{'goes on' if driver.resumes else 'begins again'}, {took['resume']}"
    cells = (
        f"[{driver.name}](#{_anchor(driver.name)})", driver.version(), driver.protocol, driver.logs_in_by, took["list"],
        took["leave"], resumed, took["pull"], took["rename"], took["delete"],
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def section(driver: Driver, steps: Sequence[Step]) -> str:
    """What was found, the files it needs, and the commands that were run."""
    known = _Known(driver.station)
    text = f"\n## {driver.name}\n\n{driver.found}\n"
    for step in steps:
        shown = "".join(known.shown(ran) for ran in _without_looks(step))
        if shown and step.name in HEADINGS:
            text += f"\n### {HEADINGS[step.name]}\n"
        if step.name != "leave":
            text += shown
    return text


def table(rows: Iterable[str]) -> str:
    """All clients' lines below their head."""
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n{''.join(rows)}"


def clients_of(page: str) -> list[tuple[str, str]]:
    """Name and protocol of each client in a page's table, in its order."""
    return re.findall(r"^\| \[([^\]]+)\]\([^)]*\) \| [^|]+ \| (\w+) \|", page, re.MULTILINE)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _without_looks(step: Step) -> tuple[Ran, ...]:
    """The second rename, and the looks at the listing after it and after the deletion, are as those before."""
    return step.ran[:1] if step.name in {"rename", "delete"} else step.ran


class _Known:
    """One station's ports, paths and documents, as the page calls them."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._names: dict[str, str] = {}
        self._shown: set[str] = set()

    def shown(self, ran: Ran) -> str:
        """The files and the command, each once a page."""
        blocks = [f"`{name}`:\n\n```\n{_brief(self._plain(text))}\n```" for name, text in ran.files.items()]
        if ran.command:
            name = "python3" if ran.command[0] == sys.executable else Path(ran.command[0]).name
            command = self._plain(" ".join([name, *(_word(part) for part in ran.command[1:])]))
            given = f"\n\nWith this on its standard input:\n\n```\n{_brief(self._plain(ran.stdin))}\n```"
            blocks.append(f"```sh\n{_brief(command)}\n```{given if ran.stdin else ''}")
        fresh = [block for block in blocks if block not in self._shown]
        self._shown.update(fresh)
        return "".join(f"\n{block}\n" for block in fresh)

    def _plain(self, text: str) -> str:
        station = self._station
        for found, written in (
            (str(station.authority), "authority.pem"), (f"{station.directory}/", ""),
            (str(station.sftp_port), "2022"), (str(station.legacy_port), "2023"), (str(station.ftps_port), "2121"),
            ("127.0.0.1", "gateway.example"), ("localhost", "gateway.example"),
        ):  # fmt: skip
            text = re.sub(rf"(?<!\w){re.escape(found)}", written, text)
        text = re.sub(r"SHA256:\S{43}", "SHA256:…", text)
        text = re.sub(r"(?m)^(pass(?:word)? ?=? ?)\S+$", r"\1…", text)
        return _DOCUMENT.sub(lambda match: self._name(match[0]), text)

    def _name(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = re.sub(r"G-[a-z0-9]+", f"F{5000 - len(self._names):05d}", name)
        return self._names[name]


def _word(word: str) -> str:
    """As a shell needs it."""
    return f"'{word}'" if re.search(r"[\s\"$(){}*;&|<>]", word) else word


def _brief(text: str) -> str:
    """Of many documents two."""
    lines: list[str] = []
    for named, group in itertools.groupby(text.rstrip("\n").split("\n"), lambda line: bool(_DOCUMENT.search(line))):
        run = [_brief_line(line) for line in group]
        lines += [*run[:2], f"… and {len(run) - 2} lines more"] if named and len(run) > 3 else run
    return "\n".join(lines)


def _brief_line(line: str) -> str:
    words = line.split(" ")
    named = [place for place, word in enumerate(words) if _DOCUMENT.search(word)]
    if len(named) <= 2:
        return line
    return " ".join([*words[: named[1] + 1], "…", *words[named[-1] + 1 :]])
