"""What the API is built from; the composition root (daemon.py) fills it in."""

from collections.abc import Callable
from dataclasses import dataclass

from ..config import Settings
from ..intake.receive import Intake
from ..pools import ThreadPool
from ..sealing.renditions import Renditions
from ..store.blobs import Blobs
from ..store.database import Database


@dataclass(frozen=True)
class Parts:
    """`pool` is the web's own; `wake` says that there may be work, and is called on the loop's thread.

    `last_act`: what a session in a drop folder asked for last, where this process serves it.
    """

    settings: Settings
    db: Database
    blobs: Blobs
    intake: Intake
    renditions: Renditions
    pool: ThreadPool
    wake: Callable[[], None]
    last_act: Callable[[str], str | None] = lambda _: None
