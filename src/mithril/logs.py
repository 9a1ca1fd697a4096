"""How the process logs: one line an event on standard error, as JSON or, in a terminal, for reading.

What goes into a line is decided where it is logged; this module only formats. uvicorn's and Alembic's own lines
pass through the same formatter.
"""

import logging
import sys

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure(*, level: str, style: str) -> None:
    """`level`: debug, info, warning or error; `style`: json, text or auto."""
    as_text = style == "text" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, renderer if as_text else _as_json],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(shared, renderer if as_text else _as_json)


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """`default=str` would hide a value that should not be logged; an unknown type is an error instead."""
    return msgspec.json.encode(event).decode()


def _route_standard_logging(shared: list[Processor], renderer: Processor) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
