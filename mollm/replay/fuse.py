"""Replay of the fusion: from the same few human labels, how often is each aggregator right on all other items?

The human labels of seed s are the first of `default_rng([s, 1]).permutation(N)` (or a cold-start design that
begins with that stream); gold is shown to a mixture for these items alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mollm.errors import InputError
from mollm.mixture import Mixture, aggregators
from mollm.mixture.cold_start import choose
from mollm.mixture.molam import Molam, boosting_for
from mollm.recording import Recording
from mollm.records import FloatArray, IntArray, Targets
from mollm.replay.scores import Score, best_annotator, paired_gain

HINDSIGHT = "best_annotator_hindsight"
NAMES = (
    "auto",
    "molam",
    "logpool",
    "dawid_skene",
    "majority",
    "pooled_votes",
    "mean_probs",
    HINDSIGHT,
    "best_annotator_picked",
)
STREAM = 1
Choice = Literal["random", "cold-start"]


@dataclass(frozen=True)
class Plan:
    """What to replay: `human` labels a seed, which seeds, how the labels are chosen, which aggregators."""

    human: int = 50
    seeds: int = 10
    first_seed: int = 0
    choose: Choice = "random"
    names: tuple[str, ...] = NAMES

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        known = [*aggregators(), HINDSIGHT]
        for name in self.names:
            if name not in known:
                raise InputError(f"There is no aggregator {name!r}: choose among {', '.join(sorted(known))}.")
        labelled = int((recording.gold >= 0).sum())
        if not 0 <= self.human < labelled:
            raise InputError(f"--human {self.human}, but {labelled} items have gold: some must be left to score on.")
        if self.seeds < 1:
            raise InputError("--seeds must be at least 1.")


def human_items(recording: Recording, plan: Plan, seed: int, embeddings: FloatArray | None) -> IntArray:
    """The items whose label a human gives under this seed."""
    stream = np.random.default_rng([seed, STREAM])
    if plan.choose == "random":
        return stream.permutation(recording.signals.N)[: plan.human]
    return choose(
        recording.signals,
        lambda index: recording.gold[index],
        plan.human,
        rng=stream,
        embeddings=embeddings,
        groups=recording.groups,
    )


def replay(
    recording: Recording,
    plan: Plan,
    embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Run the plan; the answer is JSON-able. `embeddings` (N, D) or None."""
    plan.check(recording)
    began = time.monotonic()
    scores: dict[str, list[Score]] = {name: [] for name in plan.names}
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        asked = human_items(recording, plan, seed, embeddings)
        targets = Targets.of(asked, recording.gold[asked])
        for name in plan.names:
            scores[name].append(_score(name, recording, targets, seed, embeddings))
            progress(f"seed {seed}: {name} {scores[name][-1].accuracy:.4f}")
    return {
        "recording": recording.name,
        "human": plan.human,
        "seeds": list(range(plan.first_seed, plan.first_seed + plan.seeds)),
        "results": {name: _summary(of) for name, of in scores.items()},
        "paired_gain": _gains(scores),
        "seconds": round(time.monotonic() - began, 2),
    }


def _score(name: str, recording: Recording, targets: Targets, seed: int, embeddings: FloatArray | None) -> Score:
    rest = np.ones(recording.signals.N, dtype=np.bool_)
    rest[targets.index] = False
    if name == HINDSIGHT:
        return Score.of(best_annotator(recording.signals, recording.gold, rest), recording.gold, rest)
    fitted = _make(name, recording.name).fit(
        recording.signals,
        targets,
        rng=np.random.default_rng([seed, STREAM, 1]),
        embeddings=embeddings,
        groups=recording.groups,
    )
    return Score.of(fitted.predict_proba(recording.signals, embeddings), recording.gold, rest)


def _make(name: str, recording: str) -> Mixture:
    """The aggregator; the paper's with the paper's setting for this data set."""
    return Molam(boosting_for(recording)) if name == Molam.name else aggregators()[name]()


def _summary(scores: Iterable[Score]) -> dict[str, object]:
    rows = list(scores)
    accuracy = [row.accuracy for row in rows]
    return {
        "accuracy": accuracy,
        "mean": float(np.mean(accuracy)),
        "ece": float(np.mean([row.ece for row in rows])),
        "log_loss": float(np.mean([row.log_loss for row in rows])),
    }


def _gains(scores: Mapping[str, Sequence[Score]]) -> dict[str, list[float | None]]:
    if "auto" not in scores:
        return {}
    ours = [row.accuracy for row in scores["auto"]]
    others = [name for name in ("molam", "logpool") if name in scores]
    return {f"auto-{name}": paired_gain(ours, [row.accuracy for row in scores[name]]) for name in others}
