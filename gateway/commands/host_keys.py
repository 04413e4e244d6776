"""`gateway host-keys` and `gateway import host-keys`: the SFTP listeners' keys, brought along and exchanged in time.

They are files of the state directory and work on them alone; a daemon reads them when it starts. A key is never shown
to clients before it was announced to them, unless an operator brings along the keys of the server before.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, Refused
from . import show
from .files import content
from .options import AsJson, settings
from .reach import Api, run

if TYPE_CHECKING:
    import asyncssh

    from ..servers.host_key_files import HostKeyFiles

app = typer.Typer(no_args_is_help=True, help="The SFTP listeners' host keys, and who knows them.")
Fingerprint = Annotated[str, typer.Argument(help="SHA256:…, or its beginning.")]
Passphrase = Annotated[
    Path | None, typer.Option("--passphrase-file", help="Holds the passphrase of the files; else it is asked for.")
]
RESTART = "it holds from the next start of the gateway"
_MAX_BYTES = 64_000


@app.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """The keys, and for how many folders a client was told of each, asked for its proof, was served by it."""
    from ..servers import host_key_files, ssh_keys

    loaded = settings(context)
    if loaded.sftp.host_keys:
        keys = ssh_keys.load(loaded.sftp.host_keys, loaded.store.directory)
        roles = [(key, "serving") for key in keys.serving] + [(key, "announced") for key in keys.announced]
    else:
        roles = [(one.key, one.role) for one in host_key_files.HostKeyFiles(loaded.store.directory).kept()]

    async def act(api: Api) -> Any:
        return {one["fingerprint"]: one for one in await api.every("/host-keys")}

    known = run(loaded, act)
    nobody = {"announced": 0, "proven": 0, "used": 0, "missing": None, "not_yet": None}
    items = [
        {"role": role, "type": key.get_algorithm(), "bits": host_key_files.bits(key)}
        | known.get(key.get_fingerprint(), nobody | {"fingerprint": key.get_fingerprint()})
        for key, role in roles
    ]
    columns = {"role": "role", "type": "type", "bits": "bits", "fingerprint": "fingerprint", "announced": "told",
               "proven": "asked for proof", "used": "served", "missing": "active, do not know it",
               "not_yet": "which"}  # fmt: skip
    show.table(items, columns, empty="no host key yet: the first start makes them", wants_json=as_json)


@app.command("announce")
def announce(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A private key; none: a new one is made.")] = None,
    kind: Annotated[str, typer.Option("--type", help="Of a new one: ssh-ed25519, ssh-rsa, …")] = "ssh-ed25519",
    passphrase_file: Passphrase = None,
) -> None:
    """Tell clients of a key that is to serve one day: those that update their known hosts learn it."""
    from ..servers import host_key_files

    files = _files(context)
    if file is None and kind not in host_key_files.TYPES:
        raise typer.BadParameter(f"one of {', '.join(host_key_files.TYPES)}", param_hint="--type")
    key = host_key_files.make(kind) if file is None else _read(file, passphrase_file)
    files.announce(key)
    print(f"{_line(key)} is announced; {RESTART}")


@app.command("serve")
def serve(context: typer.Context, fingerprint: Fingerprint) -> None:
    """Have a key serve from now on; the one of its type that did is announced."""
    _files(context).serve(fingerprint)
    print(f"{fingerprint} serves; {RESTART}")


@app.command("retire")
def retire(context: typer.Context, fingerprint: Fingerprint) -> None:
    """Neither serve nor announce a key any more: clients that update their known hosts forget it."""
    _files(context).retire(fingerprint)
    print(f"{fingerprint} is put aside; {RESTART}")


def import_host_keys(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(help="Private host keys, or a directory with ssh_host_*_key, such as /etc/ssh.")
    ],
    passphrase_file: Passphrase = None,
    as_json: AsJson = False,
) -> None:
    """Bring along the host keys of the server before, so that clients see no change; all of them or none."""
    files = _files(context)
    keys = {path: _read(path, passphrase_file) for path in _gathered(paths)}
    outcomes = files.install(list(keys.values()))
    items = [
        {"file": str(path), "outcome": outcome, "type": key.get_algorithm(), "fingerprint": key.get_fingerprint()}
        for (path, key), outcome in zip(keys.items(), outcomes, strict=True)
    ]
    columns = {"file": "file", "outcome": "outcome", "type": "type", "fingerprint": "fingerprint"}
    show.table(items, columns, empty="", wants_json=as_json)
    if not as_json:
        print("compare: ssh-keyscan -p PORT OLD-SERVER | ssh-keygen -lf -")
        print(f"these keys alone serve, keys that the gateway had made are kept aside; {RESTART}")


def _files(context: typer.Context) -> "HostKeyFiles":
    """Those of the state directory. ConfigError when the settings name others."""
    from ..servers.host_key_files import HostKeyFiles
    from ..store import state

    loaded = settings(context)
    if loaded.sftp.host_keys:
        raise ConfigError(
            "[sftp.host_keys] names the host keys: the first of each type serves, further ones are announced; change "
            "it there",
            where="[sftp.host_keys]",
        )
    return HostKeyFiles(state.prepare(loaded.store))


def _gathered(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(path.glob("ssh_host_*_key")) if path.is_dir() else [path]
        if not found:
            raise Refused(f"{path}: no ssh_host_*_key there")
        # What no client trusts any more is not needed by any; named by itself it is refused.
        yield from (one for one in found if not (path.is_dir() and one.name == "ssh_host_dsa_key"))


def _read(path: Path, passphrase_file: Path | None) -> "asyncssh.SSHKey":
    """A private key of a file that its owner alone can read; Refused, with the file's name."""
    from ..servers import host_key_files

    with _named(path):
        private = content(path, _MAX_BYTES, private=True)
        passphrase = content(passphrase_file, _MAX_BYTES).decode().rstrip("\r\n") if passphrase_file else None
        try:
            return host_key_files.read(private, passphrase)
        except host_key_files.Encrypted:
            if passphrase is not None or not sys.stdin.isatty():
                raise
        asked = typer.prompt(f"Passphrase of {path}", hide_input=True, err=True)
        return host_key_files.read(private, asked)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    from ..servers.host_key_files import Encrypted

    try:
        yield
    except Encrypted as error:
        raise Refused(f"{path}: {error.message}: give --passphrase-file, or take it off with ssh-keygen -p") from None
    except Refused as error:
        raise Refused(f"{path}: {error.message}") from None
    except PermissionError:
        raise Refused(
            f"{path}: this user may not read it: as root, copy it to this user with mode 0600 (install -m 600 -o USER)"
        ) from None
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None


def _line(key: "asyncssh.SSHKey") -> str:
    from ..servers.host_key_files import bits

    return f"{bits(key)} {key.get_fingerprint()} ({key.get_algorithm()})"
