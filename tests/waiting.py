"""Waiting for what happens elsewhere, on a machine that may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG = 1800.0  # seconds; bounds a hang


def eventually(what: Callable[[], bool], seconds: float = LONG) -> bool:
    """True as soon as `what()` is; False only after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False
