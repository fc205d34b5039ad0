"""The format of log lines: plain text, one event on a line, with the project that it is about.

Tracebacks omit variables, which may hold secrets.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.types import Processor

# `ConsoleRenderer` prints the variables of every frame unless it is told otherwise.
_LAST = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)


def set_up(level: str = "INFO") -> None:
    """Call this once in each long-running process. `level` is a name of `logging`, as `Settings.log_level`."""
    number = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*_first(), _LAST], wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(),
    )  # fmt: skip


def beside_output() -> None:
    """Call this in a command: what jobs log there goes to stderr, and what it prints stays whole."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def set_up_libraries(level: str = "INFO") -> None:
    """Log what libraries say in the same format; for a process that has set up no logging of its own."""
    handler = logging.StreamHandler()
    chain: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _LAST]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=chain, foreign_pre_chain=_first()))
    logging.basicConfig(level=level, handlers=[handler])


def about(**facts: object) -> AbstractContextManager[None]:
    """Every line that is logged in the block names these, such as `project=3`; what is None is left out."""
    return bound_contextvars(**{name: value for name, value in facts.items() if value is not None})


def _first() -> list[Processor]:
    return [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
    ]
