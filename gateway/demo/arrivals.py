"""What of the demo's invoices arrived where, checked as the clients would: one line of its table for each place.

Nothing of the gateway is used but its API: `sftp` pulls, `openssl` and pyHanko verify, pypdf reads.
"""

import asyncio
import datetime as dt
import hashlib
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pypdf
from rich.table import Table

from .. import clock
from ..errors import Unavailable
from ..invoices.facts import InvoiceFacts
from ..pools import ThreadPool
from . import readers, visit
from .mailbox import Mailbox
from .world import Client, World, call

T = TypeVar("T")
PATIENCE_SECONDS = 60.0  # for one document to arrive everywhere


@dataclass(frozen=True)
class Handed:
    """A document that was handed in, and by which door."""

    facts: InvoiceFacts
    door: str


@dataclass(frozen=True)
class Arrival:
    """One line of the table: a document at one place, and whether what lies there is right."""

    number: str
    contract: str
    nature: str
    where: str
    state: str
    checks: str
    steps: str
    ok: bool


class Check:
    """The clients' side: fetch what arrived and check it."""

    def __init__(
        self, of: World, api: httpx.AsyncClient, clients: list[Client], mailbox: Mailbox | None, pool: ThreadPool
    ) -> None:
        self._world = of
        self._api = api
        self._clients = clients
        self._mailbox = mailbox
        self._pool = pool
        self._roots = of.authority.root

    async def all(self, handed: list[Handed]) -> list[Arrival]:
        """A line for each place; waits for what is on its way. Unavailable when it does not come."""
        arrivals = []
        for one in handed:
            document = await _until(partial(self._settled, one))
            if document["nature"] == "duplicate":
                arrivals.append(await self._duplicate(one, document))
                continue
            deliveries = await every(self._api, "/deliveries", document=document["id"])
            for delivery in deliveries:
                check = self._folder if delivery["channel"] == "folder" else self._mail
                arrivals.append(await check(one, document, delivery))
        return arrivals

    async def _settled(self, one: Handed) -> dict[str, Any] | None:
        """The document, once every delivery of it has arrived where it goes."""
        found = await every(self._api, "/documents", number=one.facts.number)
        if not found or (found[0]["nature"] != "duplicate" and found[0]["state"] != "sealed"):
            return None
        deliveries = await every(self._api, "/deliveries", document=found[0]["id"])
        waiting = [d for d in deliveries if d["state"] not in ("published", "received", "accepted")]
        document: dict[str, Any] = found[0]
        return None if waiting else document

    async def _folder(self, one: Handed, document: dict[str, Any], delivery: dict[str, Any]) -> Arrival:
        client = self._client_of(document)
        target = self._world.directory / "pulled" / client.user
        name = await _until(partial(self._pulled, client, target, document["sealed_sha256"]))
        content = (target / name).read_bytes()
        seal = await self._pool.run(readers.check_seal, content, self._roots)
        same = await self._is_served(document, content)
        xml_ok = _embedded_xml(content) in {path.read_bytes() for path in target.glob("*_DATA.xml")}
        pulled_at = dt.datetime.fromtimestamp((target / name).stat().st_mtime, dt.UTC).isoformat()
        return Arrival(
            one.facts.number,
            document["contract"],
            document["nature"],
            f"inbox/{name}",
            delivery["state"],
            f"bytes {'identical, XML too' if same and xml_ok else 'DIFFERENT'}\n"
            f"seal {'valid' if seal.ok else 'INVALID'}",
            _steps(one, document, ("published", delivery["updated_at"]), ("pulled", pulled_at)),
            same and seal.ok and xml_ok,
        )

    async def _pulled(self, client: Client, target: Path, sha256: str) -> str | None:
        """The name of the file with these bytes, pulled now if it was not before; None: not listed yet."""
        known = _by_digest(target)
        if sha256 not in known:
            await self._pool.run(visit.pull_with_sftp, client.account, target)
            known = _by_digest(target)
        return known.get(sha256)

    async def _mail(self, one: Handed, document: dict[str, Any], delivery: dict[str, Any]) -> Arrival:
        base = (one.facts.number, document["contract"], document["nature"])
        if self._mailbox is None:
            steps = _steps(one, document, ("accepted", delivery["updated_at"]))
            return Arrival(*base, f"relay {self._world.relay}", delivery["state"], "", steps, True)
        found = [m for m in self._mailbox.messages() if delivery["message_id"].encode() in m.path.read_bytes()[:4096]]
        if len(found) != 1:
            return Arrival(*base, delivery["destination"], f"{len(found)} mails", "", "", False)
        mail = await self._pool.run(readers.read_mail, found[0].path, self._roots)
        seal = await self._pool.run(readers.check_seal, mail.pdf, self._roots)
        same = await self._is_served(document, mail.pdf)
        checks = (
            f"bytes {'identical' if same else 'DIFFERENT'}",
            f"seal {'valid' if seal.ok else 'INVALID'}",
            f"S/MIME {'valid' if mail.signature.ok else f'INVALID: {mail.signature.reason}'}",
        )
        return Arrival(
            *base,
            delivery["destination"],
            delivery["state"],
            "\n".join(checks),
            _steps(one, document, ("in the mailbox", found[0].received_at.isoformat())),
            same and seal.ok and mail.signature.ok,
        )

    async def _duplicate(self, one: Handed, document: dict[str, Any]) -> Arrival:
        """Not subscribed: nothing is delivered; what the portal will serve is marked on every page, without XML."""
        content = (await self._api.get(f"/documents/{document['id']}/content")).content
        pdf = pypdf.PdfReader(io.BytesIO(content))
        marked = all("DUPLICATA" in page.extract_text() for page in pdf.pages)
        named = document["received_sha256"] in pdf.pages[0].extract_text().replace("\n", "")
        bare = not pdf.attachments and b"/ByteRange" not in content
        deliveries = await every(self._api, "/deliveries", document=document["id"])
        ok = marked and named and bare and not deliveries
        return Arrival(
            one.facts.number,
            document["contract"],
            document["nature"],
            "API only",
            document["state"],
            f"{'marked on every page' if marked and named else 'NOT MARKED'}\n"
            f"{'no seal, no XML: as it must be' if bare else 'SEAL OR XML INSIDE'}",
            _steps(one, document),
            ok,
        )

    async def _is_served(self, document: dict[str, Any], content: bytes) -> bool:
        """The same bytes that the archive serves and the ledger names."""
        served = (await self._api.get(f"/documents/{document['id']}/content")).content
        return served == content and hashlib.sha256(content).hexdigest() == document["sealed_sha256"]

    def _client_of(self, document: dict[str, Any]) -> Client:
        return next(client for client in self._clients if client.id == document["client"])


