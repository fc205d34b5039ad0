"""Replay of the fusion: from the same few human labels, how often is each aggregator right on all other items?

`auto` is a whole round as the service runs it (`mollm.round`): panel, classifier on frozen embeddings, ladder,
calibration. The other names are single aggregators. The human labels of seed s are the first of
`default_rng([s, 1]).permutation(N)` (or a cold-start design that begins with that stream); gold is shown for these
items alone. With `test` items held back, the same under every seed, the pool is what is left, and nothing that is
fitted sees them or copies of their texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.scores import Score, best_annotator, paired_gain
from mollm.mixture import Mixture, aggregator, aggregators
from mollm.mixture.auto import Auto
from mollm.mixture.cold_start import choose
from mollm.mixture.molam import Molam, boosting_for
from mollm.recording import Recording
from mollm.records import FloatArray, IntArray, Pool, Targets
from mollm.round.reading import flat
from mollm.round.run import Embeds, RoundInput, RoundOutcome, predict, run_round

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
CHOSEN = "auto@cold-start"
"""`auto` with the labels of the cold-start design, beside `auto` with random ones, where both are replayed."""
STREAM, TEST_STREAM = 1, 4  # as docs/method.md fixes them, so that splits can be drawn again
Choice = Literal["random", "cold-start", "both"]


@dataclass(frozen=True)
class Plan:
    """What to replay: `human` labels a seed, which seeds, how the labels are chosen, which aggregators.

    `test` items are held back to score on (0: all items without a human label are scored). `choose="both"` scores
    every name on random labels and `auto` on the cold start's too. `jobs` processes share the seeds.
    """

    human: int = 50
    seeds: int = 10
    first_seed: int = 0
    choose: Choice = "random"
    names: tuple[str, ...] = NAMES
    test: int = 0
    jobs: int = 1

    def check(self, recording: Recording) -> None:
        """Raise InputError for a plan that this recording cannot serve."""
        known = [*aggregators(), HINDSIGHT]
        for name in self.names:
            if name not in known:
                raise InputError(f"There is no aggregator {name!r}: choose among {', '.join(sorted(known))}.")
        labelled = int((recording.gold >= 0).sum())
        if self.test < 0 or not 0 <= self.human < labelled - self.test:
            held_back = f" with --test {self.test}" if self.test else ""
            raise InputError(
                f"--human {self.human}{held_back}, but {labelled} items have gold: some must be left to score on."
            )
        if self.seeds < 1:
            raise InputError("--seeds must be at least 1.")
        if self.choose == "both" and "auto" not in self.names:
            raise InputError("--choose both compares `auto` with itself: let it be among the aggregators.")


@dataclass(frozen=True)
class Part:
    """Some of a recording's items, and their text embeddings (N, D) or (N, L, D) where there are any."""

    recording: Recording
    embeddings: FloatArray | None

    def labelled(self, asked: Sequence[int] | IntArray) -> Pool:
        """The part as a mixture sees it: with the labels of the items `asked`, and no other gold."""
        known = self.recording
        return Pool(known.signals, Targets.of(asked, known.gold[asked]), self.flat, known.groups)

    @property
    def flat(self) -> FloatArray | None:
        """(N, D) for a mixture that learns alone: all layers as they are."""
        return None if self.embeddings is None else flat(self.embeddings)

    def take(self, index: IntArray) -> Part:
        whole, items = self.recording, tuple(self.recording.items[n] for n in index)
        part = replace(whole, items=items, signals=whole.signals.take(index), gold=whole.gold[index])
        return Part(part, None if self.embeddings is None else self.embeddings[index])


def split(whole: Part, test: int) -> tuple[Part, Part | None]:
    """The pool and `test` items; what shares its text with a test item is in neither. No test items: all is pool."""
    if not test:
        return whole, None
    N, group = whole.recording.signals.N, np.array(whole.recording.groups, dtype=np.str_)
    held_back = np.random.default_rng(TEST_STREAM).permutation(N)[:test]
    return whole.take(np.flatnonzero(~np.isin(group, group[held_back]))), whole.take(held_back)


@dataclass(frozen=True)
class KnownTexts:
    """An encoder that knows the texts of a recording already: embeddings (D,) or (L, D) by text."""

    embeddings: dict[str, FloatArray]

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """(n, D) or (n, L, D)."""
        return np.array([self.embeddings[text] for text in texts])

    @classmethod
    def of(cls, *parts: Part | None) -> KnownTexts | None:
        """All texts of the parts; None where there are no embeddings."""
        rows = [zip(part.recording.items, part.embeddings, strict=True) for part in parts
                if part is not None and part.embeddings is not None]  # fmt: skip
        return cls({item.text or "": row for part in rows for item, row in part}) if rows else None


