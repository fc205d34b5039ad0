"""The mixture: one aggregator a file. Each fuses a panel's signals into one distribution an item.

`Mixture` is the contract; `aggregators()` finds every implementation in this folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from mollm.errors import ModelFileError, NotFittedError
from mollm.records import FittedState, FloatArray, Signals, Targets


class Mixture(ABC):
    """One aggregator. `fit` learns from the pool's signals and the human labels; `predict_proba` fuses.

    Learned attributes end in `_`. `fit` never changes its arguments. Rows of `predict_proba` sum to 1,
    also for an item on which every annotator is missing.
    """

    name: ClassVar[str]
    uses_embeddings: ClassVar[bool] = False

    annotators_: tuple[str, ...] = ()
    labels_: tuple[str, ...] = ()

    @abstractmethod
    def fit(
        self,
        signals: Signals,
        targets: Targets,
        *,
        rng: np.random.Generator,
        embeddings: FloatArray | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> Self:
        """Learn from N items' signals (the pool) and H human labels that index into them.

        `embeddings` (N, D) are frozen text embeddings, None where there is no text. `groups` (N,) names
        the items that share one normalised text (folds keep them together; None: all different).
        """

    @abstractmethod
    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        """(N, C) calibrated probabilities. Raises ModelFileError for another panel or label order."""

    @abstractmethod
    def state(self) -> FittedState:
        """What was learned, as arrays and JSON facts."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: FittedState) -> Self:
        """The fitted mixture again: equal rows from `predict_proba`."""

    def explain(self) -> str:
        """One line for people: what this mixture does and on what evidence."""
        return self.name

    def _check_panel(self, signals: Signals) -> None:
        if not self.labels_:
            raise NotFittedError(f"The mixture `{self.name}` has not been fitted: call fit first.")
        if signals.annotators != self.annotators_ or signals.labels != self.labels_:
            raise ModelFileError(
                f"The mixture `{self.name}` was fitted for annotators {list(self.annotators_)} and labels "
                f"{list(self.labels_)}, not for {list(signals.annotators)} and {list(signals.labels)}: refit it."
            )


def aggregators() -> dict[str, type[Mixture]]:
    """Every aggregator in this folder by name: one file, one class, nothing else to register."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[Mixture]] = {}
    pending = list(Mixture.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if kind.__module__.startswith(f"{__name__}.") and "name" in vars(kind):
            found[kind.name] = kind
    return dict(sorted(found.items()))
