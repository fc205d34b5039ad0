"""Replay of the suspects: of human labels that were flipped on purpose, how many stand at the top of the list?

The human labels of seed s are the first of `default_rng([s, 1]).permutation(N)`. A share of them, drawn from a stream
of its own, becomes another class, each with the same probability. A round runs on these labels as in the service, and
its cross-fitted rows rank them. Gold says which labels were flipped and nothing else, so a recording's own wrong gold
counts as a false alarm for everybody.

The rivals rank the same labels by the same round's mixture: `cleanlab`, where it is installed, by self-confidence and
by normalized margin (Northcutt, Jiang and Chuang 2021, doi 10.1613/jair.1.12125), and a random order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mollm.blas import one_thread
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.fuse import STREAM, KnownTexts, Part
from mollm.people.suspects import Heard, doubts
from mollm.recording import Recording
from mollm.records import FloatArray, IntArray, Targets
from mollm.round.run import RoundInput, run_round

OURS, RANDOM = "suspects", "random"
RIVALS = {"self_confidence": "cleanlab self-confidence", "normalized_margin": "cleanlab normalized margin"}
"""cleanlab's name of a ranking, and ours."""
FIT, NOISE, CHANCE = 1, 5, 6
"""Under [seed, STREAM]: the streams of the round (as in `replay fuse`), of the flips and of the random order."""


@dataclass(frozen=True)
class Plan:
    """`human` labels a seed, the share of them that is flipped (`noise`), how much of the list is looked at (`top`)."""

    human: int = 1000
    noise: float = 0.05
    top: int = 50
    seeds: int = 3
    first_seed: int = 100

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        N = recording.signals.N
        if not 0 < self.top <= self.human <= N:
            raise InputError(
                f"--top {self.top} of --human {self.human} labels on {N} items: give 1 <= top <= human <= N."
            )
        if not 0 < self.noise < 1 or self.flips < 1:
            raise InputError(f"--noise {self.noise} of {self.human} labels flips none or all: give a share in between.")
        if recording.signals.C < 2 or (recording.gold < 0).any() or self.seeds < 1:
            raise InputError("The replay needs two classes, gold for every item, and --seeds of at least 1.")

    @property
    def flips(self) -> int:
        """How many labels of a seed are wrong."""
        return round(self.noise * self.human)


def replay(
    recording: Recording, plan: Plan, embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:  # fmt: skip
    """The precision among the first `top` labels of each ranking, by seed; JSON-able. `embeddings` (N, D) or None."""
    plan.check(recording)
    began = time.monotonic()
    seeds = list(range(plan.first_seed, plan.first_seed + plan.seeds))
    precision: dict[str, list[float]] = {}
    for seed in seeds:
        row = played(Part(recording, embeddings), plan, seed)
        progress(f"seed {seed}: " + ", ".join(f"{name} {share:.3f}" for name, share in row.items()))
        for name, share in row.items():
            precision.setdefault(name, []).append(share)
    return {
        "recording": recording.name, "human": plan.human, "noise": plan.noise, "top": plan.top, "seeds": seeds,
        "precision": precision, "means": {name: float(np.mean(shares)) for name, shares in precision.items()},
        "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip


def played(whole: Part, plan: Plan, seed: int) -> dict[str, float]:
    """The precision of each ranking under one seed. One BLAS thread: sums are then the same in any process."""
    given = noisy(whole.recording, plan, seed)
    with one_thread():
        heard = heard_of(whole, given, seed)
        orders = rankings(heard) | {RANDOM: np.random.default_rng([seed, STREAM, CHANCE]).random(given.H)}
    flipped = given.label != whole.recording.gold[given.index]
    return {
        name: float(flipped[np.argsort(-score, kind="stable")[: plan.top]].mean()) for name, score in orders.items()
    }


def noisy(recording: Recording, plan: Plan, seed: int) -> Targets:
    """The human labels of a seed, `plan.flips` of them wrong."""
    index = np.random.default_rng([seed, STREAM]).permutation(recording.signals.N)[: plan.human]
    label: IntArray = recording.gold[index].copy()
    rng = np.random.default_rng([seed, STREAM, NOISE])
    flipped = rng.permutation(plan.human)[: plan.flips]
    C = recording.signals.C
    label[flipped] = (label[flipped] + rng.integers(1, C, len(flipped))) % C
    return Targets.of(index, label)


def heard_of(whole: Part, given: Targets, seed: int) -> Heard:
    """What the service's round on these labels says of them, with the head as its classifier."""
    recording = whole.recording
    rng = np.random.default_rng([seed, STREAM, FIT])
    start = RoundInput(recording.items, recording.signals, given)
    return run_round(start, config=LoopConfig(classifier="head"), encoder=KnownTexts.of(whole), rng=rng).heard


def rankings(heard: Heard) -> dict[str, FloatArray]:
    """(H,) of each ranking, the higher the more suspect: ours and, where cleanlab is installed, its own two."""
    found = {OURS: doubts(heard)[0]}
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return found
    label, probs = heard.targets.label, heard.mixture
    return found | {name: -get_label_quality_scores(label, probs, method=how) for how, name in RIVALS.items()}
