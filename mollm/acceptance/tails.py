"""How likely so few errors are in an audit, had the tasks more errors than they may: exact, for a finite set of tasks.

Two ways to draw an audit (`mollm.acceptance.audit`), two tails. Both hold for every arrangement of the errors.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom

from mollm.records import FloatArray, IntArray

LISTED = 20  # bits of the most tasks whose log-factorials are kept in a table (8 MB); of more, each is computed


def simple_tail(errors: IntArray, audits: IntArray, tasks: IntArray, wrong: IntArray) -> FloatArray:
    """P(X <= errors) with X the wrong ones among `audits` of `tasks` drawn at random, `wrong` of them wrong.

    The hypergeometric distribution's lower tail; 0 where so many wrong tasks cannot be. All of one shape.
    """
    if not errors.size:
        return np.zeros(errors.shape)
    e, n, K, E = (np.ravel(rows) for rows in np.broadcast_arrays(errors, audits, tasks, wrong))
    least, most = np.maximum(n - (K - E), 0), np.minimum(np.minimum(e, E), n)
    terms = np.where(E <= K, np.maximum(most - least + 1, 0), 0)
    # Each possible number x of wrong ones is a term, one after the other, the terms of a row side by side.
    row = np.repeat(np.arange(len(e)), terms)
    x = np.arange(len(row)) - (np.cumsum(terms) - terms - least)[row]
    bits = int(np.max(tasks)).bit_length()

    def choose(n: IntArray, k: IntArray) -> FloatArray:
        """The logarithm of the binomial coefficient."""
        top, left, right = (_log_factorials(bits)[m] if bits <= LISTED else gammaln(m + 1.0) for m in (n, k, n - k))
        return np.asarray(top - left - right)

    log = choose(E[row], x) + choose((K - E)[row], n[row] - x) - choose(K, n)[row]
    tail = np.bincount(row, np.exp(log), minlength=len(e)).reshape(errors.shape)
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


@lru_cache(maxsize=1)  # all tests of an audit are on about as many tasks
def _log_factorials(bits: int) -> FloatArray:
    """(2 ** bits,) the logarithms of 0!, 1!, and so on: to look them up is many times faster than to compute them."""
    return np.asarray(gammaln(np.arange(1 << bits) + 1.0))
