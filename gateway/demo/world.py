"""The demo's world: its directory, settings, authority, mailbox server's place, and the parties it declares by API.

Everything lies in one directory and can be used again: the second start finds keys, ports and clients as they were.
`demo.json` tells scripts where everything is.
"""

import contextlib
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import httpx

from .. import daemon
from ..domain.parties import ContractType
from ..errors import ConfigError, GatewayError
from ..invoices import CONTRACTS, DISTRIBUTOR, Company
from ..keys import passwords
from ..store import state
from .authority import Authority
from .visit import Account

MAIL_DOMAIN = "clients.example"
FROM = "factures@distribution.example"
_SUBSCRIBED = ("CARD-S-000101", "CARD-I-000201")
_USERS = {"000000026": "fonderie", "000000034": "solaire"}


@dataclass(frozen=True)
class Relay:
    """Where mail goes: the demo's own mailbox server, or another that `--relay` names."""

    host: str
    port: int
    is_own: bool

    @classmethod
    def parse(cls, text: str) -> "Relay":
        """HOST:PORT; ConfigError."""
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"--relay {text}: not HOST:PORT", where="--relay")
        return cls(host.strip("[]"), int(port), is_own=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class World:
    """The demo's directory and what is in it."""

    directory: Path
    relay: Relay
    authority: Authority

    @property
    def config(self) -> Path:
        """The settings file; `gateway --config` takes it."""
        return self.directory / "gateway.toml"

    @property
    def mailbox(self) -> Path:
        """Where the mailbox server keeps what it receives: new/*.eml."""
        return self.directory / "mailbox"

    @property
    def spool(self) -> Path:
        """The spool; producers rename into new/."""
        return self.directory / "spool"

    @property
    def invoice(self) -> Path:
        """An invoice that nobody has handed in yet, to try a door with."""
        return self.directory / "invoice.pdf"

    def private_key(self, user: str) -> Path:
        """A client's SSH key."""
        return self.directory / "clients" / user / "id_ed25519"

    def password(self, user: str) -> Path:
        """The file with a client's password for FTPS."""
        return self.directory / "clients" / user / "password"


def make(directory: Path, relay: str | None) -> World:
    """Make the world, or find the one that is there; its settings are written anew when the relay changed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.require_owner(directory)
    if not (directory / "ports.json").exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and no demo's: name another directory", where="--dir")
    (directory / "demo.json").unlink(missing_ok=True)  # of a start before: whoever waits for it waits for this one
    ports = _ports(directory)
    place = directory / "authority"
    authority = Authority(place) if Authority(place).root.exists() else Authority.create(place, FROM)
    own = Relay("127.0.0.1", ports["mailbox"], is_own=True)
    world = World(directory, Relay.parse(relay) if relay else own, authority)
    secret = directory / "verp.secret"
    if not secret.exists():
        _write_private(secret, secrets.token_bytes(32))
    _write_settings(world, secret, ports)
    for user in _USERS.values():
        _make_key(world.private_key(user))
        if not world.password(user).exists():
            _write_private(world.password(user), passwords.make().encode())
    return world


def _ports(directory: Path) -> dict[str, int]:
    """Free ports, chosen once: a restart listens where it did before."""
    path = directory / "ports.json"
    ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    with contextlib.ExitStack() as stack:
        missing = [name for name in ("http", "sftp", "ftps", "ftps_implicit", "mailbox") if name not in ports]
        servers = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in missing}
        ports |= {name: server.getsockname()[1] for name, server in servers.items()}
    path.write_text(json.dumps(ports))
    return ports


def _write_settings(world: World, secret: Path, ports: dict[str, int]) -> None:
    authority = world.authority
    seal, mail = authority.seal, authority.mail
    tls = "required" if world.relay.is_own or not _is_loopback(world.relay.host) else "off"
    sections: dict[str, dict[str, Any]] = {
        "issuer": {"name": DISTRIBUTOR.name, "sellers": [DISTRIBUTOR.siren]},
        "store": {"directory": str(world.directory / "state"), "reserve_megabytes": 0},
        "http": {"listen": f"127.0.0.1:{ports['http']}"},
        "sftp": {"listen": f"127.0.0.1:{ports['sftp']}"},
        "ftps": {
            "enabled": True,
            "listen": f"127.0.0.1:{ports['ftps']}",
            "listen_implicit": f"127.0.0.1:{ports['ftps_implicit']}",
            "certificate": str(authority.tls_certificate),
            "key": str(authority.tls_key),
        },
        "spool": {"directory": str(world.spool), "scan_seconds": 1},
        "seal": {
            "certificate": str(seal.pkcs12),
            "password_file": str(seal.password_file),
            "trust": [str(authority.root)],
        },
        "mail": {
            "from_address": FROM,
            "from_name": DISTRIBUTOR.name,
            "return_path_domain": FROM.partition("@")[2],
            "verp_secret_file": str(secret),
            "certificate": str(mail.pkcs12),
            "password_file": str(mail.password_file),
            "trust": [str(authority.root)],
            "relay_host": world.relay.host,
            "relay_port": world.relay.port,
            "relay_tls": tls,
        }
        | ({"relay_ca": str(authority.root)} if world.relay.is_own else {}),
        "log": {"level": "warning"},
    }
    lines = ["# Made by `gateway demo`: loopback only, keys of a development authority."]
    for name, values in sections.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()),
        ]
    world.config.write_text("\n".join(lines) + "\n", "utf-8")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _make_key(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519", comment=f"demo {path.parent.name}")
    _write_private(path, key.export_private_key())
    path.with_suffix(".pub").write_bytes(key.export_public_key())


def _write_private(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


@dataclass(frozen=True)
class Client:
    """A client of the demo; `subscribed` says which of its contracts get originals."""

    id: str
    company: Company
    user: str
    account: Account
    contracts: tuple[str, ...]


async def token(world: World) -> str:
    """An administrator's API token, made over the Unix socket like the command line's, and kept for the next start."""
    path = world.directory / "api.token"
    if path.exists():
        return path.read_text().strip()
    transport = httpx.AsyncHTTPTransport(uds=str(world.directory / "state" / "admin.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/v1", trust_env=False) as api:
        made = await call(api, "POST", "/tokens", json={"name": "demo", "scope": "operator:admin"})
    _write_private(path, made["token"].encode())
    return str(made["token"])


async def call(api: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
    """A call of the API; GatewayError with the problem's words when it says no."""
    answer = await api.request(method, path, **request)
    if answer.status_code >= 400:
        raise GatewayError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return answer.json()


async def declare(api: httpx.AsyncClient, world: World, sftp: tuple[str, int], host_key: str) -> list[Client]:
    """Two clients with three contracts, two of them subscribed; the same again changes nothing."""
    clients = []
    for company in dict.fromkeys(company for company, _ in CONTRACTS):
        user = _USERS[company.siren]
        made = await call(api, "POST", "/clients", json={"name": company.name, "user_name": user})
        await call(api, "POST", "/companies", json={"siren": company.siren, "name": company.name, "client": made["id"]})
        public_key = world.private_key(user).with_suffix(".pub").read_text()
        await call(api, "POST", f"/clients/{made['id']}/keys", json={"public_key": public_key, "label": "demo"})
        account = Account(*sftp, user, world.private_key(user), host_key)
        contracts = tuple(contract.number for of, contract in CONTRACTS if of == company)
        clients.append(Client(made["id"], company, user, account, contracts))
        await _settle(api, clients[-1])
        await _let_password_in(api, made["id"], world.password(user).read_text())
    return clients


async def _let_password_in(api: httpx.AsyncClient, client_id: str, password: str) -> None:
    path = f"/clients/{client_id}/passwords"
    if not (await call(api, "GET", path))["items"]:
        await call(api, "POST", path, json={"label": "demo", "password": password})


async def _settle(api: httpx.AsyncClient, client: Client) -> None:
    for company, contract in CONTRACTS:
        if company == client.company:
            kind = "CARD_S" if contract.type is ContractType.CARD_S else "CARD_I"
            body = {"number": contract.number, "type": kind, "siren": company.siren}
            await call(api, "POST", "/contracts", json=body)
    wanted = [number for number in client.contracts if number in _SUBSCRIBED]
    await call(api, "POST", "/subscriptions", json={"contracts": wanted})
    path = f"/clients/{client.id}/delivery-settings"
    present = await api.get(path)
    settings = {
        "email": {"enabled": True, "addresses": [f"{client.user}@{MAIL_DOMAIN}"]},
        "folder": {"enabled": True, "formats": ["pdf", "xml"], "receipt": "delete"},
    }
    headers = {"If-Match": present.headers["ETag"]} if "ETag" in present.headers else {}
    await call(api, "PUT", path, json=settings, headers=headers)


def write_demo_json(world: World, url: str, secret: str, addresses: daemon.Addresses, clients: list[Client]) -> Path:
    """`demo.json`, for anyone's scripts: written whole or not at all."""
    sftp = clients[0].account
    (host, port), (_, implicit_port) = addresses.ftps
    content = {
        "pid": os.getpid(),
        "config": str(world.config),
        "ca": str(world.authority.root),
        "mailbox": str(world.mailbox),
        "spool": str(world.spool),
        "relay": str(world.relay),
        "api": {"url": url, "token": secret},
        "sftp": {"host": sftp.host, "port": sftp.port, "host_key": addresses.sftp_host_key},
        "ftps": {"host": host, "port": port, "implicit_port": implicit_port},
        "clients": [
            {
                "name": client.company.name,
                "siren": client.company.siren,
                "user": client.user,
                "private_key": str(client.account.private_key),
                "password": world.password(client.user).read_text(),
                "contracts": list(client.contracts),
            }
            for client in clients
        ],
    }
    path = world.directory / "demo.json"
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it holds a token
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
    os.replace(temporary, path)
    return path