def human_items(pool: Part, plan: Plan, seed: int) -> IntArray:
    """The items of the pool whose label a human gives under this seed."""
    recording, rng = pool.recording, np.random.default_rng([seed, STREAM])
    if plan.choose != "cold-start":
        return rng.permutation(recording.signals.N)[: plan.human]
    return choose(pool.labelled([]), lambda index: recording.gold[index], plan.human, rng=rng)


def replay(
    recording: Recording,
    plan: Plan,
    embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Run the plan; the answer is JSON-able and the same for any number of jobs. `embeddings` (N, D) or None."""
    plan.check(recording)
    began = time.monotonic()
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    scores: dict[str, list[Score]] = {}
    for seed, row in zip(seeds, _played(Part(recording, embeddings), plan, seeds), strict=True):
        progress(f"seed {seed}: " + ", ".join(f"{name} {score.accuracy:.4f}" for name, score in row.items()))
        for name, score in row.items():
            scores.setdefault(name, []).append(score)
    return {
        "recording": recording.name,
        "human": plan.human,
        "seeds": list(seeds),
        "results": {name: _summary(of) for name, of in scores.items()},
        "paired_gain": _gains(scores),
        "seconds": round(time.monotonic() - began, 2),
    }


def _played(whole: Part, plan: Plan, seeds: Iterable[int]) -> Iterator[dict[str, Score]]:
    """Each seed's scores, in the order of the seeds."""
    pool, test = split(whole, plan.test)
    run = Parallel(n_jobs=min(plan.jobs, plan.seeds), return_as="generator")
    yield from run(delayed(play)(pool, test, plan, seed) for seed in seeds)


def play(pool: Part, test: Part | None, plan: Plan, seed: int) -> dict[str, Score]:
    """The score of each aggregator under one seed. One BLAS thread: sums are then the same in any process."""
    with threadpool_limits(1, user_api="blas"):
        asked = human_items(pool, plan, seed)
        scores = {name: _score(name, pool, test, asked, seed) for name in plan.names}
        if plan.choose == "both":
            chosen = human_items(pool, replace(plan, choose="cold-start"), seed)
            scores[CHOSEN] = _score("auto", pool, test, chosen, seed)
    return scores


def _score(name: str, pool: Part, test: Part | None, asked: IntArray, seed: int) -> Score:
    """Fit on the pool with the labels of the items `asked`; score on the test items or on the rest of the pool."""
    scored = test or pool
    rest = np.ones(scored.recording.signals.N, dtype=np.bool_)
    if test is None:
        rest[asked] = False
    gold = scored.recording.gold
    if name == HINDSIGHT:
        return Score.of(best_annotator(scored.recording.signals, gold, rest), gold, rest)
    rng = np.random.default_rng([seed, STREAM, 1])
    if name == Auto.name:
        return Score.of(_round(pool, test, asked, rng), gold, rest)
    fitted = _make(name, pool.recording.name).fit(pool.labelled(asked), rng=rng)
    return Score.of(fitted.predict_proba(scored.recording.signals, scored.flat), gold, rest)


def _round(pool: Part, test: Part | None, asked: IntArray, rng: np.random.Generator) -> FloatArray:
    """(N, C) of the scored items by a round on the pool; test items come after it, like new texts in the service."""
    encoder = KnownTexts.of(pool, test)
    outcome = replayed(pool, asked, LoopConfig(classifier="head"), encoder, rng)
    if test is None:
        return outcome.probabilities
    return predict(outcome.state, test.recording.items, test.recording.signals, encoder)


def replayed(
    pool: Part, asked: IntArray, config: LoopConfig, encoder: Embeds | None, rng: np.random.Generator
) -> RoundOutcome:
    """The service's round on a recording, with the gold of the items `asked` as the human labels."""
    recording = pool.recording
    given = RoundInput(recording.items, recording.signals, pool.labelled(asked).targets)
    return run_round(given, config=config, encoder=encoder, rng=rng)


def _make(name: str, recording: str) -> Mixture:
    """The aggregator; the paper's with the paper's setting for this data set."""
    return Molam(boosting_for(recording)) if name == Molam.name else aggregator(name)()


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
    gains = {f"auto-{name}": paired_gain(ours, [row.accuracy for row in scores[name]]) for name in others}
    if CHOSEN in scores:
        gains["cold-start-random"] = paired_gain([row.accuracy for row in scores[CHOSEN]], ours)
    return gains
