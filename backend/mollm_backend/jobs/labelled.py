"""What a training measures on the tasks that people have labelled, each predicted without its own label.

These tasks were chosen for being hard: nothing of it holds for the others. A task counts once, with the label that
most of its people's weight is for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mollm.acceptance.per_class import per_class
from mollm.metrics import clopper_pearson
from mollm.people.suspects import Heard
from mollm.records import IntArray, Targets
from mollm_backend.jobs import calibration


def measured(heard: Heard) -> dict[str, Any]:
    """JSON-able: `n` tasks, `reliability` (bins), `classes` (C figures and `counts`) and `baseline`; empty without
    labels."""
    targets, C = heard.targets, heard.signals.C
    if not targets.H:
        return {}
    row, truth = by_task(targets, C)
    probs = heard.mixture[row]
    predicted = probs.argmax(axis=1).astype(np.int64)
    right, ones = (predicted == truth).astype(np.float64), np.ones(len(truth))
    found = per_class(truth, predicted, ones, np.bincount(predicted, minlength=C))
    return {
        "n": len(truth), "reliability": calibration.bins(probs.max(axis=1), right, ones),
        "classes": found.as_json(), "baseline": baseline(truth, heard.signals.labels),
    }  # fmt: skip


def by_task(targets: Targets, C: int) -> tuple[IntArray, IntArray]:
    """Of T labelled tasks (T,) one row of the targets, and (T,) the label that most weight is for (of equals the first
    of the labels)."""
    _, row, task = np.unique(targets.index, return_index=True, return_inverse=True)
    weight = np.zeros((len(row), C))
    np.add.at(weight, (task, targets.label), targets.weight)
    return row.astype(np.int64), weight.argmax(axis=1).astype(np.int64)


def baseline(truth: IntArray, names: tuple[str, ...]) -> dict[str, Any]:
    """What always saying the most frequent label of n tasks would get right, with its 95 % interval."""
    counts = np.bincount(truth, minlength=len(names))
    found = clopper_pearson(float(counts.max() / len(truth)), len(truth))
    return {"label": names[int(counts.argmax())], "value": found.value, "low": found.low, "high": found.high,
            "n": len(truth)}  # fmt: skip
