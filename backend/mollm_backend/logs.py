"""How log lines look: plain, one event a line, and tracebacks without the values of variables, which hold secrets."""

from __future__ import annotations

import structlog


def set_up() -> None:
    """Call once in each long-running process. structlog's own default prints every frame's variables."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
