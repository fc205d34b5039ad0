"""The whole audit: one promise on all open tasks, that may be decided after each answer.

The doubtful tasks are drawn more often, for that is where the errors are. What people say is read as a bet against the
hypothesis "of the tasks that nobody audited, more are wrong than may be". Before each answer a fixed share of the
wealth is bet on a task that is right. While the hypothesis holds, the wealth cannot be expected to grow, so that it
ever comes to 1 / alpha has a chance of at most alpha (Ville's inequality), at whichever answer one looks. It holds for
every arrangement of the errors. Bets without replacement: Waudby-Smith and Ramdas (2024); drawn with weights: Shekhar,
Xu, Lipton, Liang and Ramdas (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from mollm.acceptance.certificate import Allowed, Certified
from mollm.acceptance.outlook import DOUBT
from mollm.records import BoolArray, FloatArray, IntArray

# The three were chosen on tuned rounds of TREC (seeds 0 and 1; 550 to 650 labels) and on rounds of IMDB (0 to 3; 350
# to 600): an audit takes 238 and 452 answers on average (a refused one counted as 1,300); with a FLOOR of .6 243 and
# 444, with .7 234 and 471; with a STAKE of .95 234 and 470.
FLOOR = 0.65  # of the chance to be drawn is the same for each task: a confident one that is wrong must not ruin the bet
POWER = 2.0  # of the doubt, by which the other part goes: errors are among the doubtful tasks, and an audit mends them
# (1.5: 241 and 445 answers)
STAKE = 0.9  # of the largest stake; with all of it one error could lose all
FEWEST = 10  # answers: the plan looks at no fewer
STEPS = 40  # numbers of answers that the plan looks at
GROUPS = 100  # of tasks with about the same doubt: the plan of a million tasks takes hardly longer than of 1,000
_QUANTILES = norm.ppf((np.arange(8) + 0.5) / 8)  # of how far the confidence is off: equally likely cases
_SURE = 1e-4  # no probability is nearer to 0 or 1, as in the outlook


@dataclass(frozen=True, slots=True)
class Bet:
    """Of the `tasks` that nobody audited, so many may be wrong as `allowed` says of their number. All of it is fixed
    before any answer is seen: the `floor` with which the tasks are drawn, and the `stake`, as FLOOR and STAKE are."""

    tasks: int
    allowed: Allowed
    floor: float = FLOOR
    stake: float = STAKE

    def wealth(self, chance: FloatArray, wrong: BoolArray) -> FloatArray:
        """(n,) the wealth after each of the first n answers, drawn with `chance` (n,): `wrong` (n,) or not. It was 1.

        After n answers with e errors the hypothesis is "at first, more were wrong than may be now, and e": each time
        another one. The wealth is what bets against it from the first answer on would have come to.
        """
        return self._against(chance, wrong, lambda wealth: wealth)

    def evidence(self, chance: FloatArray, wrong: BoolArray) -> FloatArray:
        """(n,) the most that the wealth has been, after any of the first n answers, in bets against the hypothesis of
        the last one: what was rejected once stays so.

        The wealth is the larger the more errors a hypothesis has. So the true number is rejected where a smaller one
        is, and it is one hypothesis: the chance that it ever is, is at most the level.
        """
        return self._against(chance, wrong, np.maximum.accumulate)

    def _against(self, chance: FloatArray, wrong: BoolArray, read: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """(n,) what is `read` of the bets against each hypothesis, after the answers at which it is the one."""
        after: IntArray = np.cumsum(wrong)
        before, left = after - wrong, 1 - (np.cumsum(chance) - chance)
        errors = np.where(wrong, np.maximum(left, chance) / chance, 0.0)  # their mean: the wrong ones that are left
        first = self.allowed(self.tasks - 1 - np.arange(len(wrong))) + 1 + after
        found = np.empty(len(wrong))
        for number in np.unique(first):
            mean = np.maximum(number - before, 1)
            factor = 1 + self.share(mean) * (1 - errors / mean)
            found[first == number] = read(np.cumprod(np.maximum(factor, 0.0)))[first == number]
        return found

    def share(self, mean: IntArray | FloatArray) -> FloatArray:
        """The share of the wealth to bet where `mean` of the tasks are wrong: no answer can then make the wealth
        negative."""
        return np.asarray(self.stake / (self.tasks / (self.floor * np.minimum(mean, self.tasks)) - 1))

    def certified(self, chance: FloatArray, wrong: BoolArray, alpha: float) -> Certified:
        """What the first n answers certify: all tasks, from the first one on at which the evidence is 1 / alpha; or 0.

        A skip counts as wrong.
        """
        enough = np.flatnonzero(self.evidence(chance, wrong) >= 1 / alpha)
        n = int(enough[0]) + 1 if len(enough) else len(wrong)
        return Certified(self.tasks if len(enough) else 0, n, int(wrong[:n].sum()))


def draw(confidence: FloatArray, labels: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """(labels,) places among the tasks, whose `confidence` (K,) is known, in the order in which they are read; and with
    which probability each would have been the first (`chances`)."""
    chance = chances(1 - confidence)
    # The shortest of waiting times at these rates is that of the first drawn, the next one of the second, and so on.
    places = np.argsort(rng.exponential(size=len(chance)) / chance, kind="stable")[:labels]
    return places, chance[places]


def chances(doubt: FloatArray) -> FloatArray:
    """(K,) the probability of each task to be drawn first, by its `doubt` (K,) in [0, 1]."""
    weight = np.clip(doubt, _SURE, 1) ** POWER
    return np.asarray((FLOOR + (1 - FLOOR) * weight / weight.mean()) / len(doubt))


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a bet will likely bring: how many `answers` (T,) have come when it is certified with the chance `reached`
    (T,), by what the mixture's confidence says and how far off it may be."""

    answers: IntArray
    reached: FloatArray

    @property
    def expected(self) -> FloatArray:
        """(T,) how many are expected if people stop at these numbers, or as soon as it is certified."""
        open_still = (1 - self.reached) * np.diff(self.answers, append=self.answers[-1])
        return np.asarray(self.answers[0] + np.cumsum(np.concatenate([[0.0], open_still[:-1]])))


