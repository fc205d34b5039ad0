"""The mixture: one aggregator a file. Each fuses a panel's signals into one distribution an item.

`Mixture` is the contract; `aggregators()` finds every implementation, in this folder and in installed packages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from mollm.errors import ConfigError, ModelFileError, NotFittedError
from mollm.plugins import Room, a_class
from mollm.records import FittedState, FloatArray, Pool, Signals


class Mixture(ABC):
    """One aggregator: it learns from a pool (`learn`) and fuses signals into one distribution an item (`fuse`).

    Learned attributes end in `_`. Neither method changes its arguments.
    """

    name: ClassVar[str]

    annotators_: tuple[str, ...] = ()
    labels_: tuple[str, ...] = ()

    def fit(self, pool: Pool, *, rng: np.random.Generator) -> Self:
        """Learn from the signals of N items and the human labels of H of them (H may be 0)."""
        self.annotators_, self.labels_ = pool.signals.annotators, pool.signals.labels
        self.learn(pool, rng)
        return self

    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        """(N, C) probabilities; rows sum to 1, also where every annotator is missing.

        `embeddings` (N, D) are the items' texts, where the mixture was fitted with texts. Raises NotFittedError before
        `fit`, ModelFileError for another panel or label order.
        """
        self._check_panel(signals)
        return self.fuse(signals, embeddings)

    @abstractmethod
    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        """Set the learned attributes."""

    @abstractmethod
    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        """(N, C) probabilities, rows sum to 1."""

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

    def _facts(self) -> dict[str, object]:
        return {"annotators": list(self.annotators_), "labels": list(self.labels_)}

    def _recall(self, state: FittedState) -> Self:
        """Start a load: refuse the state of another kind of mixture."""
        if state.kind != self.name:
            raise ModelFileError(
                f"This is the state of a `{state.kind}` mixture, not of `{self.name}`: load it as that."
            )
        try:
            annotators, labels = state.facts["annotators"], state.facts["labels"]
        except KeyError as missing:
            raise ModelFileError(f"The state of `{self.name}` lacks {missing}: refit the mixture.") from None
        if not isinstance(annotators, list | tuple) or not isinstance(labels, list | tuple):
            raise ModelFileError(f"The state of `{self.name}` names no panel: refit the mixture.")
        self.annotators_, self.labels_ = tuple(map(str, annotators)), tuple(map(str, labels))
        return self

    def _check_panel(self, signals: Signals) -> None:
        if not self.labels_:
            raise NotFittedError(f"The mixture `{self.name}` has not been fitted: call fit first.")
        if signals.annotators != self.annotators_ or signals.labels != self.labels_:
            raise ModelFileError(
                f"The mixture `{self.name}` was fitted for annotators {list(self.annotators_)} and labels "
                f"{list(self.labels_)}, not for {list(signals.annotators)} and {list(signals.labels)}: refit it."
            )


def from_state(state: FittedState) -> Mixture:
    """Any fitted mixture again, by the kind its state names. Raises ModelFileError for an unknown kind."""
    try:
        kind = aggregator(state.kind)
    except ConfigError as unknown:
        raise ModelFileError(f"{unknown} Or refit the mixture.") from None
    return kind.from_state(state)


_fits = a_class(Mixture, "name", "__init__", "fit", "learn", "predict_proba", "fuse")
ROOM: Room[type[Mixture]] = Room(__name__, "mollm.aggregators", "aggregator", _fits, parts=True)


def aggregators() -> dict[str, type[Mixture]]:
    """Every aggregator by name: one file here with one class of its name, or an entry point `mollm.aggregators`."""
    return ROOM.found()


def aggregator(name: str) -> type[Mixture]:
    """An aggregator by name. Raises ConfigError that lists what there is, or says why this one does not fit."""
    return ROOM.get(name)
