"""Several workers share one LLM's reading, and no text is asked twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import redis

from mollm_backend.store import signals
from mollm_backend.work import workers as living

from .reading import Reading, eventually

FAR = "elsewhere"


def test_workers_share_a_reading_and_no_text_is_asked_twice(
    tmp_path: Path, valkey_url: str, connection: redis.Redis
) -> None:
    there = Reading(tmp_path, f"sqlite:///{tmp_path / 'mollm.db'}", valkey_url, 1200)
    with there.workers(3, seconds_a_text=0.003) as workers:
        eventually(lambda: len(living.every(connection)) == 3, 60, there.log)
        there.add_tasks()
        eventually(lambda: there.left() == 0, 60, there.log)
        shares = [len(there.asked(worker.pid)) for worker in workers]
    asked = Counter(there.asked())
    assert set(asked.values()) == {1}
    assert len(asked) == there.texts
    assert signals.costs(there.store)["one"].texts == there.texts
    assert sum(share > 0 for share in shares) >= 2, shares
