"""The command line: `gateway COMMAND`. Each command is a few lines over the parts below; commands/ holds what they do.

Exit status: 0 done, 1 refused or failed, 2 wrong usage. An error is one line on standard error, without a traceback:
what was wrong, where, what to do.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .commands import (
    credentials,
    documents,
    host_keys,
    manifests,
    moving,
    parties,
    queue,
    sandbox,
    show,
    tokens,
)
from .commands import submit as submitting
from .commands.options import AsJson, Limit, call, config_path, refuse_root, settings
from .commands.reach import Api, named
from .errors import Conflict, GatewayError

# Commands import what they need when they run: `gateway --help` and calls of a running daemon stay quick.

app = typer.Typer(
    name="gateway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Documents in, sealed; out to each client's drop folder and mailboxes, with proof.",
)
app.add_typer(queue.app, name="queue")
app.add_typer(queue.quarantine, name="quarantine")
app.add_typer(documents.app, name="document")
app.add_typer(documents.folder, name="folder")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(tokens.app, name="token")
app.add_typer(credentials.keys, name="key")
app.add_typer(credentials.passwords, name="password")
app.add_typer(credentials.permits, name="permit")
app.add_typer(parties.clients, name="client")
app.add_typer(parties.companies, name="company")
app.add_typer(parties.contracts, name="contract")
app.add_typer(parties.subscriptions, name="subscription")
app.add_typer(parties.delivery_settings, name="settings")
app.add_typer(moving.app, name="import")
app.add_typer(host_keys.app, name="host-keys")
app.add_typer(manifests.app, name="manifest")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        # Whether it can be read is said as of any other file: 1, not 2.
        typer.Option(
            "--config", readable=False, help="Settings file. Else config/gateway.toml, then /etc/gateway/gateway.toml."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def serve(context: typer.Context) -> None:
    """Run the daemon until SIGTERM."""
    import uvloop

    from . import config, daemon

    refuse_root("gateway serve")
    uvloop.run(daemon.serve(config.find(config_path(context))))


@app.command()
def demo(
    dir: Annotated[Path | None, typer.Option("--dir", help="Where its files go; else a throw-away directory.")] = None,  # noqa: A002
    once: Annotated[bool, typer.Option("--once", help="End after the story; 0 only if all was verified.")] = False,
    relay: Annotated[str | None, typer.Option("--relay", help="HOST:PORT that mail is sent to instead.")] = None,
) -> None:
    """Show the main job on this machine: invoices in, originals out by SFTP and signed mail, all verified."""
    from .demo import story

    raise typer.Exit(story.run(dir, once, relay))


@app.command()
def init(
    context: typer.Context,
    state_directory: Annotated[
        Path | None, typer.Option("--state", help="State directory; else var/ beside the settings file.")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option("--spool", help="Where the billing system writes; else spool/ in the state directory."),
    ] = None,
    development: Annotated[
        bool, typer.Option("--development", help="With keys of a throw-away authority, each said to be insecure.")
    ] = False,
) -> None:
    """Write an annotated settings file and make the state directory."""
    from . import config
    from .commands import init as setup

    path = config_path(context) or config.DEFAULT_PATHS[0]
    for line in setup.init(path, state_directory or path.absolute().parent / "var", spool, development=development):
        print(line)


@app.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Say what is wrong with the settings, where, and what to do; 1 if anything would stop the gateway."""
    from .commands import check as checks

    found = checks.check(settings(context))
    show.findings(found, as_json)
    raise typer.Exit(int(any(finding.is_error for finding in found)))


@app.command()
def migrate(context: typer.Context) -> None:
    """Bring the database to this release's schema."""
    from .store import migrations, state

    store = settings(context).store
    state.prepare(store)
    lock = state.StateLock(store)
    try:
        lock.acquire()
    except Conflict:
        raise Conflict("a gateway is running here: stop it, migrate, start it again") from None
    try:
        url = state.database_url(store)
        before = migrations.current(url)
        (migrations.upgrade_file if url.startswith("sqlite:") else migrations.upgrade)(url)
    finally:
        lock.release()
    print(f"schema {before or 'none'} -> {migrations.newest()}")


