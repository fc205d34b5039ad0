"""Anchoring: how far people follow a label that they are shown, and the weight that an accepted label therefore gets.

A random share of every batch is served blind: without the mixture's label. `effect` is the difference of two rates: how
often people agree with the mixture's label on shown and on blind tasks. It needs no model.
`worth` gives weights, with a model. With probability `pull`, a person who is shown a label accepts it without judging.
Otherwise, and always on a blind task, they judge. They then agree with probability q(p), p the mixture's confidence:

    P(agree | blind) = q(p)        P(agree | shown) = pull + (1 - pull) q(p)        logit q = a + b logit p

The gradient of log P(agree | shown) in q is that of log q times w, the probability that an agreement was judged:

    w(p) = (1 - pull) q(p) / (pull + (1 - pull) q(p))

So a fit that weighs accepted labels by w (the E-step of this model) learns what people think, not what they were
shown. A label that differs from the shown one was certainly judged: its weight is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, logsumexp, xlog1py, xlogy

from mollm.errors import InputError
from mollm.metrics import Estimate, newcombe, wilson
from mollm.records import BoolArray, FloatArray, IntArray

MIN_LABELS = 20
"""Blind labels, and shown ones, that a figure needs (chosen by hand: from 20 of each its interval is about +-.25)."""
PULL_PRIOR = (1.0, 5.0)  # Beta (chosen by hand): at its mean, 1/6, an accepted label of q = .8 weighs .8
_PULLS = (np.arange(50) + 0.5) / 50  # the grid of pulls: finer than any interval from a few hundred labels
_LEVELS = np.linspace(-3.0, 3.0, 25)  # the grid of a: three standard deviations of its prior, normal (0, 1)
_SLOPES = np.linspace(0.0, 2.0, 17)  # the grid of b: two of its prior, normal (1, .5); b = 1: calibrated confidence
_BINS = 40  # of the confidence, each .025 wide: labels are counted in bins, so that the cost does not grow with H


@dataclass(frozen=True)
class Sightings:
    """H human labels of tasks that were in a batch, each with the mixture's label for that task.

    `agree` (H,): the person chose the mixture's label; `shown` (H,): it was on the page (else blind); `confidence`
    (H,): its probability by the mixture; `batch` (H,): the batch, any whole number. Raises InputError for bad arrays.
    """

    agree: BoolArray
    shown: BoolArray
    confidence: FloatArray
    batch: IntArray

    def __post_init__(self) -> None:
        if not len(self.agree) == len(self.shown) == len(self.confidence) == len(self.batch):
            raise InputError("Sightings need one entry of each kind for each label.")
        if len(self.confidence) and not (self.confidence.min() >= 0 and self.confidence.max() <= 1):
            raise InputError("A confidence is not between 0 and 1.")

    def take(self, rows: BoolArray) -> Sightings:
        """The labels that `rows` (H,) chooses."""
        return Sightings(self.agree[rows], self.shown[rows], self.confidence[rows], self.batch[rows])


@dataclass(frozen=True, slots=True)
class Effect:
    """How much more often people agree with a label that they see. `blind` and `shown` labels were compared; with too
    few of them the other figures are None."""

    blind: int
    shown: int
    difference: Estimate | None = None
    agree_blind: float | None = None
    agree_shown: float | None = None

    @property
    def line(self) -> str:
        """One line for people."""
        if self.difference is None:
            if not self.blind:
                return "anchoring: not measured (no blind labels; `mollm options PROJECT --blind-share .1` gives some)"
            return (
                f"anchoring: too few labels to say ({self.blind} blind and {self.shown} shown in the same batches; "
                f"{MIN_LABELS} of each are needed)"
            )
        verdict = "people follow what they see" if self.difference.low > 0 else "no pull is proven"
        return (
            f"anchoring: people agree with the mixture's label {self.difference.value:+.3f} "
            f"(95 % {self.difference.low:+.3f} to {self.difference.high:+.3f}) more often when it is shown: "
            f"{self.agree_shown:.3f} of {self.shown} shown, {self.agree_blind:.3f} of {self.blind} blind, "
            f"at equal confidence; {verdict}"
        )


def effect(seen: Sightings) -> Effect:
    """The rate of agreement on shown tasks minus that on blind tasks, with Newcombe's 95 % interval.

    Tasks are compared within strata: the more and the less confident half of each batch. A stratum of n1 shown and n0
    blind tasks has the weight n1 n0 / (n1 + n0) (Mantel and Haenszel), which is 0 if it has only one kind. The
    intervals of the two rates are Wilson's, at Kish's effective sample size.
    """
    weight = _strata_weights(seen)
    compared = weight > 0
    blind, shown = int((compared & ~seen.shown).sum()), int((compared & seen.shown).sum())
    if min(blind, shown) < MIN_LABELS:
        return Effect(blind, shown)
    arms = []
    for arm in (compared & seen.shown, compared & ~seen.shown):
        w = weight[arm] / weight[arm].sum()
        arms.append(wilson(float(w @ seen.agree[arm]), 1 / float(w @ w)))
    return Effect(blind, shown, newcombe(*arms), arms[1].value, arms[0].value)


def _strata_weights(seen: Sightings) -> FloatArray:
    """(H,): the weight of each label in the rate of its kind, shown or blind; 0 if its stratum has only one kind."""
    weight = np.zeros(len(seen.agree))
    for batch in np.unique(seen.batch):
        here = seen.batch == batch
        sure = seen.confidence > np.median(seen.confidence[here])
        for stratum in (here & sure, here & ~sure):
            blind, shown = stratum & ~seen.shown, stratum & seen.shown
            n0, n1 = int(blind.sum()), int(shown.sum())
            if n0 and n1:
                weight[blind], weight[shown] = n1 / (n0 + n1), n0 / (n0 + n1)
    return weight


@dataclass(frozen=True)
class Worth:
    """The fitted model: `pull` with its 95 % credible interval, and the weights of accepted labels."""

    pull: Estimate
    _log_posterior: FloatArray  # (levels, slopes, pulls)

    def accepted(self, confidence: FloatArray) -> FloatArray:
        """(H,): the expected weight w of labels that agree with the shown one, at the mixture's `confidence` (H,)."""
        # Computed at 101 points and interpolated: nearly linear between them, and memory does not grow with H.
        known = np.linspace(0, 1, 101).astype(np.float64)
        q, pull = _q(known)[..., None, :], _PULLS[:, None]
        w = (1 - pull) * q / (pull + (1 - pull) * q)
        return np.asarray(np.interp(confidence, known, np.einsum("abch,abc->h", w, np.exp(self._log_posterior))))


