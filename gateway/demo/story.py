"""`gateway demo`: the real daemon on loopback, one day's invoices in by every door, and what arrived, verified.

The daemon, a mailbox server and the story run in one process. The clients' side uses nothing of the gateway: the
`sftp` program pulls, `openssl` and pyHanko check. The exit status is 0 only if everything verified.
"""

import asyncio
import os
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvloop
from rich.console import Console

from .. import clock, daemon
from ..config import load
from ..errors import GatewayError
from ..invoices import Preceding, make, series
from ..invoices.facts import InvoiceFacts
from ..pools import ThreadPool
from . import unprivileged, world
from .arrivals import PATIENCE_SECONDS, Check, Handed, every, table
from .mailbox import Mailbox
from .unprivileged import NOBODY
from .world import Client, World, call

INTERRUPTED = 130  # as a shell says of Ctrl-C


def run(directory: Path | None, once: bool, relay: str | None) -> int:
    """Tell the story; then serve until Ctrl-C, unless `once`.

    0: everything verified, 1: something did not, 130: it was interrupted before.
    """
    places = [] if directory is None else [directory.absolute()]
    for place in places:
        unprivileged.prepare(place)
    left_root = unprivileged.reexec_if_root([sys.executable, *sys.orig_argv[1:]], *places)
    os.umask(0o077)
    where = places[0] if places else Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    return uvloop.run(_Demo(world.make(where, relay), once, left_root).run())


class _Demo:
    """One run of the demo."""

    def __init__(self, of: World, once: bool, left_root: bool) -> None:
        self._world = of
        self._once = once
        self._left_root = left_root
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
        except BaseException as error:
            was_stopped = self._stop.is_set()
            self._stop.set()
            await asyncio.wait({serving})
            if was_stopped and isinstance(error, Exception):  # of a daemon that ends, nothing more can be had
                self._out.print("interrupted")
                return INTERRUPTED
            raise
        return 0 if verified else 1

    async def _tell(self, addresses: daemon.Addresses, mailbox: Mailbox | None) -> bool:
        url = f"http://{addresses.http[0]}:{addresses.http[1]}"
        secret = await world.token(self._world)
        assert addresses.sftp is not None
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
        ) as api:
            clients = await world.declare(api, self._world, addresses.sftp, addresses.sftp_host_key)
            path = world.write_demo_json(self._world, url, secret, addresses, clients)
            self._out.print(f"serving: {path}")
            handed = await self._hand_in(api)
            arrivals = await Check(self._world, api, clients, mailbox, self._pool).all(handed)
        self._out.print(table(arrivals))
        verified = all(arrival.ok for arrival in arrivals)
        self._out.print("everything verified" if verified else "[red]something did not verify[/red]")
        if not self._once:
            lines = _to_try(self._world, url, addresses, clients, handed[0].facts.number, self._left_root)
            self._out.print(lines, soft_wrap=True)
        return verified

    async def _hand_in(self, api: httpx.AsyncClient) -> list[Handed]:
        """Five invoices and a credit note, by API, `gateway submit` and the spool in turn; one more is left to try."""
        today = clock.day_of(clock.now(), load(self._world.config).issuer.zone)
        tails = [document["number"].removeprefix(f"{today:%Y-%m}-") for document in await every(api, "/documents")]
        taken = max((int(tail) for tail in tails if tail.isdecimal()), default=0)
        made = await self._pool.run(lambda: list(series(5, today, first=taken + 1)))
        [(_, spare)] = await self._pool.run(lambda: list(series(1, today, first=taken + 7)))
        self._world.invoice.write_bytes(spare)
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


def _to_try(
    of: World, url: str, addresses: daemon.Addresses, clients: list[Client], number: str, left_root: bool
) -> str:
    account = clients[0].account
    ftps = f"ftp://localhost:{addresses.ftps[0][1]}/inbox/"
    roots, password = shlex.quote(str(of.authority.root)), shlex.quote(str(of.password(account.user)))
    known = of.directory / "known_hosts"
    known.write_text(account.known_hosts)
    # Root is refused where nobody's daemon runs; whoever called sudo owns the directory.
    as_user = [sys.executable, "-m", "gateway.demo.unprivileged"] if left_root and os.geteuid() == NOBODY.uid else []
    command = shlex.join([*as_user, sys.executable, "-m", "gateway", "--config", str(of.config)])
    places = (account.private_key, known, of.spool / "tmp", of.spool / "new", of.invoice, of.directory / "api.token")
    key, hosts, unfinished, new, invoice, token = (shlex.quote(str(place)) for place in places)
    return "\n".join(
        (
            "",
            "Still serving; Ctrl-C ends it. To try by hand, in another terminal:",
            f"  sftp -P {account.port} -i {key} -o UserKnownHostsFile={hosts} {account.user}@{account.host}",
            f'  curl --ssl-reqd --cacert {roots} -u "{account.user}:$(cat {password})" {ftps}',
            f"  ls {shlex.quote(str(of.mailbox / 'new'))}",
            f"  cp {invoice} {unfinished}/ && mv {unfinished}/{of.invoice.name} {new}/",
            f'  gw() {{ {command} "$@"; }}',
            "  gw status",
            "  gw queue list",
            f"  gw submit {invoice}",
            f"  gw explain {number}",
            f'  curl -H "Authorization: Bearer $(cat {token})" {url}/api/v1/documents',
        )
    )
