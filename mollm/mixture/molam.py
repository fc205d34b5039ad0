"""MoLAM, the paper's mixture (Qi et al. 2026, section 1 of method.md): XGBoost on [z, c] and self-training.

The published code keeps the best of 10 seeds and up to 100 self-training steps *by accuracy on all true
labels*. Here nothing is selected: a fixed number of steps, human labels only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mollm.mixture import Mixture
from mollm.mixture.evidence import normalised, one_hot, panel_order
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.text_view import clamped
from mollm.plugins import optional
from mollm.records import BoolArray, FittedState, FloatArray, IntArray, Pool, Signals

SIGMA = 0.9
"""The paper's threshold for self-training, on the top probability."""
STEPS = 3
"""Self-training steps; hardly an item is added after the third."""


@dataclass(frozen=True)
class Boosting:
    """The paper's XGBoost settings."""

    learning_rate: float = 0.05
    depth: int = 6
    trees: int = 300


PAPER = {
    "ag_news": Boosting(0.07, 5, 300),
    "imdb": Boosting(0.01, 5, 300),
    "trec": Boosting(0.05, 6, 300),
    "pubmed": Boosting(0.01, 3, 500),
}


def boosting_for(recording: str) -> Boosting:
    """The paper's setting for a data set by its name, TREC's (its middle one) for any other."""
    plain = "".join(c for c in recording.lower() if c.isalnum())
    found = [setting for name, setting in PAPER.items() if plain.startswith(name.replace("_", "")[:6])]
    return found[0] if found else Boosting()


def _xgboost() -> Any:
    return optional("xgboost", "The aggregator `molam`")


class Molam(Mixture):
    name: ClassVar[str] = "molam"

    order_: IntArray
    booster_: Any = None
    added_: int = 0

    def __init__(self, boosting: Boosting | None = None, steps: int = STEPS) -> None:
        self.boosting, self.steps = boosting or Boosting(), steps

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        signals, targets = pool.signals, pool.targets
        self.order_, self.booster_, self.added_ = panel_order(signals), None, 0
        seed = int(rng.integers(2**31))
        if not targets.H:
            return
        X = self._features(signals)
        label = clamped(
            np.zeros((signals.N, signals.C)), targets.index, one_hot(targets.label, signals.C), targets.weight
        )
        chosen: BoolArray = label.sum(axis=1) > 0
        self.booster_ = self._boost(X[chosen], label[chosen], seed)
        for _ in range(self.steps):
            probs = self._boosted(X)
            new = (probs.max(axis=1) > SIGMA) & ~chosen
            if not new.any():
                break
            label[new] = one_hot(probs[new].argmax(axis=1), signals.C)
            chosen |= new
            self.added_ += int(new.sum())
            self.booster_ = self._boost(X[chosen], label[chosen], seed)

    def _boost(self, X: FloatArray, Y: FloatArray, seed: int) -> Any:
        """One `binary:logistic` output a class; a class that nobody has shown is a column of zeros."""
        xgboost = _xgboost()
        setting = {
            "objective": "binary:logistic",
            "eta": self.boosting.learning_rate,
            "max_depth": self.boosting.depth,
            "tree_method": "hist",
            "max_bin": 64,  # the votes have eleven values; coarser bins change no figure and halve the time
            "nthread": 1,  # a few thousand rows: threads wait for each other longer than they work
            "seed": seed,
            "verbosity": 0,
        }
        return xgboost.train(setting, xgboost.DMatrix(X, label=Y), num_boost_round=self.boosting.trees)

    def _boosted(self, X: FloatArray) -> FloatArray:
        """(n, C) each class's own probability; rows do not sum to 1."""
        matrix = _xgboost().DMatrix(X)
        return np.asarray(self.booster_.predict(matrix), dtype=np.float64).reshape(len(X), -1)

    def _features(self, signals: Signals) -> FloatArray:
        """h(x) = [z_1, c_1, ..., z_M, c_M] (N, 2 M C), raw as the paper takes them; silence is NaN."""
        z = np.where(signals.missing[..., None], np.nan, signals.label_probs)
        both = np.stack([z, signals.votes], axis=2)[:, self.order_]
        return both.reshape(signals.N, 2 * signals.M * signals.C)

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        if self.booster_ is None:
            return mean_probs(signals)
        return normalised(self._boosted(self._features(signals)))

    def state(self) -> FittedState:
        raw = bytes(self.booster_.save_raw("json")) if self.booster_ is not None else b""
        arrays: Mapping[str, NDArray[np.generic]] = {
            "order": self.order_,
            "booster": np.frombuffer(raw, dtype=np.uint8),
        }
        return FittedState(self.name, arrays, {**self._facts(), "added": self.added_})

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        found.order_ = np.asarray(state.arrays["order"], dtype=np.int64)
        found.added_ = int(str(state.facts["added"]))
        raw = bytearray(np.asarray(state.arrays["booster"], dtype=np.uint8).tobytes())
        if raw:
            found.booster_ = _xgboost().Booster()
            found.booster_.load_model(raw)
        return found

    def explain(self) -> str:
        return f"molam: XGBoost on [z, c], {self.added_} items added by self-training at {SIGMA}"
