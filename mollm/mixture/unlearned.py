"""What the fixed baselines share: nothing is learned but whose panel it is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np

from mollm.mixture import Mixture
from mollm.records import FittedState, FloatArray, Signals, Targets


class Unlearned(Mixture):
    """A fixed rule: one distribution an item from that item's signals alone."""

    def fit(
        self,
        signals: Signals,
        targets: Targets,
        *,
        rng: np.random.Generator,
        embeddings: FloatArray | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> Self:
        self._remember(signals, targets)
        return self

    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        self._check_panel(signals)
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
