"""The stacked mixture, ours: convex fits of panel and text to the human labels, averaged with forests.

    first   a conditional logit on the panel's log-odds and the texts' embeddings -> a posterior over the pool
    twice   the text's view of that posterior joins the panel as one more signal; the conditional logit again
    then    two forests, grown on the same evidence, beside it
    last    a third, grown to what all this says of the pool, averages it over items with like answers

Reliability is shared first (one weight a signal), then by class (the matrix), each under a ridge that fades
as labels grow. The weights begin at the log-odds pool's: at its shares where texts tell them, else alike (shares by
agreement alone were no gain: TREC without texts .7469 and .7485 with 15 labels, IMDB accepted .908 and .894 at .95).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mollm.mixture import Mixture, text_view
from mollm.mixture import conditional_logit as logit
from mollm.mixture.conditional_logit import ConditionalLogit
from mollm.mixture.evidence import Centring, chunks, one_hot
from mollm.mixture.forest import Forest
from mollm.mixture.logpool import prior_weight
from mollm.mixture.pool_forest import PoolForest, sample
from mollm.mixture.skills import shares
from mollm.mixture.text_view import Gram, Space, TextView
from mollm.records import FittedState, FloatArray, IntArray, Pool, Signals, Targets

PENALTIES = logit.Penalties(level=1.0, spread=20.0, bias=0.5)  # chosen on seeds 0-49 of the recordings
MATRIX_RIDGE = 10.0
"""On each class x signal weight, times C: a class's row of the matrix costs the same with any number of classes."""
TEXT_RIDGE = 0.5
"""On the embeddings' own matrix (embeddings of root mean square length 1)."""
PASSES = 2  # of text and panel in turn; the view of the text follows the posterior that it has improved
FOREST_SHARE, FOREST_SHARE_WITHOUT_TEXT = 0.3, 0.65
"""Of the two forests beside the conditional logit; the linear fit of a text knows what they do not."""
FOREST_HALF = 15
"""Human labels at which the forests have half of their share."""
POOL_SHARE = 0.5
"""Of the forest that was grown to the pool's posterior, beside all the rest."""
POOL_FULL = 100
"""Human labels up to which it has that share. Then it fades as they grow: what they say of single items outdoes what
like items have in common (TREC, seeds 0-4, a constant share: + .003 at 100 labels, - .002 at 300, - .004 at 600)."""


