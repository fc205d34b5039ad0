"""Two small forests over the panel's evidence: where the conditional logit is too sure, they disagree with it.

A fitted forest is never stored; its few human-labelled rows and its seed are, and it is grown again from them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from mollm.records import FloatArray, IntArray

TREES = 50  # of each of the two (chosen by hand: more are smoother and slower)


@dataclass(frozen=True)
class Forest:
    """Grown from rows X (H, D), their labels (H,), weights (H,) and a seed; C classes."""

    X: FloatArray
    label: IntArray
    weight: FloatArray
    seed: int
    C: int
    grown: list[Any] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        with warnings.catch_warnings():
            # Of a long list most labels have been shown once: sklearn asks for each tree whether that is a regression.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            for kind in (ExtraTreesClassifier, RandomForestClassifier):
                trees = kind(TREES, random_state=self.seed, n_jobs=1)
                self.grown.append(trees.fit(self.X.astype(np.float32), self.label, sample_weight=self.weight))

    def proba(self, X: FloatArray, unseen: FloatArray) -> FloatArray:
        """(n, C) the mean of both. `unseen` (n, C) gives the mass of classes that no human has shown yet."""
        seen = np.unique(self.label)
        votes = np.zeros((len(X), self.C))
        for trees in self.grown:
            votes[:, seen] += trees.predict_proba(X.astype(np.float32)) / len(self.grown)
        never = np.setdiff1d(np.arange(self.C), seen)
        left = unseen[:, never]
        votes *= 1.0 - left.sum(axis=1, keepdims=True)
        votes[:, never] = left
        return votes

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"forest_X": self.X, "forest_label": self.label, "forest_weight": self.weight}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], seed: int, C: int) -> Forest:
        X, label, weight = (np.asarray(arrays[f"forest_{name}"]) for name in ("X", "label", "weight"))
        return cls(X, label, weight, seed, C)
