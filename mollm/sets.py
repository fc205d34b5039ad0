"""Which labels of a list to show of a text.

Before any label, the panel ranks the labels of a text well, but its probabilities mean little: cut at .5, a panel that
is sure of nothing ticks no box. So the most probable label of a text is shown above one threshold, and further labels
above another one, such that as many texts of the pool get a first and a second label as texts usually have. Human
labels move the thresholds to where the F1 of the sets is highest.

What the mixture of each label has learned from people is better calibrated, and ranks the labels worse as long as the
labels are few. It takes over once its sets are about as good on held-out labels: then the set of the highest expected
F1 is shown, without any threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import expit, logit

from mollm.records import BoolArray, FittedState, FloatArray, IntArray

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
SAMPLE = 2_000  # texts of the pool that stand for all of it where thresholds are tried: their shares are known to .01
ENOUGH, FOLDS = 10, 5
"""Human-labelled texts below which what was learned from them is not tried; and the parts in which it is tried."""
BEHIND = 0.5
"""Standard errors of the paired difference in F1 by which the learned sets may be behind: those that are compared have
learned from two thirds of the labels, or four fifths of fifty and more. With 20 labels that is worth .02 to .04 of F1
over asking for a lead of as much (hotel and city, seeds 0-9, built of TREC, 0-2); without texts it costs .01 with
ten."""
LONGEST = 12  # labels of a set: of those beyond, only how many they likely are has a part in the expected F1
BLOCK = 10_000  # texts whose expected F1 is found at once (some 15 MB)


@dataclass(frozen=True, slots=True)
class SetRule:
    """Thresholds in log-odds of what the panel says before any label: of a text's most probable label (`first`), and of
    its further ones (`more`). `learned`: none of them; the set of the highest expected F1 by what labels have taught.
    `taught`: there are human labels.

    `panel` (N, K) are everywhere the probabilities of K labels before any label, `probs` (N, K) the mixture's.
    """

    first: float
    more: float
    learned: bool = False
    taught: bool = True

    @classmethod
    def before(cls, panel: FloatArray) -> Self:
        """The rule before any label, from the pool."""
        odds = log_odds(panel)
        falling = -np.sort(-odds, axis=1)
        spread = float((odds - odds.mean(axis=0)).std())
        guess = float(np.clip((SURE - spread) / (SURE - UNSURE), 0, 1))
        shares = zip((WITH_ONE, WITH_TWO), falling.T[:2], strict=True)
        first, more = (guess * float(np.quantile(column, 1 - share)) for share, column in shares)
        return cls(first, more, taught=False)

    @classmethod
    def fitted(
        cls, panel: FloatArray, asked: IntArray, held_out: FloatArray, truth: BoolArray, weight: FloatArray
    ) -> Self:
        """The rule of the highest mean F1 on H people's sets, `truth` (H, K), by their weights (H,).

        `asked` (H,) are their texts' rows in the pool, `held_out` (H, K) the probabilities by mixtures that have
        learned from other texts' sets.
        """
        if not len(asked):
            return cls.before(panel)
        before, odds = replace(cls.before(panel), taught=True), log_odds(panel)
        sample = odds[np.linspace(0, len(odds) - 1, min(len(odds), SAMPLE)).round().astype(np.int64)]
        pool, said = _Sizes.of(sample, before.cut(sample)), _Sizes.of(odds[asked], truth)
        tried = before.near(odds)
        rule = before.moved(tried, pool, said, weight)
        texts, text = np.unique(asked, return_inverse=True)
        if len(texts) < ENOUGH:
            return rule
        by_panel = np.empty(len(asked))
        for k in range(FOLDS):
            mine = text % FOLDS == k
            by_panel[mine] = said.take(mine).f1(before.moved(tried, pool, said.take(~mine), weight[~mine]))
        gain = f1(highest_f1(held_out), truth) - by_panel
        mean = float(weight @ gain / weight.sum())
        error = float(np.sqrt(weight**2 @ (gain - mean) ** 2) / weight.sum())
        return replace(rule, learned=mean > -BEHIND * error)

    def near(self, odds: FloatArray) -> list[Self]:
        """The rules that are tried: this one first, then thresholds at quantiles of the pool's log-odds."""
        falling, steps = -np.sort(-odds, axis=1), np.linspace(0, 1, GRID)
        firsts, mores = ([at, *np.quantile(falling[:, n], steps)] for n, at in enumerate((self.first, self.more)))
        return [replace(self, first=float(first), more=float(more)) for first in firsts for more in mores]

    def moved(self, tried: Sequence[Self], pool: _Sizes, said: _Sizes, weight: FloatArray) -> Self:
        """Of the rules that are tried, the one of the highest F1 on what people `said`, by their weights (H,). This
        rule's own sets of the `pool` count as `AS_IF` more texts."""
        best, most = self, -1.0
        for rule in tried:
            worth = AS_IF * float(pool.f1(rule).mean()) + float(weight @ said.f1(rule))
            if worth > most + EDGE:  # the first of equals is this rule
                best, most = rule, worth
        return best

    def choose(self, panel: FloatArray, probs: FloatArray) -> BoolArray:
        """(N, K): which labels are shown.

        The panel says how many. Before any label the mixture says which: it weighs the LLMs by what texts say of them.
        The first labels make it rank worse than the panel.
        """
        if self.learned:
            return highest_f1(probs)
        odds = log_odds(panel)
        return most_probable(odds if self.taught else probs, self.sizes(-np.sort(-odds, axis=1)))

    def cut(self, odds: FloatArray) -> BoolArray:
        """(N, K): which labels are shown by the thresholds, from the panel's log-odds."""
        return most_probable(odds, self.sizes(-np.sort(-odds, axis=1)))

    def sizes(self, falling: FloatArray) -> IntArray:
        """(N,) how many labels the thresholds show, from the log-odds of each text in falling order."""
        return np.where(falling[:, 0] >= self.first, 1 + (falling[:, 1:] >= self.more).sum(axis=1), 0)

    def line(self) -> str:
        """The rule in words."""
        if self.learned:
            return "the labels of the highest expected F1 are shown, by what people's labels have taught"
        shown = f"the most probable label is shown from {expit(self.first):.0%} on, others from {expit(self.more):.0%}"
        return f"{shown}, by what the panel says without labels"

    def state(self) -> FittedState:
        """What `of_state` reads again."""
        return FittedState(
            KIND, {"thresholds": np.array([self.first, self.more])}, {"learned": self.learned, "taught": self.taught}
        )

    @classmethod
    def of_state(cls, state: FittedState) -> Self:
        """From a saved state."""
        first, more = np.asarray(state.arrays["thresholds"], dtype=np.float64).tolist()
        return cls(first, more, bool(state.facts["learned"]), bool(state.facts.get("taught", True)))


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Each text's log-odds in falling order (N, K), and the F1 of its 0, 1, ... most probable labels (N, K + 1)."""

    falling: FloatArray
    worth: FloatArray

    @classmethod
    def of(cls, odds: FloatArray, truth: BoolArray) -> Self:
        order = np.argsort(-odds, axis=1, kind="stable")
        right = np.cumsum(np.take_along_axis(truth, order, axis=1), axis=1)
        total = truth.sum(axis=1)
        some = 2 * right / (np.arange(1, odds.shape[1] + 1) + total[:, None])
        return cls(np.take_along_axis(odds, order, axis=1), np.column_stack([total == 0, some]))

    def take(self, rows: BoolArray) -> Self:
        """Some of the texts."""
        return replace(self, falling=self.falling[rows], worth=self.worth[rows])

    def f1(self, rule: SetRule) -> FloatArray:
        """(N,) of each text's set by a rule's thresholds."""
        return np.asarray(self.worth[np.arange(len(self.worth)), rule.sizes(self.falling)])