def worth(seen: Sightings) -> Worth | None:
    """The posterior of pull, level a and slope b on a grid. None if there are too few labels to learn from."""
    if effect(seen).difference is None:
        return None
    seen = seen.take(_strata_weights(seen) > 0)
    edges = np.linspace(0, 1, _BINS + 1)
    place = np.clip(np.digitize(seen.confidence, edges) - 1, 0, _BINS - 1)
    q = _q((edges[:-1] + edges[1:]) / 2)  # (levels, slopes, bins)
    agree = np.zeros((2, 2, _BINS))
    np.add.at(agree, (seen.shown.astype(int), seen.agree.astype(int), place), 1.0)
    blind = xlogy(agree[0, 1], q).sum(axis=-1) + xlog1py(agree[0, 0], -q).sum(axis=-1)
    pull, judged = _PULLS[:, None], q[..., None, :]
    both = pull + (1 - pull) * judged
    shown = (xlogy(agree[1, 1], both) + xlog1py(agree[1, 0], -both)).sum(axis=-1)
    log_posterior = blind[..., None] + shown + _log_prior()
    log_posterior = log_posterior - logsumexp(log_posterior)
    return Worth(_summary(np.exp(log_posterior).sum(axis=(0, 1))), log_posterior)


def _q(confidence: FloatArray) -> FloatArray:
    """(levels, slopes, H): q, the probability that a person who judges agrees, at each `confidence` (H,)."""
    evidence = logit(np.clip(confidence, 0.01, 0.99))
    values = expit(_LEVELS[:, None, None] + _SLOPES[None, :, None] * evidence)
    return np.asarray(np.clip(values, 1e-4, 1 - 1e-4))


def _log_prior() -> FloatArray:
    level, slope = -0.5 * _LEVELS**2, -0.5 * ((_SLOPES - 1) / 0.5) ** 2
    pull = (PULL_PRIOR[0] - 1) * np.log(_PULLS) + (PULL_PRIOR[1] - 1) * np.log1p(-_PULLS)
    return np.asarray(level[:, None, None] + slope[None, :, None] + pull)


def _summary(mass: FloatArray) -> Estimate:
    """Mean and central 95 % of a distribution over the grid of pulls."""
    cumulative = np.cumsum(mass)
    low, high = (float(_PULLS[min(int(np.searchsorted(cumulative, tail)), len(_PULLS) - 1)]) for tail in (0.025, 0.975))
    return Estimate(float(mass @ _PULLS), low, high)
