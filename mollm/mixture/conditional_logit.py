"""The conditional logit: one shared weight a signal, class biases, and a penalised matrix of everything else.

    logit[n, k] = sum_s weight[s] * F[n, s, k] + bias[k] + sum_d X[n, d] * matrix[d, k]

All of it is one convex problem. The penalties are fixed against a *sum* over human labels, so each of
them fades as labels grow: first the few shared weights move, then the classes, then the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from mollm.blas import one_thread
from mollm.records import FloatArray


@dataclass(frozen=True)
class Penalties:
    """Ridges on the weights' distances from their prior: `level` on the mean of them, `spread` on the rest."""

    level: float = 1.0
    spread: float = 20.0
    bias: float = 0.5


@dataclass(frozen=True)
class ConditionalLogit:
    """Fitted parameters: `weight` (S,), `bias` (C,) nats, `matrix` (D, C)."""

    weight: FloatArray
    bias: FloatArray
    matrix: FloatArray

    def logits(self, F: FloatArray, X: FloatArray) -> FloatArray:
        """(n, C) from shared-weight evidence F (n, S, C) and free evidence X (n, D)."""
        return np.asarray(np.einsum("nsc,s->nc", F, self.weight) + self.bias + X @ self.matrix)


def _span(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The rows of X in an orthonormal basis of their own span: (H, r) and the basis (D, r), r <= H."""
    left, size, right = np.linalg.svd(X, full_matrices=False)
    kept = size > 1e-9 * max(1.0, float(size.max(initial=0.0)))
    return left[:, kept] * size[kept], right[kept].T


def fit(
    F: FloatArray,
    X: FloatArray,
    ridge: FloatArray,
    Y: FloatArray,
    row_weight: FloatArray,
    prior: FloatArray,
    bias: FloatArray,
    penalties: Penalties,
) -> ConditionalLogit:
    """The maximum of the penalised likelihood.

    F (H, S, C), X (H, D) with one `ridge` (D,) a column, Y (H, C) label distributions, `row_weight` (H,);
    `prior` (S,) are the shared weights and `bias` (C,) the class biases before any label. Solved in
    the span of the H rows (the ridge puts the optimum there), so D may be far larger than H.
    """
    H, S, C = F.shape
    if not H:
        return ConditionalLogit(prior, bias, np.zeros((X.shape[1], C)))
    scale = 1.0 / np.sqrt(ridge)
    with one_thread():
        G, basis = _span(X * scale)
    cut = S + C

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        weight, biases, free = theta[:S], theta[S:cut], theta[cut:].reshape(-1, C)
        moved = biases - bias
        logits = np.einsum("hsc,s->hc", F, weight) + biases + G @ free
        top = logits.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
        level = (weight - prior).mean()
        spread = weight - prior - level
        loss = (row_weight * (log_sum - (Y * logits).sum(axis=1))).sum()
        loss += 0.5 * (penalties.level * S * level**2 + penalties.spread * (spread**2).sum())
        loss += 0.5 * (penalties.bias * (moved**2).sum() + (free**2).sum())
        residual = row_weight[:, None] * (np.exp(logits - log_sum[:, None]) - Y)
        slope = np.einsum("hsc,hc->s", F, residual) + penalties.spread * spread + penalties.level * level
        gradient = [slope, residual.sum(axis=0) + penalties.bias * moved, (G.T @ residual + free).ravel()]
        return float(loss), np.concatenate(gradient)

    start = np.zeros(cut + G.shape[1] * C)
    start[:S], start[S:cut] = prior, bias
    options = {"maxiter": 500, "ftol": 1e-10}
    with one_thread():
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    theta = np.asarray(found.x, dtype=np.float64)
    return ConditionalLogit(theta[:S], theta[S:cut], scale[:, None] * (basis @ theta[cut:].reshape(-1, C)))
