"""What the fixed baselines share: nothing is learned but whose panel it is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np

from mollm.mixture import Mixture
from mollm.records import FittedState, FloatArray, Pool, Signals


class Unlearned(Mixture):
    """A fixed rule: one distribution an item from that item's signals alone."""

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        """Nothing: a fixed rule."""

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        return self.rule(signals)

    @staticmethod
    @abstractmethod
    def rule(signals: Signals) -> FloatArray:
        """(N, C) distributions."""

    def state(self) -> FittedState:
        return FittedState(self.name, {}, self._facts())

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        return cls()._recall(state)
