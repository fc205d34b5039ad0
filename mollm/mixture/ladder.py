"""The ladder: which aggregator the human labels carry, and at which temperature. All fusion climbs it.

A ladder has one rung or two: the lowest needs no human label, the highest learns from them. The highest begins at the
lowest and leaves it only as far as labels pull it, so it is given up only where the lowest is clearly better on held
out labels: a plainly lower loss on fifty labels is often chance. Below `ENOUGH` labels the lowest stands.

What is chosen and calibrated by labels is scored on other labels: the labels of a fold have no part in the fit that
predicts its rows, and none in the choice and the temperature for these rows, which the rows of the other folds decide
(`cross_chosen`). Only the fits behind those other rows have seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mollm.metrics import clearly_lower, log_loss
from mollm.mixture import Mixture, aggregator
from mollm.mixture.calibration import at_temperature, temperature
from mollm.mixture.evidence import Centring
from mollm.mixture.logpool import LogPool
from mollm.mixture.skills import shares_by_name
from mollm.mixture.stacked import Stacked
from mollm.mixture.text_view import Gram
from mollm.records import FloatArray, IntArray, Pool, Signals, Targets
from mollm.streams import stream

ENOUGH = 10
"""Human labels, in at least two classes, below which there is nothing to cross-validate with."""
CLEARLY = 2.0
"""Standard errors of the paired difference in log-loss by which the lowest rung must be better to be chosen."""
UNTESTED = 2
"""Held-out folds from which a rung is no longer tested (see `Ladder.climb`)."""

Out = frozenset[int]
"""The folds whose labels a fit has not seen."""
NONE: Out = frozenset()
"""Every label is used."""
Rows = Mapping[str, FloatArray]
"""By name of the candidate: (H, C) held-out rows."""
Choice = tuple[str, float]
"""A candidate's name and its temperature."""


def enough(targets: Targets) -> bool:
    """Whether these labels can tell two mixtures apart."""
    return targets.H >= ENOUGH and len(np.unique(targets.label)) > 1


def fitted_temperature(rows: FloatArray, targets: Targets) -> float:
    """The temperature of least log-loss on held-out `rows` (H, C); 1 where the labels are too few."""
    return temperature(rows, targets) if enough(targets) else 1.0


def chosen_rung(rows: Rows, targets: Targets) -> Choice:
    """The rung that the labels carry, of candidates from the lowest to the highest."""
    *_, highest = rows
    lowest = next(iter(rows))
    stays = not enough(targets) or clearly_lower(rows[lowest], rows[highest], targets, CLEARLY)
    rung = lowest if stays else highest
    return rung, fitted_temperature(rows[rung], targets)


def cross_chosen(
    rows: Rows, targets: Targets, fold: IntArray, choose: Callable[[Rows, Targets], Choice] = chosen_rung
) -> FloatArray:
    """(H, C): the rows of each fold (H,) by the candidate and the temperature that the other folds' labels choose."""
    out = np.empty_like(next(iter(rows.values())))
    for k in np.unique(fold):
        mine, others = fold == k, fold != k
        name, degree = choose({name: held[others] for name, held in rows.items()}, targets.take(others))
        out[mine] = at_temperature(rows[name][mine], degree)
    return out


@dataclass(frozen=True)
class Climbed:
    """Where the ladder ended: the fitted rung, its temperature, each rung's held-out log-loss (nats), and `held_out`.

    `held_out` (H, C) are the rows that the other folds' labels chose and calibrated.
    """

    mixture: Mixture
    temperature: float
    losses: Mapping[str, float]
    human: int
    held_out: FloatArray

    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        """(N, C) calibrated."""
        return at_temperature(self.mixture.predict_proba(signals, embeddings), self.temperature)


