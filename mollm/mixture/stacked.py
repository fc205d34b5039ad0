"""The stacked mixture, ours: one convex fit of panel and text to the human labels, averaged with two forests.

    first  the panel alone (conditional logit) -> a posterior over the whole pool
    then   the text's view of that posterior (text_view) joins as one more signal
    last   the conditional logit again on panel + text view + embeddings, and the forests beside it

Reliability is shared first (one weight a signal), then by class (the matrix), each under a ridge that fades
as labels grow; before the first label the mixture is the log-odds pool.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from mollm.mixture import Mixture, text_view
from mollm.mixture import conditional_logit as logit
from mollm.mixture.conditional_logit import ConditionalLogit
from mollm.mixture.evidence import Centring, chunks, one_hot, softmax
from mollm.mixture.forest import Forest
from mollm.mixture.logpool import prior_weight
from mollm.mixture.text_view import Gram, TextView
from mollm.records import FittedState, FloatArray, Signals, Targets

PENALTIES = logit.Penalties(level=1.0, spread=20.0, bias=0.5)
MATRIX_RIDGE = 10.0
"""On each class x signal weight, times C: a class's row of the matrix costs the same with any number of classes."""
TEXT_RIDGE = 0.5
"""On the embeddings' own matrix (unit-norm embeddings)."""
FOREST_SHARE = 0.3
FOREST_HALF = 15
"""Human labels at which the forests have half of their share."""