def highest_f1(probs: FloatArray) -> BoolArray:
    """(N, K): of each text the set of the highest expected F1, where each label is true with its probability (N, K),
    apart from the others."""
    sizes = [_sizes(probs[start : start + BLOCK]) for start in range(0, len(probs), BLOCK)]
    return most_probable(probs, np.concatenate([np.empty(0, dtype=np.int64), *sizes]))


def _sizes(probs: FloatArray) -> IntArray:
    """(N,) how many of a text's most probable labels make its set."""
    falling = -np.sort(-probs, axis=1)
    top, beyond = falling[:, :LONGEST], falling[:, LONGEST:].sum(axis=1)
    K = top.shape[1]
    first, last = list(_counts(top)), list(_counts(top[:, ::-1]))
    worth = [np.prod(1 - falling, axis=1)]
    for k in range(1, K + 1):
        right, missed = np.arange(k + 1), np.arange(K - k + 1)[:, None] + beyond[:, None, None]
        worth.append(np.einsum("nr,nm,nmr->n", first[k], last[K - k], 2 * right / (k + right + missed)))
    return np.asarray(np.argmax(worth, axis=0))


def _counts(probs: FloatArray) -> Iterator[FloatArray]:
    """After 0, 1, ... of the columns: (N, k + 1) how probable it is that 0, 1, ... k of these labels are true."""
    count = np.ones((len(probs), 1))
    yield count
    for column in probs.T[:, :, None]:
        count = np.pad(count * (1 - column), ((0, 0), (0, 1))) + np.pad(count * column, ((0, 0), (1, 0)))
        yield count


def most_probable(probs: FloatArray, sizes: IntArray) -> BoolArray:
    """(N, K): the `sizes` (N,) most probable labels of each text."""
    order = np.argsort(-probs, axis=1, kind="stable")
    chosen = np.zeros(probs.shape, dtype=np.bool_)
    np.put_along_axis(chosen, order, np.arange(probs.shape[1]) < sizes[:, None], axis=1)
    return chosen


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
