"""Softmax regression on frozen embeddings, trained with the robust loss: seconds where tuning takes minutes.

    logits = offset + scaled(x) W + b,    loss = robust_loss + ridge / (2 J) (|W|^2 + |b|^2 / 10)

Without negatives the problem is convex. The offset (N, C) is fixed: with the panel's log-posterior there, the text
only learns what the panel does not know already (method.md 3c). The ridge on b is weak but not zero, so that no class
becomes impossible because no row has shown it yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from mollm.blas import one_thread
from mollm.errors import InputError, ModelFileError, NotFittedError
from mollm.losses import Rows, robust_loss
from mollm.records import FittedState, FloatArray

BIAS_RIDGE = 0.1  # of the weights' ridge
RIDGE = 0.3  # of a round's head, against a sum over its rows (chosen by hand: larger leaves more to the panel)
SMALLEST = 1e-3  # of the largest spread: a dimension that varies less is constant but for rounding, and is left out


@dataclass
class Head:
    """`fit` on J rows over N items, then `predict_proba` (N, C). Learned attributes end in `_`."""

    C: int
    ridge: float = 1.0
    strength: float = 0.0
    each: bool = True  # every dimension is brought to the same spread; False: they keep their proportions
    max_iter: int = 300
    mean_: FloatArray = field(default_factory=lambda: np.zeros(0))
    scale_: FloatArray = field(default_factory=lambda: np.ones(0))
    W_: FloatArray | None = None
    b_: FloatArray | None = None

    def fit(self, embeddings: FloatArray, rows: Rows, offset: FloatArray | None = None) -> Self:
        """Learn from `embeddings` (N, D) at the rows' items; `offset` (N, C) is in nats (None: zeros).

        All N items set the scale, so that unlabelled ones help too.
        """
        if rows.negatives.shape[1] != self.C:
            raise InputError(f"The head has {self.C} classes, its training rows {rows.negatives.shape[1]}.")
        D = embeddings.shape[1]
        self.mean_ = embeddings.mean(axis=0) if len(embeddings) else np.zeros(D)
        spread = embeddings.std(axis=0) if len(embeddings) else np.ones(D)
        if self.each:
            self.scale_ = np.where(spread > SMALLEST * spread.max(initial=0.0), spread, np.inf) * np.sqrt(D)
        else:
            self.scale_ = np.full(D, float(np.linalg.norm(spread)) or np.inf)
        x = (embeddings[rows.item] - self.mean_) / self.scale_
        shift = offset[rows.item] if offset is not None else np.zeros((rows.J, self.C))
        with one_thread():
            basis = span(x)
            W, self.b_ = self._solve(x @ basis.T, rows, shift)
        self.W_ = basis.T @ W
        return self

    def _solve(self, x: FloatArray, rows: Rows, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Minimise over W (K, C) and b (C,) with L-BFGS from zero."""
        K, C = x.shape[1], self.C
        features = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        penalty = np.full((K + 1, 1), self.ridge / max(rows.J, 1))
        penalty[-1] *= BIAS_RIDGE

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            theta = flat.reshape(K + 1, C)
            value, gradient = robust_loss(features @ theta + shift, rows, self.strength)
            value += 0.5 * float((penalty * theta**2).sum())
            return value, (features.T @ gradient + penalty * theta).ravel()

        found = minimize(objective, np.zeros((K + 1) * C), jac=True, method="L-BFGS-B",
                         options={"maxiter": self.max_iter, "ftol": 1e-9, "gtol": 1e-6})  # fmt: skip
        theta = np.asarray(found.x, dtype=np.float64).reshape(K + 1, C)
        return theta[:-1], theta[-1]

    def logits(self, embeddings: FloatArray, offset: FloatArray | None = None) -> FloatArray:
        """(N, C) in nats."""
        if self.W_ is None or self.b_ is None:
            raise NotFittedError("The head has not been fitted: call fit first.")
        if embeddings.shape[1] != len(self.W_):
            raise ModelFileError(
                f"The head was trained on {len(self.W_)}-dimensional embeddings, not on {embeddings.shape[1]}: "
                "retrain it, or restore its encoder."
            )
        out = (embeddings - self.mean_) @ (self.W_ / self.scale_[:, None]) + self.b_
        return np.asarray(out if offset is None else out + offset, dtype=np.float64)

    def predict_proba(self, embeddings: FloatArray, offset: FloatArray | None = None) -> FloatArray:
        """(N, C), rows sum to 1."""
        return np.asarray(softmax(self.logits(embeddings, offset), axis=1), dtype=np.float64)

    def state(self) -> FittedState:
        """Arrays and facts; `from_state` gives equal rows."""
        if self.W_ is None or self.b_ is None:
            raise NotFittedError("The head has not been fitted: call fit first.")
        arrays = {"mean": self.mean_, "scale": self.scale_, "W": self.W_, "b": self.b_}
        return FittedState("head", arrays, {"ridge": self.ridge, "strength": self.strength})

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        """Raises ModelFileError for a state of another kind or with missing or bent arrays."""
        try:
            names = ("mean", "scale", "W", "b")
            mean, scale, W, b = (np.asarray(state.arrays[name], dtype=np.float64) for name in names)
            ridge, strength = (float(str(state.facts[name])) for name in ("ridge", "strength"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"The saved head cannot be read ({error!r}): train again.") from None
        if (
            state.kind != "head"
            or W.shape != (len(mean), len(b))
            or scale.shape != mean.shape
            or not np.isfinite(W).all()
        ):
            raise ModelFileError(f"The saved head (kind {state.kind!r}, W {W.shape}) is not usable: train again.")
        return cls(len(b), ridge, strength, mean_=mean, scale_=scale, W_=W, b_=b)


def span(x: FloatArray) -> FloatArray:
    """(K, D) orthonormal rows that hold the rows of `x` (J, D): the optimum lies there, in min(J, D) dimensions."""
    J, D = x.shape
    if J >= D:
        return np.eye(D)
    return np.asarray(np.linalg.svd(x, full_matrices=False)[2] if J else np.zeros((0, D)), dtype=np.float64)
