"""The mixture: one aggregator a file. Each fuses a panel's signals into one distribution an item.

`Mixture` is the contract; `aggregators()` finds every implementation, in this folder and in installed packages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from mollm.errors import ConfigError, InputError, ModelFileError, NotFittedError
from mollm.plugins import Room, a_class
from mollm.records import FittedState, FloatArray, Signals, Targets


class Mixture(ABC):
    """One aggregator. `fit` learns from the pool's signals and the human labels; `predict_proba` fuses.

    Learned attributes end in `_`. `fit` never changes its arguments. Rows of `predict_proba` sum to 1,
    also for an item on which every annotator is missing.
    """

    name: ClassVar[str]

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

    def _remember(self, signals: Signals, targets: Targets) -> None:
        """Start a fit: check the targets against the pool and remember for whom the fit holds."""
        if targets.H and (targets.index.min() < 0 or targets.index.max() >= signals.N):
            raise InputError(f"A human label points outside the {signals.N} items: build Targets on this pool.")
        if targets.H and (targets.label.min() < 0 or targets.label.max() >= signals.C):
            raise InputError(f"A human label is not one of the {signals.C} labels: build Targets on this label set.")
        self.annotators_, self.labels_ = signals.annotators, signals.labels

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


_fits = a_class(Mixture, "name", "__init__", "fit", "predict_proba")
ROOM: Room[type[Mixture]] = Room(__name__, "mollm.aggregators", "aggregator", _fits, parts=True)


def aggregators() -> dict[str, type[Mixture]]:
    """Every aggregator by name: one file here with one class of its name, or an entry point `mollm.aggregators`."""
    return ROOM.found()


def aggregator(name: str) -> type[Mixture]:
    """An aggregator by name. Raises ConfigError that lists what there is, or says why this one does not fit."""
    return ROOM.get(name)