@dataclass
class Ladder:
    """The rungs on one pool of N items, fitted without the labels of any set of folds. Fits are kept for reuse.

    `fold` (N,) is each item's fold (what it is for an item without label does not matter here). `view` gives the
    signals as they are when some folds are held out (None: always the pool's). `panel_shares` is what each annotator of
    the pool weighs before any label, by name (None: as this pool says).
    """

    names: tuple[str, ...]
    pool: Pool
    fold: IntArray
    seed: int
    view: Callable[[Out], Signals] | None = None
    panel_shares: Mapping[str, float] | None = None
    _fits: dict[tuple[str, Out], Mixture] = field(default_factory=dict, repr=False)
    _centrings: dict[Out, Centring] = field(default_factory=dict, repr=False)
    _climbed: dict[Out, Climbed] = field(default_factory=dict, repr=False)
    _probs: dict[Out, FloatArray] = field(default_factory=dict, repr=False)

    @cached_property
    def gram(self) -> Gram | None:
        """What the pool's embeddings alone decide."""
        return None if self.pool.embeddings is None else Gram.of(self.pool.embeddings)

    def signals(self, out: Out) -> Signals:
        """The signals when the folds `out` are held out."""
        return self.pool.signals if self.view is None else self.view(out)

    def seen(self, out: Out) -> Targets:
        """The human labels outside the folds `out`."""
        targets = self.pool.targets
        return targets.take(~np.isin(self.fold[targets.index], sorted(out)))

    def fit(self, name: str, out: Out) -> Mixture:
        """One rung, fitted without the labels of the folds `out`."""
        if (name, out) not in self._fits:
            pool = replace(self.pool, signals=self.signals(out), targets=self.seen(out))
            self._fits[name, out] = self._unfitted(name, out).fit(pool, rng=stream(self.seed, name, sorted(out)))
        return self._fits[name, out]

    def _unfitted(self, name: str, out: Out) -> Mixture:
        """A rung that is given what all fits on this pool share."""
        if name not in (LogPool.name, Stacked.name):
            return aggregator(name)()
        view = NONE if self.view is None else out
        if view not in self._centrings:
            self._centrings[view] = Centring.of(self.signals(out))
        known = self._centrings[view], self._shares(self.signals(out).annotators)
        return Stacked(*known, self.gram) if name == Stacked.name else LogPool(*known)

    def _shares(self, annotators: Sequence[str]) -> FloatArray:
        """(M,) by name. What a view adds to the panel has learned from it, so that its agreement tells nothing: it
        counts as one."""
        if self.panel_shares is None:
            self.panel_shares = shares_by_name(self.pool)
        return np.array([self.panel_shares.get(name, 1.0) for name in sorted(annotators)])

    def held_out(self, name: str, out: Out) -> FloatArray:
        """(H, C): each label outside `out` by the rung that has not seen its fold either."""
        index, embeddings = self.seen(out).index, self.pool.embeddings
        fold = self.fold[index]
        rows = np.empty((len(index), self.pool.signals.C))
        for k in np.unique(fold).tolist():
            items = index[fold == k]
            without = out | {k}
            part = None if embeddings is None else embeddings[items]
            rows[fold == k] = self.fit(name, without).predict_proba(self.signals(without).take(items), part)
        return rows

    def climb(self, out: Out = NONE) -> Climbed:
        """The rung that the labels outside the folds `out` carry, fitted and calibrated on them.

        From `UNTESTED` held-out folds on, the highest rung stands as it is: such fits only label training rows of a
        classifier that is itself cross-fitted, and testing each of them would double the work of a round.
        """
        if out not in self._climbed:
            targets = self.seen(out)
            if len(out) >= UNTESTED and enough(targets):
                nothing = np.empty((0, self.pool.signals.C))
                self._climbed[out] = Climbed(self.fit(self.names[-1], out), 1.0, {}, targets.H, nothing)
                return self._climbed[out]
            names = self.names if enough(targets) else self.names[:1]
            rows = {name: self.held_out(name, out) for name in names}
            rung, degree = chosen_rung(rows, targets)
            losses = {name: log_loss(held, targets) for name, held in rows.items()} if enough(targets) else {}
            held_out = cross_chosen(rows, targets, self.fold[targets.index])
            self._climbed[out] = Climbed(self.fit(rung, out), degree, losses, targets.H, held_out)
        return self._climbed[out]

    def probs(self, out: Out = NONE) -> FloatArray:
        """(N, C): what `climb(out)` says of the whole pool."""
        if out not in self._probs:
            self._probs[out] = self.climb(out).predict_proba(self.signals(out), self.pool.embeddings)
        return self._probs[out]
