"""Annotators that stay open between calls: warm where there is room, in turns where there is not.

On a card there is room for one model: the one before is closed, its memory freed, before the next is loaded. In the
main memory models stay as long as they fit; then those that were asked longest ago give way. Annotators that share
one model's weights stay together; servers and recordings hold no model here and always stay.
"""

from __future__ import annotations

from collections.abc import Callable

import psutil

from mollm.annotators import Annotator, Needs

SPARE = 0.1  # of the main memory, left to everything else


def free_memory() -> int:
    """Bytes of main memory that can be taken without pressing anybody else."""
    memory = psutil.virtual_memory()
    return max(0, int(memory.available - SPARE * memory.total))


class Warm:
    """Opened annotators by key, the one asked longest ago first."""

    def __init__(self, free: Callable[[], int] = free_memory) -> None:
        self.free = free
        self._open: dict[str, tuple[Annotator, Needs]] = {}

    def get(self, key: str, needs: Callable[[], Needs], opened: Callable[[], Annotator]) -> Annotator:
        """The annotator under `key`; where it is not open, room is made for what it needs and `opened()` opens it."""
        if key in self._open:
            self._open[key] = self._open.pop(key)
            return self._open[key][0]
        wanted = needs()
        self._make_room(wanted)
        annotator = opened()
        self._open[key] = annotator, wanted
        return annotator

    def close(self) -> None:
        """Close all of them."""
        for key in list(self._open):
            self._close(key)

    def _make_room(self, needs: Needs) -> None:
        here = [(key, held) for key, (_, held) in self._open.items() if held.device == needs.device]
        shared = any(held.model == needs.model for _, held in here)
        for key, held in here:
            if held.model == needs.model:
                continue
            if needs.takes_turns or (not shared and needs.bytes > 0 and self.free() < needs.bytes):
                self._close(key)

    def _close(self, key: str) -> None:
        annotator, _ = self._open.pop(key)
        annotator.close()
