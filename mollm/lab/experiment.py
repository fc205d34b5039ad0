"""The loop on a recording: rounds of labels, a new model after each, scored on items that nothing fitted has seen.

Of `default_rng([seed, 2]).permutation(N)` the first `test` items are for scoring, the next `batch` are round 1's human
labels whatever the strategy, the rest is the pool. Gold enters in two places: where a human is asked
(`Run.targets`), and in the scores at the end of a round, which nothing reads (method.md 4).

Where people give every label, each round is the service's own (`served_loop`). Where the mixture or an LLM labels a
part of each batch, the paper's loop is run (`paper_loop`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.recording import Recording
from mollm.records import BoolArray, FloatArray, IntArray, Targets, TrainingRow
from mollm.round.chain import Embeds
from mollm.round.run import RoundInput, no_op


@dataclass(frozen=True)
class LoopOptions:
    """One experiment. `annotate` labels what humans do not: mixture, human, an aggregator's name or an annotator's."""

    rounds: int = 10
    batch: int = 50
    test: int = 1000
    strategy: str = "random"
    annotate: str = "mixture"
    human_per_round: int = 0
    classifier: str = "auto"
    negatives: bool = True
    discrepancy: bool = True
    paper: bool = False  # the paper's loop and its curve, also where people give every label (its ORACLE)
    config: LoopConfig = field(default_factory=LoopConfig)

    def asked(self) -> int:
        """Human labels in each batch after the first."""
        return self.batch if self.annotate == "human" else min(self.human_per_round, self.batch)

    @property
    def served(self) -> bool:
        """Is each round the service's own?"""
        return not self.paper and self.asked() == self.batch

    def loop_config(self) -> LoopConfig:
        """The round's settings with this experiment's choices in them."""
        off = {name: "off" for name, on in (("negatives", self.negatives), ("discrepancy_weights", self.discrepancy))
               if not on}  # fmt: skip
        own = {"strategy": self.strategy, "batch_size": self.batch, "reserve": 0, "classifier": self.classifier}
        return LoopConfig.model_validate(self.config.model_dump() | own | off)


@dataclass(frozen=True)
class Scores:
    """One round of one seed; None where there is nothing to score. `seconds` is the round without the scoring.

    `curve` is the accuracy on the test items: of the served prediction, or in the paper's loop of the classifier.
    """

    curve: float | None
    label_accuracy: float | None
    pool_accuracy: float | None
    rest_accuracy: float | None
    human_labels: float
    seconds: float


@dataclass(frozen=True)
class Step:
    """What a round brings: (P, C) of the pool, (T,) labels of the test items, the next batch and its machine's rows."""

    probs: FloatArray | None
    test_label: IntArray | None
    batch: IntArray
    machine: Sequence[TrainingRow] = ()


@dataclass
class Run(ABC):
    """One seed. `pool` and `test` index into the recording; `human` and `machine` items are indices into the pool."""

    recording: Recording
    options: LoopOptions
    seed: int
    encoder: Embeds | None
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

    @property
    def targets(self) -> Targets:
        """What the humans said when they were asked."""
        return Targets.of(self.human, self.recording.gold[self.pool[self.human]])

    @property
    def open_items(self) -> BoolArray:
        """(P,) what may be picked."""
        free = self.may_pick.copy()
        free[self.human] = False
        free[[row.item for row in self.machine]] = False
        return free

    @abstractmethod
    def step(self, r: int) -> Step:
        """Round r; the last round's batch is not used."""

    def play(self) -> None:
        """All rounds."""
        for r in range(1, self.options.rounds + 1):
            started = time.perf_counter()
            step = self.step(r)
            if step.probs is not None:
                self.probabilities.append(step.probs)
            self.score(step, time.perf_counter() - started)
            self.progress(f"seed {self.seed} round {r}: {self.scores[-1]}")
            if r == self.options.rounds or not len(step.batch):
                continue
            self.picks.append(tuple(step.batch.tolist()))
            self.machine.extend(step.machine)
            self.human = np.concatenate([self.human, step.batch[: self.options.asked()]])

    def given(self, r: int) -> RoundInput:
        """What round r starts from."""
        return RoundInput(self.items, self.signals, self.targets, r, self.open_items)

    def stream(self, r: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 2, r])

    def score(self, step: Step, seconds: float) -> None:
        """Gold against what was said. Nothing reads these numbers but the report."""
        gold = self.recording.gold[self.pool]
        asked = np.zeros(len(gold), dtype=np.bool_)
        asked[self.human] = True
        right = None if step.probs is None else step.probs.argmax(axis=1) == gold
        machine = np.array([row.label == gold[row.item] for row in self.machine], dtype=np.bool_)
        curve = None if step.test_label is None else step.test_label == self.recording.gold[self.test]
        pool, rest = (None, None) if right is None else (share(right | asked), share(right[~asked]))
        self.scores.append(Scores(share(curve), share(machine), pool, rest, float(asked.sum()), seconds))


def share(right: Sequence[bool] | np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None) -> float | None:
    """The mean of what is right; None of nothing."""
    return None if right is None or not len(right) else float(np.mean(right))
