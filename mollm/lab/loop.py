"""The loop on a recording: rounds of labels, a classifier after each, scored on items that nothing fitted has seen.

Of `default_rng([seed, 2]).permutation(N)` the first `test` items are for scoring the classifier, the next `batch` are
round 1's human labels whatever the strategy, the rest is the pool. Gold enters in two places: where a human is asked
(`Run.targets`), and in the scores at the end of a round, which nothing reads (method.md 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mollm.classifier.tuned import SMALLEST, mean_with
from mollm.config import LoopConfig
from mollm.errors import ConfigError, InputError
from mollm.lab import classifiers
from mollm.mixture import aggregators
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.recording import Recording
from mollm.records import FloatArray, IntArray, Targets, TrainingRow
from mollm.round.chain import Chain, Encoder
from mollm.round.run import no_op, pool_of
from mollm.strategies import Pool, strategy


@dataclass(frozen=True)
class LoopOptions:
    """One experiment. `annotate` labels what humans do not: mixture, human, an aggregator's name or an annotator's."""

    rounds: int = 10
    batch: int = 50
    test: int = 1000
    strategy: str = "random"
    annotate: str = "mixture"
    human_per_round: int = 0
    classifier: str = "head"
    negatives: bool = True
    discrepancy: bool = True
    pool_scores: bool = True  # False: only the classifier's curve is wanted, and random choice needs no prediction
    config: LoopConfig = field(default_factory=LoopConfig)

    @property
    def reads_pool(self) -> bool:
        """Does anything need a prediction for every item of the pool?"""
        return self.pool_scores or self.strategy != "random"

    def asked(self) -> int:
        """Human labels in each batch after the first."""
        return self.batch if self.annotate == "human" else min(self.human_per_round, self.batch)


@dataclass(frozen=True)
class Scores:
    """One round of one seed; None where there is nothing to score. `seconds` is the round without the scoring."""

    curve: float | None
    label_accuracy: float | None
    pool_accuracy: float | None
    rest_accuracy: float | None
    human_labels: float
    seconds: float


@dataclass
class Run:
    """One seed. `pool` and `test` index into the recording; `human` and `machine` items are indices into the pool."""

    recording: Recording
    options: LoopOptions
    seed: int
    encoder: Encoder | None
    progress: Callable[[str], None] = no_op
    probabilities: list[FloatArray] = field(default_factory=list)  # (P, C) a round, where the pool is read
    picks: list[tuple[int, ...]] = field(default_factory=list)  # a round, after the first
    scores: list[Scores] = field(default_factory=list)

    def __post_init__(self) -> None:
        N, test, batch = len(self.recording.items), self.options.test, self.options.batch
        if test + batch > N:
            raise InputError(f"{N} items are too few for {test} test items and a batch of {batch}: lower --test.")
        order = np.random.default_rng([self.seed, 2]).permutation(N)
        self.test, self.pool = order[:test], order[test:]
        self.items = [self.recording.items[n] for n in self.pool]
        self.signals = self.recording.signals.take(self.pool)
        self.human: IntArray = np.arange(batch)
        self.machine: list[TrainingRow] = []
        # A copy of a test item's text is never picked: the classifier would be scored on what it was trained on.
        in_test = {self.recording.items[n].group for n in self.test}
        self.may_pick = np.array([item.group not in in_test for item in self.items], dtype=np.bool_)
        texts = [item.text for item in self.recording.items]
        self.classifier = classifiers.make(
            self.options.classifier, self.recording.labels.C, self.options.config, self.encoder, texts, self.pool
        )

    @property
    def targets(self) -> Targets:
        """What the humans said when they were asked."""
        return Targets.of(self.human, self.recording.gold[self.pool[self.human]])

    def play(self) -> None:
        """All rounds."""
        for r in range(1, self.options.rounds + 1):
            started = time.perf_counter()
            chain = self.chain(r)
            probs, test_label = self.predict(chain, r)
            self.probabilities.extend([] if probs is None else [probs])
            picking = r < self.options.rounds
            batch = self.pick(chain, probs, r) if picking else np.empty(0, dtype=np.int64)
            self.score(probs, test_label, time.perf_counter() - started)
            self.progress(f"seed {self.seed} round {r}: {self.scores[-1]}")
            if not len(batch):
                continue
            self.picks.append(tuple(batch.tolist()))
            asked = self.options.asked()
            self.machine.extend(self.annotate(chain, batch[asked:]))
            self.human = np.concatenate([self.human, batch[:asked]])

    def chain(self, r: int) -> Chain:
        rng = np.random.default_rng([self.seed, 2, r])
        chain = Chain.start(
            self.items, self.signals, self.targets, config=self.options.config, encoder=self.encoder,
            round_index=r, rng=rng,
        )  # fmt: skip
        if self.machine:
            chain.mixture_items = np.array([row.item for row in self.machine], dtype=np.int64)
        return chain

    def predict(self, chain: Chain, r: int) -> tuple[FloatArray | None, IntArray | None]:
        """(P, C) the pool's prediction where it is needed, and (T,) the classifier's labels of the test items.

        With human rows alone the classifier stands on the panel's held-out posterior as its offset, and the
        prediction is its geometric mean with the mixture. Rows that the mixture labelled would teach it nothing
        beyond such an offset: where there will be any, it reads the text alone from the first round, as in the paper.
        """
        probs = chain.fused()[1] if self.options.reads_pool else None
        if self.classifier is None:
            return probs, None
        rows = [
            TrainingRow(int(self.pool[row.item]), row.label, row.weight, row.negatives, row.human)
            for row in (*self.human_rows(), *self.machine)
        ]
        if self.options.asked() < self.options.batch or self.options.classifier == "head":
            self.classifier.fit(rows, r, None, self.seed)
            return probs, np.asarray(self.classifier.logits(self.test).argmax(axis=1))
        offset = np.zeros((len(self.recording.items), self.recording.labels.C))
        offset[self.pool] = np.log(np.maximum(chain.panel_held_out(), SMALLEST))
        offset[self.test] = np.log(np.maximum(self.panel_of_test(chain), SMALLEST))
        self.classifier.fit(rows, r, offset, self.seed)
        test_logits = offset[self.test] + self.classifier.logits(self.test)
        if probs is not None:
            probs = mean_with(probs, offset[self.pool] + self.classifier.logits(self.pool), chain.has_text)
        return probs, np.asarray(test_logits.argmax(axis=1))

    def panel_of_test(self, chain: Chain) -> FloatArray:
        """(T, C): the panel's mixture on the test items, which it has never seen."""
        return chain.panel_mixture().predict_proba(self.recording.signals.take(self.test))

    def human_rows(self) -> list[TrainingRow]:
        targets = self.targets
        return [TrainingRow(int(n), int(c), human=True) for n, c in zip(targets.index, targets.label, strict=True)]

    def pick(self, chain: Chain, probs: FloatArray | None, r: int) -> IntArray:
        open_items = self.may_pick.copy()
        open_items[self.human] = False
        open_items[[row.item for row in self.machine]] = False
        if probs is None:
            flat = np.full((len(self.pool), chain.signals.C), 1 / chain.signals.C)
            pool = Pool(flat, np.flatnonzero(open_items), self.human)
        else:
            pool = pool_of(chain, probs, chain.crossfitted(), open_items)
        rng = np.random.default_rng([self.seed, 2, r, 1])
        return strategy(self.options.strategy)(pool, self.options.batch, rng).index

    def annotate(self, chain: Chain, batch: IntArray) -> list[TrainingRow]:
        """The rows that `options.annotate` labels, with the parts of the robust loss that are on."""
        if not len(batch):
            return []
        options, probs = self.options, opinion(chain, self.options.annotate)[batch]
        label = probs.argmax(axis=1)
        weight: FloatArray = np.ones(len(batch))
        if options.annotate == "mixture" and options.config.confidence_weights == "on":
            weight = probs.max(axis=1) ** 2
        if options.discrepancy and self.classifier is not None:
            differs = self.classifier.logits(self.pool[batch]).argmax(axis=1) != label
            weight = np.where(differs, options.config.alpha, 1.0) * weight
        panel, config, nothing = mean_probs(chain.signals)[batch], options.config, Targets.of([], [])
        found = negative_labels(probs, panel, nothing, target=config.negative_precision, rule=config.negative_rule)
        never = found.mask & options.negatives
        return [
            TrainingRow(int(n), int(label[j]), float(weight[j]), tuple(np.flatnonzero(never[j]).tolist()))
            for j, n in enumerate(batch)
        ]

    def score(self, probs: FloatArray | None, test_label: IntArray | None, seconds: float) -> None:
        """Gold against what was said. Nothing reads these numbers but the report."""
        gold = self.recording.gold[self.pool]
        asked = np.zeros(len(gold), dtype=np.bool_)
        asked[self.human] = True
        right = None if probs is None else probs.argmax(axis=1) == gold
        machine = np.array([row.label == gold[row.item] for row in self.machine], dtype=np.bool_)
        curve = None if test_label is None else test_label == self.recording.gold[self.test]
        pool, rest = (None, None) if right is None else (share(right | asked), share(right[~asked]))
        self.scores.append(Scores(share(curve), share(machine), pool, rest, float(asked.sum()), seconds))


