"""The default: the ladder from the log-odds pool to the stacked mixture (see `mollm.mixture.ladder`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from mollm.errors import ModelFileError
from mollm.folds import folds
from mollm.mixture import Mixture, aggregators
from mollm.mixture.calibration import at_temperature
from mollm.mixture.ladder import Climbed, Ladder
from mollm.mixture.logpool import LogPool
from mollm.mixture.stacked import Stacked, in_item_order
from mollm.records import FittedState, FloatArray, Pool, Signals
from mollm.streams import stream

FOLDS = 5
"""Of the cross-validation: each fit keeps four fifths of the labels."""
RUNGS = (LogPool.name, Stacked.name)


class Auto(Mixture):
    name: ClassVar[str] = "auto"

    chosen_: Mixture
    temperature_: float = 1.0
    losses_: Mapping[str, float]
    human_: int = 0

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        self._stand_on(climbed(pool, rng))

    @classmethod
    def of(cls, climbed: Climbed) -> Self:
        """The mixture of a ladder that was climbed elsewhere (in a round, with the classifier in the panel)."""
        found = cls()
        found.annotators_, found.labels_ = climbed.mixture.annotators_, climbed.mixture.labels_
        found._stand_on(climbed)
        return found

    def _stand_on(self, climbed: Climbed) -> None:
        self.chosen_, self.temperature_ = climbed.mixture, climbed.temperature
        self.losses_, self.human_ = climbed.losses, climbed.human

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        return at_temperature(self.chosen_.predict_proba(signals, embeddings), self.temperature_)

    def state(self) -> FittedState:
        below = self.chosen_.state()
        facts = {
            **self._facts(),
            "human": self.human_,
            "temperature": self.temperature_,
            "losses": dict(self.losses_),
            "rung": below.kind,
            "rung_facts": dict(below.facts),
        }
        return FittedState(self.name, below.arrays, facts)

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        kinds = aggregators()
        rung, facts, losses = (state.facts.get(name) for name in ("rung", "rung_facts", "losses"))
        if rung not in kinds or not isinstance(facts, dict) or not isinstance(losses, dict):
            raise ModelFileError(f"The state of `auto` stands on an unknown rung {rung!r}: refit the mixture.")
        found.chosen_ = kinds[str(rung)].from_state(FittedState(str(rung), state.arrays, facts))
        found.temperature_ = float(str(state.facts["temperature"]))
        found.human_ = int(str(state.facts["human"]))
        found.losses_ = {str(name): float(loss) for name, loss in losses.items()}
        return found

    def explain(self) -> str:
        if not self.losses_:
            why = f"{self.human_} human labels are too few (or of one class) to compare rungs"
        else:
            scores = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses_.items())
            how = "clearly the lowest" if self.chosen_.name == LogPool.name else "no clearly higher"
            why = f"{how} cross-fitted log-loss on {self.human_} human labels ({scores})"
        return f"auto stands on `{self.chosen_.name}`: {why}; temperature {self.temperature_:.2f}"


def climbed(pool: Pool, rng: np.random.Generator) -> Climbed:
    """The ladder on one pool, climbed by all its labels."""
    pool = in_item_order(pool)
    seed = int(rng.integers(2**31))
    index, fold = pool.targets.index, np.zeros(pool.signals.N, dtype=np.int64)
    groups = [pool.group_names[n] for n in index]
    fold[index] = folds(groups, FOLDS, stream(seed, "folds"), pool.targets.label)
    return Ladder(RUNGS, pool, fold, seed).climb()