def prospect(doubt: FloatArray, labels: int, allowed: Allowed, alpha: float, off: float = DOUBT) -> Prospect:
    """What an audit of at most so many labels will likely bring at the level `alpha`, of tasks with this `doubt` (K,),
    rising.

    The logarithm of the wealth is taken as a Brownian motion, in some cases of how far the confidence is off: `off` is
    the standard deviation of an error's log-odds around what it says.
    """
    K = len(doubt)
    number = _grouped(np.ones(K))
    chance, middle = _grouped(chances(doubt)) / number, np.clip(_grouped(doubt) / number, _SURE, 1 - _SURE)
    wrong = expit(logit(middle) + off * _QUANTILES[:, None])  # (cases, groups)
    answers = np.unique(np.geomspace(min(FEWEST, labels), labels, STEPS).round().astype(np.int64))
    undrawn = np.exp(-chance * answers[:, None] / 2)  # (T, groups), on average over so many answers
    found = (1 - undrawn**2) * number @ wrong.T  # (T, cases) errors among them
    mean = allowed(K - answers)[:, None] + 1 + found / 2  # the hypothesis of the last answer, on average
    weight = chance * number * undrawn
    left = weight.sum(axis=1, keepdims=True)
    share = Bet(K, allowed).share(mean)[:, :, None]
    gain, loss = np.log1p(share), np.log(1 + share * (1 - (left / chance)[:, None] / mean[:, :, None]))
    weight = (weight / left)[:, None]
    drift = (((1 - wrong) * gain + wrong * loss) * weight).sum(axis=2)
    square = (((1 - wrong) * gain**2 + wrong * loss**2) * weight).sum(axis=2)
    spread = np.sqrt(np.maximum(square - drift**2, 1e-12))
    reached = _reached(drift, spread, -np.log(alpha), answers[:, None]).mean(axis=1)
    return Prospect(answers, np.maximum.accumulate(reached))


def _grouped(rows: FloatArray) -> FloatArray:
    """Sums of at most `GROUPS` runs of neighbours."""
    begins = np.unique(np.linspace(0, len(rows), min(GROUPS, len(rows)), endpoint=False).astype(np.int64))
    return np.asarray(np.add.reduceat(rows, begins))


def _reached(mean: FloatArray, spread: FloatArray, target: float, times: IntArray) -> FloatArray:
    """The chance that a Brownian motion of this drift and spread a step has come to `target` by each time."""
    root = spread * np.sqrt(np.maximum(times, 1e-9))
    later = np.exp(np.minimum(2 * mean * target / spread**2 + norm.logcdf((-target - mean * times) / root), 0.0))
    return np.asarray(np.minimum(norm.cdf((mean * times - target) / root) + later, 1.0))
