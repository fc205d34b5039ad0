"""Is it worth it: one member (a decision endpoint, a strong hosted LLM) alone, against the mixture with and without it.

Under seed s the human labels are those of `mollm.lab.fuse`: the first of `default_rng([s, 1]).permutation(N)`. All
ways are scored on the same items, those without a human label. Each learned way is a whole round as the service runs
it, with the same labels; so the member is also tried with the labels and the texts, but without the other LLMs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.fuse import STREAM, KnownTexts, Part, human_items, replayed
from mollm.lab.fuse import Plan as Fused
from mollm.lab.scores import paired_gain
from mollm.mixture.best_annotator_picked import answers_of
from mollm.recording import Recording
from mollm.records import BoolArray, FloatArray, IntArray

ALONE, LEARNED, WITHOUT, MIXTURE = "alone", "with the labels", "the others", "the mixture"
WAYS = (ALONE, LEARNED, WITHOUT, MIXTURE)
AGAINST = (ALONE, LEARNED, WITHOUT)  # what the mixture is compared with


@dataclass(frozen=True)
class Plan:
    """What to replay: the `member`, at each number of `human` labels, over which seeds; `jobs` processes share them."""

    member: str
    human: tuple[int, ...] = (0, 50, 300)
    seeds: int = 10
    first_seed: int = 100
    jobs: int = 1

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        names, labelled = recording.signals.annotators, int((recording.gold >= 0).sum())
        if self.member not in names:
            raise InputError(f"{recording.name} has no member {self.member!r}: it has {', '.join(names)}.")
        if len(names) < 2:
            raise InputError(f"{recording.name} holds {self.member} alone: there is no mixture to compare it with.")
        if min(self.human) < 0 or max(self.human) >= labelled:
            raise InputError(
                f"{max(self.human)} human labels, but {labelled} items have gold: some must be left to score on."
            )


@dataclass(frozen=True)
class Prices:
    """In any one currency; None is not told. Of 1,000 texts: what the `member` costs, and what all `others` cost
    together; of one human `label`. The labels' price is spread over `texts`."""

    member: float | None = None
    others: float | None = None
    label: float | None = None
    texts: int = 0

    def of(self, way: str, human: int) -> float | None:
        """Of 1,000 texts labelled this way with so many human labels; None where a price that it needs is not told."""
        parts = {ALONE: (self.member,), LEARNED: (self.member,), WITHOUT: (self.others,)}
        needed: list[float | None] = list(parts.get(way, (self.member, self.others)))
        if human and way != ALONE:
            needed.append(None if self.label is None else 1000 * human * self.label / max(self.texts, human))
        return None if any(part is None for part in needed) else float(sum(part or 0.0 for part in needed))


def replay(
    recording: Recording, plan: Plan, prices: Prices, embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:  # fmt: skip
    """Run the plan; JSON-able, the same for any number of jobs. `embeddings` (N, D) or None.

    Intervals are of paired differences (95 %, Student's t): over the seeds, or, where no human label distinguishes
    them, over the items.
    """
    plan.check(recording)
    began, whole = time.monotonic(), Part(recording, embeddings)
    prices = replace(prices, texts=prices.texts or len(recording.items))
    stages = []
    for human in plan.human:
        rows = list(_played(whole, plan, human, progress))
        stages.append(_stage(human, rows, prices))
    return {
        "recording": recording.name, "member": plan.member, "first_seed": plan.first_seed, "stages": stages,
        "others": [name for name in recording.signals.annotators if name != plan.member],
        "items": int((recording.gold >= 0).sum()), "texts": prices.texts, "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip


def _played(whole: Part, plan: Plan, human: int, progress: Callable[[str], None]) -> Iterator[dict[str, BoolArray]]:
    """Each seed's items, right or not, by way. Without human labels all seeds are the same: one is played."""
    seeds = range(plan.first_seed, plan.first_seed + (plan.seeds if human else 1))
    run = Parallel(n_jobs=min(plan.jobs, len(seeds)), return_as="generator")
    for seed, row in zip(seeds, run(delayed(play)(whole, plan.member, human, seed) for seed in seeds), strict=True):
        said = ", ".join(f"{way} {right.mean():.4f}" for way, right in row.items())
        progress(f"{human} labels, seed {seed}: {said}")
        yield row


def play(whole: Part, member: str, human: int, seed: int) -> dict[str, BoolArray]:
    """(n,) of the items without a human label: whether each way is right. One BLAS thread: the same in any process."""
    recording = whole.recording
    m = recording.signals.annotators.index(member)
    with threadpool_limits(1, user_api="blas"):
        asked = human_items(whole, Fused(human=human), seed)
        rest = recording.gold >= 0
        rest[asked] = False
        others = [k for k in range(recording.signals.M) if k != m]
        labels = {
            ALONE: answers_of(recording.signals)[:, m].argmax(axis=1),
            LEARNED: _round(whole, [m], asked, seed),
            WITHOUT: _round(whole, others, asked, seed),
            MIXTURE: _round(whole, range(recording.signals.M), asked, seed),
        }
    return {way: label[rest] == recording.gold[rest] for way, label in labels.items()}


def _round(whole: Part, members: Sequence[int] | range, asked: IntArray, seed: int) -> IntArray:
    """(N,) the labels of a whole round with these members of the panel alone."""
    known, index = whole.recording, list(members)
    signals = replace(
        known.signals, annotators=tuple(known.signals.annotators[k] for k in index),
        label_probs=known.signals.label_probs[:, index], votes=known.signals.votes[:, index],
    )  # fmt: skip
    part = Part(replace(known, signals=signals), whole.embeddings)
    rng = np.random.default_rng([seed, STREAM, 1])
    outcome = replayed(part, asked, LoopConfig(classifier="head"), KnownTexts.of(part), rng)
    return np.asarray(outcome.probabilities.argmax(axis=1))


def _stage(human: int, rows: Sequence[dict[str, BoolArray]], prices: Prices) -> dict[str, object]:
    """Means over the seeds, and what the mixture gains over each other way."""
    accuracy = {way: [float(row[way].mean()) for row in rows] for way in WAYS}
    if human:
        gains = {way: paired_gain(accuracy[MIXTURE], accuracy[way]) for way in AGAINST}
    else:
        gains = {
            way: paired_gain(*(rows[0][one].astype(np.float64).tolist() for one in (MIXTURE, way))) for way in AGAINST
        }
    return {
        "human": human, "n": len(rows) if human else len(rows[0][MIXTURE]), "over": "seeds" if human else "items",
        "ways": {way: _way(accuracy[way], prices.of(way, human)) for way in WAYS}, "gain": gains,
    }  # fmt: skip


def _way(accuracy: Sequence[float], price: float | None) -> dict[str, float | None]:
    """The mean over the seeds and its spread, None for one seed."""
    spread = float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else None
    return {"accuracy": float(np.mean(accuracy)), "spread": spread, "price": price}
