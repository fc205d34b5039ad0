"""How right a mixture is where it is so and so sure: bins of tasks, each with its share, its n and its interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from mollm.metrics import weighted_share
from mollm.records import FloatArray

MOST = 10  # bins: more than that no picture shows apart
LEAST = 20  # tasks of a bin: with fewer its interval is wider than .45 and says nothing


def bins(confidence: FloatArray, right: FloatArray, weight: FloatArray) -> list[dict[str, Any]]:
    """Bins of about equally many tasks, the least sure first, JSON-able.

    Of n tasks `confidence` (n,), `right` (n,) in 0..1 and `weight` (n,) > 0. In a bin `confidence` is the mean, `value`
    the share that is right with its 95 % interval from `low` to `high`, and `n` the tasks. Empty of no tasks.
    """
    if not len(confidence):
        return []
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(MOST, max(1, len(order) // LEAST)))
    return [_bin(confidence[part], right[part], weight[part]) for part in parts]


def _bin(confidence: FloatArray, right: FloatArray, weight: FloatArray) -> dict[str, Any]:
    found = weighted_share(right, weight)
    mean = float(np.average(confidence, weights=weight))
    return {"confidence": mean, "value": found.value, "low": found.low, "high": found.high, "n": len(right)}
