"""Logs of the service: one line per event, as JSON where nobody sits at a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

_SHARED: Final = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def log_outage(error: SQLAlchemyError) -> None:
    """One line about a database that is away, whose errors have many."""
    structlog.get_logger("autoprune.service").warning("the database is away", error=str(error).splitlines()[0])


def configure_logs() -> None:
    """Sends what this process logs, libraries included, to stderr.

    Who is at work stands in every line: names bound by `structlog.contextvars.bind_contextvars`, such as ``study``.
    """
    to_people = sys.stderr.isatty()
    traces = [] if to_people else [structlog.processors.format_exc_info]  # a console draws them itself
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)  # others show locals
    rendered = console if to_people else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *traces, rendered],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line of its own for whatever it looks at
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
