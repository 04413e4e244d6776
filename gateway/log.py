"""Logging: structlog over the standard library, JSON for machines, colours for a terminal, always on standard error."""

import logging
import sys
from typing import Any

import structlog

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
        return [*first, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [*first, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False)]