def share(right: Sequence[bool] | np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None) -> float | None:
    """The mean of what is right; None of nothing."""
    return None if right is None or not len(right) else float(np.mean(right))


def opinion(chain: Chain, name: str) -> FloatArray:
    """(P, C): what `name` says of the pool. The mixture's never holds the classifier's own vote."""
    if name in ("mixture", "human"):
        return chain.with_text()
    if name in chain.signals.annotators:
        return np.nan_to_num(chain.signals.label_probs[:, chain.signals.annotators.index(name)])
    if name not in aggregators():
        raise ConfigError(
            f"--annotate {name!r} is none of mixture, human, {', '.join(aggregators())} "
            f"or the annotators {', '.join(chain.signals.annotators)}."
        )
    fitted = aggregators()[name]().fit(chain.signals, chain.targets, rng=chain.rng(6, frozenset()), groups=chain.groups)
    return fitted.predict_proba(chain.signals)


def replay(
    recording: Recording,
    options: LoopOptions,
    seeds: Sequence[int],
    encoder: Encoder | None,
    progress: Callable[[str], None] = no_op,
) -> dict[str, object]:
    """The report of `mollm replay loop`: means over seeds, a number a round, None where there is none."""
    runs = [Run(recording, options, seed, encoder, progress) for seed in seeds]
    for run in runs:
        run.play()
    return report([run.scores for run in runs])


def report(by_seed: Sequence[Sequence[Scores]]) -> dict[str, object]:
    """`curve` as mean and per seed, every other score as its mean over seeds."""

    def mean(name: str, r: int) -> float | None:
        found = [getattr(scores[r], name) for scores in by_seed]
        return None if any(value is None for value in found) else float(np.mean(found))

    R = len(by_seed[0]) if by_seed else 0
    names = ("label_accuracy", "pool_accuracy", "rest_accuracy", "human_labels", "seconds")
    curve = {
        "mean": [mean("curve", r) for r in range(R)],
        "per_seed": [[score.curve for score in scores] for scores in by_seed],
    }
    return {"curve": curve} | {name: [mean(name, r) for r in range(R)] for name in names}