@app.command()
def submit(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(readable=False, help="PDFs, or directories of them; X.pdf.json goes with X.pdf.")
    ],
    as_json: AsJson = False,
) -> None:
    """Hand in documents; 1 if any was not taken."""
    wanted = submitting.gather(files)

    async def act(api: Api) -> list[submitting.Result]:
        with show.progress("handing in", len(wanted)) as advance:
            return await submitting.submit(api, wanted, advance)

    results = call(context, act)
    show.results(results, as_json)
    raise typer.Exit(int(not all(result.is_taken for result in results)))


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """What waits and since when, the certificates, the disk."""
    show.status(call(context, lambda api: api.get("/status")), as_json)


@app.command()
def connections(
    context: typer.Context,
    failed: Annotated[bool, typer.Option("--failed", help="Who could not log in, and why; the newest first.")] = False,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Who is connected to the drop folders now, from where, with what, and what they did last."""
    if failed:
        found = call(context, lambda api: api.every("/connections/failures", limit))
        columns = {
            "at": "at",
            "user": "user",
            "protocol": "by",
            "address": "from",
            "cause": "cause",
            "banner": "client",
        }
        show.table(found, columns, empty="nobody failed to log in", wants_json=as_json)
        return
    found = call(context, lambda api: api.every("/connections"))
    columns = {
        "user": "user",
        "protocol": "by",
        "address": "from",
        "credential": "with",
        "banner": "client",
        "started_at": "since",
        "highest_sequence": "seen up to",
        "last_act": "last did",
    }
    show.table(found, columns, empty="nobody is connected", wants_json=as_json)


@app.command()
def explain(
    context: typer.Context,
    number: Annotated[str, typer.Argument(help="Number of a document, or its id.")],
    as_json: AsJson = False,
) -> None:
    """Tell the whole life of a document: why it went where, what happened, what comes next."""

    async def act(api: Api) -> list[Any]:
        if number.startswith("doc_"):
            return [await api.get(f"/documents/{named(number)}/explain")]
        found = await api.every("/documents", number=number)
        return [await api.get(f"/documents/{one['id']}/explain") for one in found]

    lives = call(context, act)
    if not lives:
        raise GatewayError(
            f"no document has the number {number}; a refused one is not kept, and whoever handed it in was told why"
        )
    show.lives(lives, as_json)


@app.command()
def openapi() -> None:
    """Print the API's description (OpenAPI 3.1)."""
    from .web.app import description

    print(json.dumps(description(), indent=2))


def main() -> None:
    """The console script."""
    try:
        app(_options_first(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("GATEWAY_TRACEBACK"):
            raise
        print(f"gateway: {_said(error)}", file=sys.stderr)
        sys.exit(1)


def _options_first(arguments: list[str]) -> list[str]:
    """`--config FILE` is taken wherever it stands before a `--`: people put it after the command."""
    words, after = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        words, after = arguments[:at], arguments[at:]
    first: list[str] = []
    others: list[str] = []
    for word, before in zip(words, ["", *words], strict=False):
        is_option = word == "--config" or word.startswith("--config=")
        (first if is_option or before == "--config" else others).append(word)
    return [*first, *others, *after]


def _said(error: BaseException) -> str:
    """One line; of several failures at once, the first that is one of ours."""
    causes = _leaves(error)
    ours = [cause for cause in causes if isinstance(cause, GatewayError)]
    if ours:
        return " ".join(ours[0].message.split())
    cause = causes[0]
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror}: {cause.filename}" if cause.filename else cause.strerror
    return f"{type(cause).__name__}: {cause} (GATEWAY_TRACEBACK=1 shows where)".replace("\n", " ")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