class Stacked(Mixture):
    name: ClassVar[str] = "stacked"
    uses_embeddings: ClassVar[bool] = True

    centring_: Centring
    first_: ConditionalLogit
    last_: ConditionalLogit
    text_: TextView | None = None
    forest_: Forest | None = None
    temperature_: float = 1.0
    human_: int = 0

    def fit(
        self,
        signals: Signals,
        targets: Targets,
        *,
        rng: np.random.Generator,
        embeddings: FloatArray | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> Self:
        seed = int(rng.integers(2**31))
        self._remember(signals, targets)
        self.human_ = targets.H
        self.centring_ = Centring.of(signals)
        targets = in_item_order(signals, targets)
        Y = one_hot(targets.label, signals.C)
        F: FloatArray = self.centring_.log_odds(signals, targets.index)
        self.first_ = self.last_ = conditional(F, None, Y, targets.weight)
        self.text_ = None
        if embeddings is not None:
            said, E = self._fit_text(signals, targets, Y, embeddings)
            F = np.concatenate([F, said], axis=1)
            self.last_ = conditional(F, E, Y, targets.weight)
        self.forest_ = None
        if len(np.unique(targets.label)) > 1:
            self.forest_ = Forest(F.reshape(len(F), -1), targets.label, targets.weight, seed, signals.C)
        return self

    def _fit_text(
        self, signals: Signals, targets: Targets, Y: FloatArray, embeddings: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fit the text's view; return what it says of the labelled rows (H, 1, C) and their embeddings (H, D)."""
        posterior: FloatArray = np.empty((signals.N, signals.C))
        for rows in chunks(signals.N):
            panel = self.centring_.log_odds(signals, rows)
            posterior[rows] = self.first_.proba(panel, flat(panel))
        posterior = text_view.clamped(posterior, targets.index, Y, targets.weight)
        gram = Gram.of(embeddings)
        self.text_ = text_view.fit(embeddings, posterior, gram)
        asked = embeddings[targets.index]
        said = self.text_.left_out(asked, posterior[targets.index], gram)
        return said, self.text_.centred(asked)

    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        self._check_panel(signals)
        out = np.empty((signals.N, signals.C))
        for rows in chunks(signals.N):
            out[rows] = self._fuse(signals, rows, None if embeddings is None else embeddings[rows])
        return out

    def _fuse(self, signals: Signals, rows: slice, embeddings: FloatArray | None) -> FloatArray:
        F = self.centring_.log_odds(signals, rows)
        X = flat(F)
        if self.text_ is not None:
            said, E = self._text_evidence(len(F), embeddings)
            F = np.concatenate([F, said], axis=1)
            X = np.concatenate([flat(F), E], axis=1)
        probs = self.last_.proba(F, X)
        if self.forest_ is not None:
            share = FOREST_SHARE * self.human_ / (self.human_ + FOREST_HALF)
            probs = (1.0 - share) * probs + share * self.forest_.proba(flat(F), probs)
        return softmax(np.log(np.maximum(probs, 1e-12)) / self.temperature_)

    def _text_evidence(self, n: int, embeddings: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """(n, 1, C) what the texts say and (n, D) centred embeddings; zeros, no evidence, without texts."""
        assert self.text_ is not None
        if embeddings is None:
            return np.zeros((n, 1, len(self.labels_))), np.zeros((n, len(self.text_.centre)))
        return self.text_.log_odds(embeddings), self.text_.centred(embeddings)

    def state(self) -> FittedState:
        arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
            "order": self.centring_.order,
            "mean": self.centring_.mean,
            "weight": self.last_.weight,
            "bias": self.last_.bias,
            "matrix": self.last_.matrix,
        }
        if self.text_ is not None:
            arrays |= {f"text_{part}": getattr(self.text_, part) for part in TEXT_PARTS}
        if self.forest_ is not None:
            arrays |= self.forest_.arrays()
        seed = self.forest_.seed if self.forest_ is not None else -1
        facts = {**self._facts(), "human": self.human_, "temperature": self.temperature_, "forest_seed": seed}
        return FittedState(self.name, arrays, facts)

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found, arrays = cls()._recall(state), state.arrays
        floats = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items() if name != "order"}
        found.centring_ = Centring(np.asarray(arrays["order"], dtype=np.int64), floats["mean"])
        found.first_ = found.last_ = ConditionalLogit(floats["weight"], floats["bias"], floats["matrix"])
        found.human_ = int(str(state.facts["human"]))
        found.temperature_ = float(str(state.facts["temperature"]))
        if "text_matrix" in arrays:
            found.text_ = TextView(*(floats[f"text_{part}"] for part in TEXT_PARTS))
        if "forest_X" in arrays:
            found.forest_ = Forest.from_arrays(arrays, int(str(state.facts["forest_seed"])), len(found.labels_))
        return found

    def explain(self) -> str:
        parts = ["the panel's log-odds"]
        if self.text_ is not None:
            parts.append("the texts' embeddings")
        if self.forest_ is not None:
            parts.append("two forests")
        return f"stacked: {', '.join(parts)}, fitted to {self.human_} human labels"


TEXT_PARTS = ("centre", "matrix", "share", "offset")


def flat(F: FloatArray) -> FloatArray:
    """(n, S, C) evidence as free columns (n, S C)."""
    return F.reshape(len(F), F.shape[1] * F.shape[2])


def in_item_order(signals: Signals, targets: Targets) -> Targets:
    """The human labels sorted by item, so that their order of arrival changes nothing."""
    names = np.array([signals.items[n] for n in targets.index], dtype=np.str_)
    return targets.take(np.lexsort((targets.weight, targets.label, names)).astype(np.int64))


def conditional(F: FloatArray, E: FloatArray | None, Y: FloatArray, weight: FloatArray) -> ConditionalLogit:
    """The conditional logit on evidence F (H, S, C) and, where there is text, centred embeddings E (H, D)."""
    X, ridge = flat(F), np.full(F.shape[1] * F.shape[2], MATRIX_RIDGE * F.shape[2])
    if E is not None:
        X, ridge = np.concatenate([X, E], axis=1), np.concatenate([ridge, np.full(E.shape[1], TEXT_RIDGE)])
    prior = prior_weight(F.shape[1] // 2)
    return logit.fit(F, X, ridge, Y, weight, prior, PENALTIES)