class Stacked(Mixture):
    """`centring`, `shares` and `gram` may be given when many fits share one pool (cross-fitting)."""

    name: ClassVar[str] = "stacked"

    centring_: Centring
    logit_: ConditionalLogit
    text_matrix_: FloatArray
    space_: Space | None = None
    view_: TextView | None = None
    forest_: Forest | None = None
    pool_: PoolForest | None = None
    human_: int = 0

    def __init__(
        self, centring: Centring | None = None, shares: FloatArray | None = None, gram: Gram | None = None
    ) -> None:
        self._centring, self._shares, self._gram = centring, shares, gram

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        pool = in_item_order(pool)
        signals, targets, embeddings = pool.signals, pool.targets, pool.embeddings
        seed = int(rng.integers(2**31))
        self.human_, self._bias = targets.H, pool.bias
        self.centring_ = self._centring or Centring.of(signals)
        self._prior = self._before_labels(pool)
        F = self.centring_.log_odds(signals, targets.index)
        Y = one_hot(targets.label, signals.C)
        self.space_ = self.view_ = self.forest_ = self.pool_ = None
        if embeddings is None:
            self._fit_logit(F, np.zeros((targets.H, 0)), Y, targets.weight)
        else:
            F = self._fit_with_text(signals, embeddings, targets, F, Y)
        if len(np.unique(targets.label)) > 1:
            self.forest_ = Forest(flat(F), targets.label, targets.weight, seed, signals.C)
            self.pool_ = self._grow_on_the_pool(signals, embeddings, targets, seed)

    def _before_labels(self, pool: Pool) -> FloatArray:
        """(2 M,) the weight of each signal of the panel before any label."""
        M = pool.signals.M
        equal = np.full(2 * M, prior_weight(M))
        if pool.embeddings is None:
            return equal
        return equal * np.tile(shares(pool, self.centring_) if self._shares is None else self._shares, 2)

    def _grow_on_the_pool(
        self, signals: Signals, embeddings: FloatArray | None, targets: Targets, seed: int
    ) -> PoolForest:
        chosen = sample(signals.items, targets.index)
        X, posterior = self._without_pool(signals, chosen, None if embeddings is None else embeddings[chosen])
        place = np.empty(signals.N, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        Y = one_hot(targets.label, signals.C)
        return PoolForest(X, text_view.clamped(posterior, place[targets.index], Y, targets.weight), seed)

    def _fit_with_text(
        self, signals: Signals, embeddings: FloatArray, targets: Targets, panel: FloatArray, Y: FloatArray
    ) -> FloatArray:
        """Fit panel and text; return the labelled rows' evidence (H, S, C) with the text's view in it."""
        gram = self._gram or Gram.of(embeddings)
        self.space_ = gram.space
        E = gram.space.place(embeddings[targets.index])
        self._fit_logit(panel, E, Y, targets.weight)
        F = panel
        for _ in range(PASSES):
            posterior: FloatArray = np.empty((signals.N, signals.C))
            for rows in chunks(signals.N):
                posterior[rows] = softmax(self._evidence(signals, rows, embeddings[rows])[1], axis=1)
            posterior = text_view.clamped(posterior, targets.index, Y, targets.weight)
            self.view_ = text_view.fit(embeddings, posterior, gram)
            F = np.concatenate([panel, self.view_.left_out(E, posterior[targets.index], gram)], axis=1)
            self._fit_logit(F, E, Y, targets.weight)
        return F

    def _fit_logit(self, F: FloatArray, E: FloatArray, Y: FloatArray, weight: FloatArray) -> None:
        """The conditional logit on evidence F (H, S, C) and placed embeddings E (H, D), D = 0 without text."""
        cut = F.shape[1] * F.shape[2]
        ridge = np.concatenate([np.full(cut, MATRIX_RIDGE * F.shape[2]), np.full(E.shape[1], TEXT_RIDGE)])
        X = np.concatenate([flat(F), E], axis=1)
        prior = np.full(F.shape[1], prior_weight(F.shape[1] // 2))
        prior[: len(self._prior)] = self._prior
        fitted = logit.fit(F, X, ridge, Y, weight, prior, self._bias, PENALTIES)
        self.logit_ = ConditionalLogit(fitted.weight, fitted.bias, fitted.matrix[:cut])
        self.text_matrix_ = fitted.matrix[cut:]

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        out = np.empty((signals.N, signals.C))
        for rows in chunks(signals.N):
            X, out[rows] = self._without_pool(signals, rows, None if embeddings is None else embeddings[rows])
            if self.pool_ is not None:
                share = POOL_SHARE * POOL_FULL / max(POOL_FULL, self.human_)
                out[rows] = (1.0 - share) * out[rows] + share * self.pool_.proba(X)
        return out

    def _without_pool(
        self, signals: Signals, rows: slice | IntArray, embeddings: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Free evidence (n, S C) and the probabilities (n, C) of the conditional logit and its two forests."""
        F, logits = self._evidence(signals, rows, embeddings)
        X, probs = flat(F), np.asarray(softmax(logits, axis=1))
        if self.forest_ is not None:
            full = FOREST_SHARE_WITHOUT_TEXT if self.view_ is None else FOREST_SHARE
            share = full * self.human_ / (self.human_ + FOREST_HALF)
            probs = (1.0 - share) * probs + share * self.forest_.proba(X, probs)
        return X, probs

    def _evidence(
        self, signals: Signals, rows: slice | IntArray, embeddings: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Evidence (n, S, C), the text's view in it, and the fit's logits (n, C). No text is no evidence."""
        F, C = self.centring_.log_odds(signals, rows), signals.C
        by_text: FloatArray = np.zeros((len(F), 2 * C))
        if self.space_ is not None and embeddings is not None:
            view = np.zeros_like(self.text_matrix_) if self.view_ is None else self.view_.matrix
            by_text = self.space_.project(embeddings, np.concatenate([view, self.text_matrix_], axis=1))
        if self.view_ is not None:
            F = np.concatenate([F, self.view_.log_odds(by_text[:, :C])], axis=1)
        return F, self.logit_.logits(F, flat(F)) + by_text[:, C:]

    def state(self) -> FittedState:
        arrays: dict[str, NDArray[np.generic]] = {
            "order": self.centring_.order,
            "mean": self.centring_.mean,
            "weight": self.logit_.weight,
            "bias": self.logit_.bias,
            "matrix": self.logit_.matrix,
            "text_own": self.text_matrix_,
        }
        if self.space_ is not None and self.view_ is not None:
            arrays |= {"text_centre": self.space_.centre, "text_spread": self.space_.spread}
            arrays |= {f"text_{part}": getattr(self.view_, part) for part in ("matrix", "share", "offset")}
        if self.forest_ is not None:
            arrays |= self.forest_.arrays()
        if self.pool_ is not None:
            arrays |= self.pool_.arrays()
        seed = self.forest_.seed if self.forest_ is not None else -1
        return FittedState(self.name, arrays, {**self._facts(), "human": self.human_, "forest_seed": seed})

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        arrays: Mapping[str, FloatArray] = {k: np.asarray(a, dtype=np.float64) for k, a in state.arrays.items()}
        found.centring_ = Centring(arrays["order"].astype(np.int64), arrays["mean"])
        found.logit_ = ConditionalLogit(arrays["weight"], arrays["bias"], arrays["matrix"])
        found.text_matrix_ = arrays["text_own"]
        found.human_ = int(str(state.facts["human"]))
        if "text_matrix" in arrays:
            found.space_ = Space(arrays["text_centre"], arrays["text_spread"])
            found.view_ = TextView(arrays["text_matrix"], arrays["text_share"], arrays["text_offset"])
        if "forest_X" in arrays:
            seed = int(str(state.facts["forest_seed"]))
            found.forest_ = Forest.from_arrays(state.arrays, seed, len(found.labels_))
        if "pool_X" in arrays:
            found.pool_ = PoolForest.from_arrays(state.arrays, int(str(state.facts["forest_seed"])))
        return found

    def explain(self) -> str:
        parts = ["the panel's log-odds"]
        if self.view_ is not None:
            parts.append("the texts' embeddings")
        if self.forest_ is not None:
            parts.append("three forests")
        return f"stacked: {', '.join(parts)}, fitted to {self.human_} human labels"


def flat(F: FloatArray) -> FloatArray:
    """(n, S, C) evidence as free columns (n, S C)."""
    return F.reshape(len(F), F.shape[1] * F.shape[2])


def in_item_order(pool: Pool) -> Pool:
    """The human labels sorted by item, so that their order of arrival changes nothing."""
    targets = pool.targets
    names = np.array([pool.signals.items[n] for n in targets.index], dtype=np.str_)
    order = np.lexsort((targets.weight, targets.label, names)).astype(np.int64)
    return replace(pool, targets=targets.take(order))
