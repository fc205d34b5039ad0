"""Replay of the estimates: what is said of the open rest at each stage, beside the truth.

Under seed s a round is fitted on `human` random labels as in `mollm.lab.accept`; audits of several sizes are the
first of one random order of the rest, drawn with `default_rng([s, 3])`. Beside the estimate stand the mixture's own
guess (its mean confidence) and the cross-fitted accuracy of the labelled items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from mollm.acceptance.estimate import accuracy
from mollm.errors import InputError
from mollm.lab.accept import AUDIT_STREAM, fitted, ordered
from mollm.lab.fuse import Part
from mollm.metrics import wilson
from mollm.recording import Recording
from mollm.records import FloatArray


@dataclass(frozen=True)
class Plan:
    """What to replay: at each number of `human` labels, audits of each size of `audits`, over which seeds."""

    human: tuple[int, ...] = (50, 300)
    audits: tuple[int, ...] = (30, 100, 300)
    seeds: int = 20
    first_seed: int = 100
    jobs: int = 1

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        labelled = int((recording.gold >= 0).sum())
        if min(self.human) < 1 or min(self.audits) < 1 or max(self.human) + max(self.audits) > labelled:
            raise InputError(f"{max(self.human)} labels and {max(self.audits)} audits need more than {labelled} items.")


@dataclass(frozen=True, slots=True)
class Row:
    """One seed at one stage: the truth about the rest, what was said of it, its interval, and the two other figures."""

    truth: float
    said: float
    low: float
    high: float
    guess: float
    cross_fitted: float


def replay(
    recording: Recording,
    plan: Plan,
    embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Run the plan; JSON-able, the same for any number of jobs."""
    plan.check(recording)
    began, whole = time.monotonic(), Part(recording, embeddings)
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    stages = []
    for human in plan.human:
        run = Parallel(n_jobs=min(plan.jobs, plan.seeds), return_as="generator")
        played = []
        for seed, rows in zip(
            seeds, run(delayed(play)(whole, human, plan.audits, seed) for seed in seeds), strict=True
        ):
            progress(f"{human} labels, seed {seed}: truth {rows[0].truth:.3f}, said {rows[-1].said:.3f}")
            played.append(rows)
        stages += [_stage(human, n, [rows[i] for rows in played]) for i, n in enumerate(plan.audits)]
    return {"recording": recording.name, "seeds": list(seeds), "stages": stages,
            "seconds": round(time.monotonic() - began, 2)}  # fmt: skip


def play(whole: Part, human: int, audits: Sequence[int], seed: int) -> list[Row]:
    """One seed at one number of human labels, each size of the audit."""
    asked, outcome = fitted(whole, human, seed)
    rest = whole.recording.gold >= 0
    rest[asked] = False
    confidence, wrong = ordered(outcome.probabilities[rest], whole.recording.gold[rest])
    drawn = np.random.default_rng([seed, AUDIT_STREAM]).permutation(len(wrong))
    rows = []
    for n in audits:
        found = accuracy(~wrong[drawn[:n]], confidence[drawn[:n]], confidence).estimate
        assert found is not None  # n is at least 1
        truth, guess = float(1 - wrong.mean()), float(confidence.mean())
        rows.append(Row(truth, found.value, found.low, found.high, guess, outcome.scores["accuracy"]))
    return rows


def _stage(human: int, audits: int, rows: Sequence[Row]) -> dict[str, object]:
    """Means over the seeds; `covered` is the share of seeds in which the interval held the truth, with its own."""
    covered = sum(row.low <= row.truth <= row.high for row in rows)
    held = wilson(covered / len(rows), len(rows))
    return {
        "human": human, "audits": audits, "n": len(rows), "covered": covered, "covered_interval": [held.low, held.high],
        **{name: float(np.mean([getattr(row, name) for row in rows])) for name in Row.__slots__},
        "error_guess": float(np.mean([abs(row.guess - row.truth) for row in rows])),
        "error_said": float(np.mean([abs(row.said - row.truth) for row in rows])),
        "error_cross_fitted": float(np.mean([abs(row.cross_fitted - row.truth) for row in rows])),
    }  # fmt: skip
