"""The format of log lines: plain text, one event on a line. Tracebacks omit variables, which may hold secrets."""

from __future__ import annotations

import structlog


def set_up() -> None:
    """Call this once in each long-running process: by default, structlog prints the variables of every frame."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
