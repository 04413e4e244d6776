"""`gateway manifest verify`: whether a folder's signed manifests prove that nothing is missing.

From files it needs no settings, no database and no gateway: an auditor runs it on what a client pulled. Exit status 0:
the proof holds; 1: it does not, and each reason is a sentence; 2: there is nothing to verify.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import show
from .options import AsJson, settings
from .parties import client_id, folder_of
from .reach import Api, run

if TYPE_CHECKING:
    from ..dossier.manifest_chain import Proof, Source
    from ..dossier.manifest_file import Event

app = typer.Typer(no_args_is_help=True, help="The signed manifests of folders.")
_NOTHING = 2


@app.command()
def verify(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, help="manifest-DAY.json files, each with its .p7s beside it, or directories."),
    ] = None,
    ca: Annotated[
        list[Path] | None,
        typer.Option("--ca", help="PEM: roots that you trust, or the issuer's own certificate, which is stricter."),
    ] = None,
    entries: Annotated[
        Path | None,
        typer.Option("--entries", exists=True, help="Directory of the documents: each must be what was published."),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option("--folder", help="A folder's id, or its client: manifests and numbers, from this gateway."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check signatures, the chain from day to day, and that no number is missing or stands there twice."""
    from ..dossier import manifest_chain
    from ..keys.trust import Trust

    if (folder is None) == (not paths):
        raise typer.BadParameter("name files or directories, or --folder")
    trust = Trust.load(tuple(ca)) if ca else None
    if folder is None:
        found, months = manifest_chain.gather(paths or ()), manifest_chain.months_of(paths or ())
        proof = manifest_chain.verify(found, trust, entries, months=months)
    else:
        chosen = settings(context)
        trust = trust or Trust.load(chosen.seal.trust)
        sources, published = run(chosen, lambda api: _of_folder(api, folder))
        proof = manifest_chain.verify(sources, trust, entries, published)
    show.proof(proof, as_json)
    raise typer.Exit(_status(proof))


def _status(proof: "Proof") -> int:
    if proof.holds:
        return 0
    return 1 if proof.findings else _NOTHING


async def _of_folder(api: Api, folder: str) -> tuple[list["Source"], list["Event"]]:
    """Its manifests and its events."""
    if not folder.startswith("fld_"):
        folder = (await folder_of(api, f"/clients/{await client_id(api, folder)}/folders", None))["id"]
    return await _manifests(api, folder), await _events(api, folder)


async def _manifests(api: Api, folder: str) -> list["Source"]:
    from ..dossier.manifest_chain import Source

    found = []
    for one in await api.every("/folder/manifests", folder=folder):
        path = f"/folder/manifests/{one['day']}"
        content = await api.content(path, folder=folder)
        found.append(Source(one["name"], content, await api.content(f"{path}/signature", folder=folder)))
    return found


async def _events(api: Api, folder: str) -> list["Event"]:
    from ..dossier.manifest_file import Event

    found: list[Event] = []
    while True:
        after = found[-1].sequence if found else 0
        page = await api.get("/folder/entries", folder=folder, after=after, limit=1000)
        found += [Event.model_validate(one) for one in page["items"]]
        if not page["items"]:
            return found
