"""Which labels of a list to show of a text, from each label's own probability.

Cut at .5, each label is decided well by itself, but not the set: a panel that is sure of nothing ticks no box, though
it ranks the labels well. So the most probable label of a text is shown above one threshold, and further labels above
another one. Before any label the thresholds follow from the pool: as many texts get a first and a second label as
texts usually have. Human labels move them to where the F1 of the sets is highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit, logit

from mollm.records import BoolArray, FittedState, FloatArray

KIND = "sets"  # of the saved state
WITH_ONE, WITH_TWO = 0.9, 0.15
"""The shares of the texts that get at least one label, and two, before any label where the panel is unsure. A guess of
how lists are used; chosen on one built set of 60 texts and on sets built from a recording (docs/measurements.md)."""
UNSURE, SURE = 0.75, 1.25
"""The spread (nats) of the labels' log-odds over the pool: up to `UNSURE` only their order is trusted, and from `SURE`
on a probability of .5 means what it says. Small LLMs had .5, five LLMs of 7-9 billion parameters 1.6 to 2."""
AS_IF = 20.0
"""Texts that the rule before any label counts for beside the human-labelled ones: a few labels move it little (10 to
50 labels on both sets: with 5 no better)."""
GRID = 24  # quantiles that are tried as each threshold: finer ones differ by a text or two
EDGE = 1e-6  # a probability nearer to 0 or 1 counts as this


@dataclass(frozen=True, slots=True)
class SetRule:
    """Thresholds in log-odds: of a text's most probable label (`first`), and of its further ones (`more`)."""

    first: float
    more: float

    @classmethod
    def before(cls, probs: FloatArray) -> Self:
        """The rule before any label, from the pool's `probs` (N, K) of K labels."""
        odds = log_odds(probs)
        falling = -np.sort(-odds, axis=1)
        spread = float((odds - odds.mean(axis=0)).std())
        guess = float(np.clip((SURE - spread) / (SURE - UNSURE), 0, 1))
        shares = zip((WITH_ONE, WITH_TWO), falling.T[:2], strict=True)
        first, more = (guess * float(np.quantile(column, 1 - share)) for share, column in shares)
        return cls(first, more)

    @classmethod
    def learned(cls, probs: FloatArray, held_out: FloatArray, truth: BoolArray, weight: FloatArray) -> Self:
        """The rule of the highest mean F1 on H people's sets, `truth` (H, K), by their weights (H,).

        `held_out` (H, K) are probabilities that have not seen these sets, `probs` (N, K) the pool's. The rule before
        any label counts as `AS_IF` more texts, spread over the pool.
        """
        start, odds, seen = cls.before(probs), log_odds(probs), log_odds(held_out)
        guessed = start.cut(odds)
        falling = -np.sort(-np.concatenate([odds, seen]), axis=1)
        steps = np.linspace(0, 1, GRID)
        firsts, mores = ([at, *np.quantile(falling[:, n], steps)] for n, at in enumerate((start.first, start.more)))
        best, most = start, -1.0
        for rule in (cls(float(first), float(more)) for first in firsts for more in mores):
            agreed = AS_IF * float(f1(rule.cut(odds), guessed).mean())
            worth = agreed + float(weight @ f1(rule.cut(seen), truth))
            if worth > most + EDGE:  # the first of equals is the start
                best, most = rule, worth
        return best

    def choose(self, probs: FloatArray) -> BoolArray:
        """(N, K): which labels are shown, from their probabilities (N, K)."""
        return self.cut(log_odds(probs))

    def cut(self, odds: FloatArray) -> BoolArray:
        """`choose` from log-odds."""
        order = np.argsort(-odds, axis=1, kind="stable")
        falling = np.take_along_axis(odds, order, axis=1)
        kept = falling >= self.more
        kept[:, 0] = falling[:, 0] >= self.first
        chosen = np.zeros(odds.shape, dtype=np.bool_)
        np.put_along_axis(chosen, order, np.logical_and.accumulate(kept, axis=1), axis=1)
        return chosen

    def line(self) -> str:
        """The rule in words."""
        return f"the most probable label is shown from {expit(self.first):.0%} on, others from {expit(self.more):.0%}"

    def state(self) -> FittedState:
        """What `of_state` reads again."""
        return FittedState(KIND, {"thresholds": np.array([self.first, self.more])}, {})

    @classmethod
    def of_state(cls, state: FittedState) -> Self:
        """From a saved state."""
        first, more = np.asarray(state.arrays["thresholds"], dtype=np.float64).tolist()
        return cls(first, more)


def log_odds(probs: FloatArray) -> FloatArray:
    """(..., K) nats."""
    return np.asarray(logit(np.clip(probs, EDGE, 1 - EDGE)))


def f1(chosen: BoolArray, truth: BoolArray) -> FloatArray:
    """(N,) of each text's chosen set against the true one, (N, K) each; 1 where both are empty."""
    both, total = (chosen & truth).sum(axis=1), chosen.sum(axis=1) + truth.sum(axis=1)
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def micro_f1(chosen: BoolArray, truth: BoolArray) -> float:
    """F1 over all decisions of all texts; 0 where nothing is chosen and nothing is true."""
    return float(2 * (chosen & truth).sum() / max(1, chosen.sum() + truth.sum()))
