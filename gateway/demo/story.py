"""`gateway demo`: the real daemon on loopback, one day's invoices in by every door, and what arrived, verified.

The daemon, a mailbox server and the story run in one process. The clients' side uses nothing of the gateway: the
`sftp` program pulls, `openssl` and pyHanko check. The exit status is 0 only if everything verified.
"""

import asyncio
import datetime as dt
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pypdf
import uvloop
from rich.console import Console
from rich.table import Table

from .. import clock, daemon
from ..config import load
from ..errors import GatewayError, Unavailable
from ..pools import ThreadPool
from . import readers, unprivileged, visit, world
from .invoices import Preceding, make, series
from .invoices.facts import InvoiceFacts
from .mailbox import Mailbox
from .world import Client, World, call

T = TypeVar("T")
_PATIENCE = 60.0  # seconds for one document to arrive everywhere


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
    bytes_ok: str
    seal: str
    signature: str
    steps: str
    ok: bool


def run(directory: Path | None, once: bool, relay: str | None) -> int:
    """Tell the story; then serve until Ctrl-C, unless `once`. 0: everything verified, 1: something did not."""
    places = [] if directory is None else [directory.absolute()]
    for place in places:
        unprivileged.prepare(place)
    unprivileged.reexec_if_root([sys.executable, *sys.orig_argv[1:]], *places)
    os.umask(0o077)
    where = places[0] if places else Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    return uvloop.run(_Demo(world.make(where, relay), once).run())


class _Demo:
    """One run of the demo."""

    def __init__(self, of: World, once: bool) -> None:
        self._world = of
        self._once = once
        self._stop = asyncio.Event()
        self._pool = ThreadPool("demo", 2)
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else 150)

    async def run(self) -> int:
        tls = self._world.authority.server_context()
        mailbox = Mailbox(self._world.mailbox, world.MAIL_DOMAIN, tls) if self._world.relay.is_own else None
        if mailbox is not None:
            await mailbox.start(self._world.relay.host, self._world.relay.port)
        try:
            return await self._with_daemon(mailbox)
        finally:
            if mailbox is not None:
                await mailbox.stop()
            self._pool.close()

    async def _with_daemon(self, mailbox: Mailbox | None) -> int:
        ready: asyncio.Future[daemon.Addresses] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(daemon.serve(self._world.config, ready.set_result, self._stop))
        waits: set[asyncio.Future[Any]] = {serving, ready}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            return 1
        try:
            verified = await self._tell(ready.result(), mailbox)
            if self._once:
                self._stop.set()
            await serving
        except BaseException:
            self._stop.set()
            await asyncio.wait({serving})
            raise
        return 0 if verified else 1

    async def _tell(self, addresses: daemon.Addresses, mailbox: Mailbox | None) -> bool:
        url = f"http://{addresses.http[0]}:{addresses.http[1]}"
        secret = await world.token(self._world)
        assert addresses.sftp is not None
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers=headers, timeout=_PATIENCE, trust_env=False
        ) as api:
            clients = await world.declare(api, self._world, addresses.sftp, addresses.sftp_host_key)
            path = world.write_demo_json(self._world, url, secret, addresses.sftp_host_key, clients)
            self._out.print(f"serving: {path}")
            handed = await self._hand_in(api)
            arrivals = await _Check(self._world, api, clients, mailbox, self._pool).all(handed)
        self._out.print(_table(arrivals))
        verified = all(arrival.ok for arrival in arrivals)
        self._out.print("everything verified" if verified else "[red]something did not verify[/red]")
        if not self._once:
            self._out.print(_to_try(self._world, url, clients), soft_wrap=True)
        return verified

    async def _hand_in(self, api: httpx.AsyncClient) -> list[Handed]:
        """Five invoices and a credit note, by API, `gateway submit` and the spool in turn."""
        today = clock.day_of(clock.now(), load(self._world.config).issuer.zone)
        taken = len(await _every(api, "/documents"))
        made = await self._pool.run(lambda: list(series(5, today, first=taken + 1)))
        first = made[0][0]
        credit = replace(
            first,
            number=f"{today:%Y-%m}-{taken + 6:06d}",
            type_code="381",
            corrects=Preceding(first.number, first.issue_date),
        )
        made.append((credit, await self._pool.run(make, credit)))
        doors = (self._by_api, self._by_submit, self._by_spool)
        handed = []
        for index, (facts, content) in enumerate(made):
            door = doors[index % 3]
            await door(api, facts, content)
            handed.append(Handed(facts, door.__name__.removeprefix("_by_")))
        return handed

    async def _by_api(self, api: httpx.AsyncClient, facts: InvoiceFacts, content: bytes) -> None:
        await call(api, "POST", "/documents", files={"file": (f"{facts.number}.pdf", content, "application/pdf")})

    async def _by_submit(self, api: httpx.AsyncClient, facts: InvoiceFacts, content: bytes) -> None:
        path = self._world.directory / f"{facts.number}.pdf"
        path.write_bytes(content)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--config", str(self._world.config), "submit", str(path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise GatewayError(f"gateway submit: {said.decode(errors='replace')[-500:]}")
        path.unlink()

    async def _by_spool(self, api: httpx.AsyncClient, facts: InvoiceFacts, content: bytes) -> None:
        unfinished = self._world.spool / "tmp" / f"{facts.number}.pdf"
        unfinished.write_bytes(content)
        os.rename(unfinished, self._world.spool / "new" / unfinished.name)


