"""Replay of the acceptance: how much of a recording is accepted unseen, and was it as right as promised?

Under seed s the mixture is fitted on `human` random labels (the draw of `mollm.lab.fuse`), an audit of `audit` of the
other items is planned and drawn with `default_rng([s, 3])`, and gold answers it. Gold is shown for the human labels
and the audited items alone; the rest of it only scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from mollm.acceptance.certificate import certify, share_of
from mollm.acceptance.outlook import outlook
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.fuse import STREAM, KnownTexts, Part, replayed
from mollm.metrics import mean_share, wilson
from mollm.recording import Recording
from mollm.records import BoolArray, FloatArray, IntArray
from mollm.round.run import RoundOutcome

AUDIT_STREAM = 3  # as docs/method.md fixes it


@dataclass(frozen=True)
class Plan:
    """What to replay: `human` labels to fit on and `audit` labels to certify with, at each target, over which seeds."""

    human: int = 300
    audit: int = 300
    targets: tuple[float, ...] = (0.95,)
    confidence: float = 0.95
    seeds: int = 200
    first_seed: int = 100
    jobs: int = 1

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        labelled = int((recording.gold >= 0).sum())
        if self.human < 1 or self.audit < 1 or self.human + self.audit >= labelled:
            raise InputError(
                f"--human {self.human} and --audit {self.audit}, but {labelled} items have gold: each needs at least "
                "one, and some must be left to accept."
            )
        for name, value in [("--confidence", self.confidence), *(("--target", target) for target in self.targets)]:
            if not 0 < value < 1:
                raise InputError(f"{name} {value:g} cannot be promised: choose a share above 0 and below 1, like .95.")


@dataclass(frozen=True, slots=True)
class Played:
    """One seed at one target: the `share` of the rest accepted, whether it was as `right` as the target, the oracle's
    share, and the share that was expected before the audit."""

    share: float
    right: bool
    oracle: float
    expected: float


def replay(
    recording: Recording,
    plan: Plan,
    embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Run the plan; JSON-able, the same for any number of jobs. With one target its figures stand at the top level."""
    plan.check(recording)
    began = time.monotonic()
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    whole = Part(recording, embeddings)
    run = Parallel(n_jobs=min(plan.jobs, plan.seeds), return_as="generator")
    rows: list[list[Played]] = []
    for seed, row in zip(seeds, run(delayed(play)(whole, plan, seed) for seed in seeds), strict=True):
        rows.append(row)
        progress(
            f"seed {seed}: " + ", ".join(f"{t:g}: {one.share:.3f}" for t, one in zip(plan.targets, row, strict=True))
        )
    results = {f"{t:g}": _summary([row[i] for row in rows], plan) for i, t in enumerate(plan.targets)}
    about = {"recording": recording.name, "human": plan.human, "audit": plan.audit, "confidence": plan.confidence,
             "seeds": list(seeds), "seconds": round(time.monotonic() - began, 2)}  # fmt: skip
    return {**about, "target": plan.targets[0], **next(iter(results.values()))} if len(results) == 1 else {
        **about, "results": results}  # fmt: skip


def _summary(rows: Sequence[Played], plan: Plan) -> dict[str, object]:
    shares = np.array([row.share for row in rows])
    kept = sum(row.right for row in rows)
    accepted = mean_share(shares)
    held = wilson(kept / len(rows), len(rows))
    return {
        "kept": kept,
        "kept_share": [held.value, held.low, held.high],
        "accepted": accepted.value,
        "accepted_interval": [accepted.low, accepted.high],
        "refused": float((shares == 0).mean()),
        "audits": float(plan.audit),
        "oracle": float(np.mean([row.oracle for row in rows])),
        "expected": float(np.mean([row.expected for row in rows])),
        "shares": shares.round(4).tolist(),
    }


def play(whole: Part, plan: Plan, seed: int) -> list[Played]:
    """One seed at every target."""
    recording = whole.recording
    asked, outcome = fitted(whole, plan.human, seed)
    rest = recording.gold >= 0
    rest[asked] = False
    confidence, wrong = ordered(outcome.probabilities[rest], recording.gold[rest])
    return [_accepted(confidence, wrong, target, plan, seed) for target in plan.targets]


def fitted(whole: Part, human: int, seed: int) -> tuple[IntArray, RoundOutcome]:
    """The items of the human labels, and the round on them. One BLAS thread: the same sums in any process."""
    with threadpool_limits(1, user_api="blas"):
        asked = np.random.default_rng([seed, STREAM]).permutation(whole.recording.signals.N)[:human]
        config, rng = LoopConfig(classifier="head"), np.random.default_rng([seed, STREAM, 1])
        return asked, replayed(whole, asked, config, KnownTexts.of(whole), rng)


def ordered(probabilities: FloatArray, gold: IntArray) -> tuple[FloatArray, BoolArray]:
    """(K,) confidence, the highest first, and whether the prediction there is wrong."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    return probabilities[order].max(axis=1), probabilities[order].argmax(axis=1) != gold[order]


def _accepted(confidence: FloatArray, wrong: BoolArray, target: float, plan: Plan, seed: int) -> Played:
    """Plan the audit, draw it, certify, and compare what was accepted with gold."""
    rng, allowed, alpha = np.random.default_rng([seed, AUDIT_STREAM]), share_of(target), 1 - plan.confidence
    before = outlook(confidence, plan.audit, allowed, alpha, rng=rng)
    places = before.design.draw(rng)
    found = certify(before.design, places, wrong[places], allowed, alpha)
    left = np.ones(len(wrong), dtype=np.bool_)
    left[places] = False
    errors = int((wrong & left)[: found.tasks].sum())
    right = np.cumsum(~wrong) >= target * np.arange(1, len(wrong) + 1)
    oracle = float(np.flatnonzero(right).max() + 1) / len(wrong) if right.any() else 0.0
    share = found.accepted / (len(wrong) - plan.audit)
    return Played(share, errors <= (1 - target) * found.accepted + 1e-9, oracle, before.share)
