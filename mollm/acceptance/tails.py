"""How likely so few errors are in an audit, had the tasks more errors than they may: exact, for a finite set of tasks.

Two ways to draw an audit (`mollm.acceptance.audit`), two tails. Both hold for every arrangement of the errors.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom

from mollm.records import FloatArray, IntArray


def simple_tail(errors: IntArray, audits: IntArray, tasks: IntArray, wrong: IntArray) -> FloatArray:
    """P(X <= errors) with X the wrong ones among `audits` of `tasks` drawn at random, `wrong` of them wrong.

    The hypergeometric distribution's lower tail; 0 where so many wrong tasks cannot be. All of one shape.
    """
    if not errors.size:
        return np.zeros(errors.shape)
    x = np.arange(int(errors.max()) + 1)
    e, n, K, E = (rows[..., None] for rows in (errors, audits, tasks, wrong))
    possible = (x <= e) & (x <= E) & (n - x <= K - E)
    E = np.minimum(E, K)
    x = np.minimum(x, np.minimum(E, n))
    log = _choose(E, x) + _choose(K - E, np.minimum(n - x, K - E)) - _choose(K, n)
    tail = np.where(possible, np.exp(np.where(possible, log, -np.inf)), 0.0).sum(axis=-1)
    return np.asarray(np.minimum(tail, 1.0))


def spread_tail(errors: IntArray, audits: IntArray, cell: int, wrong: IntArray) -> FloatArray:
    """An upper bound of P(X <= errors): one task drawn at random from each of `audits` cells of `cell` tasks.

    X is a sum of independent Bernoulli variables with the mean `wrong` / `cell`, and of all such sums the binomial
    distribution has the heaviest lower tail up to one below its mean (Hoeffding 1956, theorem 4); above that: 1. All
    of one shape.
    """
    mean = np.asarray(wrong) / cell
    below = binom.cdf(errors, audits, np.minimum(mean / np.maximum(audits, 1), 1.0))
    return np.asarray(np.where(mean > audits, 0.0, np.where(errors <= mean - 1, below, 1.0)))


def _choose(n: IntArray, k: IntArray) -> FloatArray:
    """The logarithm of the binomial coefficient."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
