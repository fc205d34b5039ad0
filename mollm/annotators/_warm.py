"""Keep annotators open between calls, as far as memory allows.

A GPU holds one model at a time: the open model is closed before the next is loaded. In main memory, models stay open
while they fit; then the ones used longest ago are closed. Annotators of the same model share its weights and do not
close each other. Servers and recordings hold no model here and always stay open.
"""

from __future__ import annotations

from collections.abc import Callable

import psutil

from mollm.annotators import Annotator, Needs

SPARE = 0.1  # share of main memory for other programs (chosen by hand: less keeps more models open, but may swap)


def free_memory() -> int:
    """Bytes of main memory that models may still take."""
    memory = psutil.virtual_memory()
    return max(0, int(memory.available - SPARE * memory.total))


class Warm:
    """Open annotators by key. The one used longest ago comes first."""

    def __init__(self, free: Callable[[], int] = free_memory) -> None:
        self.free = free
        self._open: dict[str, tuple[Annotator, Needs]] = {}

    def get(self, key: str, needs: Callable[[], Needs], opened: Callable[[], Annotator]) -> Annotator:
        """The annotator of `key`. If it is not open, memory is freed for `needs()` and `opened()` opens it."""
        if key in self._open:
            self._open[key] = self._open.pop(key)
            return self._open[key][0]
        wanted = needs()
        self._make_room(wanted)
        annotator = opened()
        self._open[key] = annotator, wanted
        return annotator

    def drop_server(self, key: str) -> None:
        """Close an annotator that holds no model here: the next `get` opens and probes it anew."""
        if key in self._open and not self._open[key][1].bytes:
            self._close(key)

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
