"""Logging: structlog over the standard library, JSON for machines, colours for a terminal, always on standard error."""

import logging
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from .config import LogSettings

_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncssh", "pyftpdlib", "aiosmtpd", "alembic", "fontTools")


def configure(settings: LogSettings) -> None:
    """Set up logging for the process; a second call replaces the first (SIGHUP)."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_renderers(settings), foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
        library.setLevel(logging.WARNING)


def _renderers(settings: LogSettings) -> list[Any]:
    first = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty()):
        plain = structlog.dev.plain_traceback
        return [*first, _shown, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    # Never the variables of a traceback's frames, which both libraries show unasked: tokens and passwords are there.
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    return [*first, tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _shown(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What came from outside must not steer the terminal: controls and direction marks are shown as escapes."""
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