class _Check:
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
        arrivals = []
        for one in handed:
            document = await _until(partial(self._settled, one))
            if document["nature"] == "duplicate":
                arrivals.append(await self._duplicate(one, document))
                continue
            deliveries = await _every(self._api, "/deliveries", document=document["id"])
            for delivery in deliveries:
                check = self._folder if delivery["channel"] == "folder" else self._mail
                arrivals.append(await check(one, document, delivery))
        return arrivals

    async def _settled(self, one: Handed) -> dict[str, Any] | None:
        """The document, once every delivery of it has arrived where it goes."""
        found = await _every(self._api, "/documents", number=one.facts.number)
        if not found or (found[0]["nature"] != "duplicate" and found[0]["state"] != "sealed"):
            return None
        deliveries = await _every(self._api, "/deliveries", document=found[0]["id"])
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
            "identical, XML too" if same and xml_ok else "DIFFERENT",
            "valid" if seal.ok else "INVALID",
            "",
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
            return Arrival(*base, f"relay {self._world.relay}", delivery["state"], "", "", "", steps, True)
        found = [m for m in self._mailbox.messages() if delivery["message_id"].encode() in m.path.read_bytes()[:4096]]
        if len(found) != 1:
            return Arrival(*base, delivery["destination"], f"{len(found)} mails", "", "", "", "", False)
        mail = await self._pool.run(readers.read_mail, found[0].path, self._roots)
        seal = await self._pool.run(readers.check_seal, mail.pdf, self._roots)
        same = await self._is_served(document, mail.pdf)
        return Arrival(
            *base,
            delivery["destination"],
            delivery["state"],
            "identical" if same else "DIFFERENT",
            "valid" if seal.ok else "INVALID",
            "valid" if mail.signature.ok else f"INVALID: {mail.signature.reason}",
            _steps(one, document, ("in the mailbox", found[0].received_at.isoformat())),
            same and seal.ok and mail.signature.ok,
        )

    async def _duplicate(self, one: Handed, document: dict[str, Any]) -> Arrival:
        """Not subscribed: nothing is delivered; what the portal will serve is marked on every page, without XML."""
        content = (await self._api.get(f"/documents/{document['id']}/content")).content
        pdf = pypdf.PdfReader(io.BytesIO(content))
        marked = all("DUPLICATA" in page.extract_text() for page in pdf.pages)
        named = document["received_sha256"] in pdf.pages[0].extract_text().replace("\n", "")
        bare = not pdf.attachments
        deliveries = await _every(self._api, "/deliveries", document=document["id"])
        ok = marked and named and bare and not deliveries
        return Arrival(
            one.facts.number,
            document["contract"],
            document["nature"],
            "API only",
            document["state"],
            "marked on every page" if marked and named else "NOT MARKED",
            "absent, no XML" if bare else "XML INSIDE",
            "",
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


async def _every(api: httpx.AsyncClient, path: str, **query: str) -> list[dict[str, Any]]:
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
    deadline = clock.monotonic() + _PATIENCE
    while (found := await look()) is None:
        if clock.monotonic() > deadline:
            raise Unavailable(f"nothing arrived within {_PATIENCE:g} s; `gateway explain` tells why")
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


def _table(arrivals: list[Arrival]) -> Table:
    table = Table(title="What arrived where", title_justify="left")
    for heading in ("number, contract", "nature, state", "where", "bytes, seal, S/MIME", "steps"):
        table.add_column(heading, overflow="fold")
    for arrival in arrivals:
        checks = (f"bytes {arrival.bytes_ok}", arrival.seal and f"seal {arrival.seal}")
        signature = arrival.signature and f"S/MIME {arrival.signature}"
        table.add_row(
            f"{arrival.number}\n{arrival.contract}",
            f"{arrival.nature}\n{arrival.state}",
            arrival.where,
            "\n".join(filter(None, (*checks, signature))),
            arrival.steps.replace(", ", "\n"),
            style="" if arrival.ok else "red",
        )
        table.add_section()
    return table


def _to_try(of: World, url: str, clients: list[Client]) -> str:
    account = clients[0].account
    known = of.directory / "known_hosts"
    known.write_text(account.known_hosts)
    gateway = f"{sys.executable} -m gateway --config {of.config}"
    return "\n".join(
        (
            "",
            "Still serving; Ctrl-C ends it. To try by hand:",
            f"  sftp -P {account.port} -i {account.private_key} -o UserKnownHostsFile={known} "
            f"{account.user}@{account.host}",
            f"  ls {of.mailbox}/new/",
            f"  cd {of.spool} && cp …/invoice.pdf tmp/ && mv tmp/invoice.pdf new/",
            f"  {gateway} status",
            f"  {gateway} queue list",
            f"  {gateway} explain NUMBER",
            f'  curl -H "Authorization: Bearer $(cat {of.directory}/api.token)" {url}/api/v1/documents',
        )
    )
