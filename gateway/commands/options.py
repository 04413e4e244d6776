"""What every command shares: the settings file that `--config` names, `--json`, and how a call of the API is run."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..errors import ConfigError
from .reach import Api, run

if TYPE_CHECKING:
    from ..config import Settings

T = TypeVar("T")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and change nothing.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]


def config_path(context: typer.Context) -> Path | None:
    """What `--config` names, if it was given."""
    path: Path | None = context.find_root().params.get("config")
    return path


def settings(context: typer.Context) -> "Settings":
    """The settings; ConfigError. A command logs warnings only, its output is for people or programs."""
    from .. import config, log

    loaded = config.load(config.find(config_path(context)))
    log.configure(config.LogSettings(level="warning", format=loaded.log.format))
    return loaded


def call(context: typer.Context, act: Callable[[Api], Awaitable[T]]) -> T:
    """What `act` makes of the API."""
    return run(settings(context), act)


def refuse_root(what: str) -> None:
    """ConfigError for uid 0: the daemon needs no right that root alone has, and its files would be root's."""
    if os.geteuid() == 0:
        raise ConfigError(
            f"{what} does not run as root: use an ordinary user that owns the state directory", where="uid"
        )
