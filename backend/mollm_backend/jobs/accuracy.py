"""The accuracy of a version, with the tasks that it was measured on: their number, and a 95 % interval.

Where people chose no task at random there is only `labelled`: the tasks of the batches, which were chosen for being
hard. It says nothing of the others. Another kind of tasks is another key beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mollm.acceptance.doubt import expected_right
from mollm.metrics import wilson
from mollm.records import BoolArray, FloatArray
from mollm_backend.jobs.pools import DecisionPool
from mollm_backend.labelstudio.label_config import certainty


def of(pools: Sequence[DecisionPool], scores: Mapping[str, float]) -> dict[str, Any]:
    """What a version stores of its cross-fitted accuracy (the mean over several decisions); empty without labels.

    All that people said of a task counts as one trial of its weight: labels of one task are no evidence of each other.
    """
    if "accuracy" not in scores:
        return {}
    weights = Counter[str]()
    for pool in pools:
        targets = pool.targets
        for n, weight in zip(targets.index.tolist(), targets.weight.tolist(), strict=True):
            weights[pool.signals.items[n]] += weight
    return {"labelled": share(scores["accuracy"], list(weights.values()))}


def share(right: float, weights: Sequence[float]) -> dict[str, float]:
    """The share `right` of tasks of unequal `weights`, with its Wilson interval at Kish's effective number of tasks."""
    effective = sum(weights) ** 2 / max(sum(weight**2 for weight in weights), 1e-12)
    found = wilson(right, effective)
    return {"value": found.value, "n": len(weights), "low": found.low, "high": found.high}


def guess(each: Sequence[tuple[Sequence[str], BoolArray, FloatArray]], given: int) -> dict[str, Any]:
    """The mixture's own guess of its accuracy on the `n` open tasks: its mean confidence there (`value` None: n is 0),
    and `allowing` for the `given` labelled tasks, which the loop chose for being hard.

    Of each decision the items (N,), which of them are open (N,), and their probabilities (N, C). A task that not every
    decision has read is left out.
    """
    sure: dict[str, list[float]] = {}
    for items, open_items, probs in each:
        for n in np.flatnonzero(open_items):
            sure.setdefault(items[n], []).append(float(probs[n].max()))
    whole = [certainty(row) for row in sure.values() if len(row) == len(each)]
    if not whole:
        return {"value": None, "allowing": None, "n": 0}
    value, allowing = expected_right(np.array(whole), given)
    return {"value": value, "allowing": allowing, "n": len(whole)}