def _by_digest(folder: Path) -> dict[str, str]:
    files = folder.iterdir() if folder.exists() else ()
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in files if path.is_file()}


def _embedded_xml(pdf: bytes) -> bytes:
    [content] = pypdf.PdfReader(io.BytesIO(pdf)).attachments["factur-x.xml"]
    return content


async def every(api: httpx.AsyncClient, path: str, **query: str) -> list[dict[str, Any]]:
    """A list of the API, over its pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await call(api, "GET", path, params=query | {"limit": 200} | ({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


async def _until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds; Unavailable when it finds nothing for too long."""
    deadline = clock.monotonic() + PATIENCE_SECONDS
    while (found := await look()) is None:
        if clock.monotonic() > deadline:
            raise Unavailable(
                f"not all of it arrived within {PATIENCE_SECONDS:g} s. Is the mail relay there? `make demo DIR=…` "
                "keeps the directory, and `gateway explain` tells of each document why"
            )
        await asyncio.sleep(0.2)
    return found


def _steps(one: Handed, document: dict[str, Any], *later: tuple[str, str]) -> str:
    """The door, and what came after it, in seconds since the document was received."""
    received = dt.datetime.fromisoformat(document["received_at"])
    steps = [(step, dt.datetime.fromisoformat(at)) for step, at in later]
    if document["seal"]:
        steps.insert(0, ("sealed", dt.datetime.fromisoformat(document["seal"]["sealed_at"])))
    after = [f"{step} +{max(0.0, (at - received).total_seconds()):.1f} s" for step, at in steps]
    return ", ".join([f"by {one.door} {received.astimezone():%H:%M:%S}", *after])


def table(arrivals: list[Arrival]) -> Table:
    """For the terminal; what is not as it must be is red."""
    shown = Table(title="What arrived where", title_justify="left")
    for heading in ("number, contract", "nature, state", "where", "checks", "steps"):
        shown.add_column(heading, overflow="fold")
    for arrival in arrivals:
        shown.add_row(
            f"{arrival.number}\n{arrival.contract}",
            f"{arrival.nature}\n{arrival.state}",
            arrival.where,
            arrival.checks,
            arrival.steps.replace(", ", "\n"),
            style="" if arrival.ok else "red",
        )
        shown.add_section()
    return shown
