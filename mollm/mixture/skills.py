"""What each annotator is worth before any label.

With texts:

    worth[m] = AGREES * logit(skill[m]) + FOLLOWS * logit(own[m]) + JOINS * logit(pool[m]) + SURER * sure[m]
    share[m] ~ exp(power * shrunk worth[m])

Four things are seen without labels: `skill`, how far an annotator agrees with the others beyond chance; `own`, how well
the texts explain its answers (`text_check`); `pool`, how far it agrees with what the texts say after the whole panel's
answers; `sure`, who is surer where two disagree (`sureness`). Agreement alone is misled by two weak annotators that
make the same mistakes. The power is the one whose pooled answers the texts explain best. Without texts agreement is all
that counts, drawn towards equal shares:

    share[m]        ~  skill[m] / (1 - skill[m] ** 2)

    agreement[i, j] = (same[i, j] - chance[i, j]) / (1 - chance[i, j])  ~  skill[i] * skill[j]

The product holds where the annotators' mistakes are independent (Parisi et al. 2014, doi 10.1073/pnas.1219097111): then
the skills are the one factor of the agreements. A panel whose members are alike, but complete each other, cannot be
told from one with a best member for certain: some such panels lose against equal shares (docs/measurements.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logit, softmax

from mollm.mixture.evidence import Centring, chunks
from mollm.mixture.sureness import worths
from mollm.mixture.text_check import TextCheck
from mollm.records import FloatArray, IntArray, Pool, Signals

FEWEST = 3
"""Annotators: two agree with each other equally, so that without texts they weigh alike."""
AGREES, FOLLOWS, JOINS, SURER = 0.75, 2.5, 1.5, 2.5
"""How much each of the four counts. These and the constants below were chosen on every second panel of 2-5 members of
both recordings, of the demo's three LLMs, and of TREC with two weak LLMs beside, whole and in samples of 30-300 items,
and on made up panels: by the worst and the mean difference from equal shares."""
TRUST, HALF_TRUSTED, TELLING = 0.6, 150.0, 0.3
"""Without texts: the part of the shares by agreement beside equal ones for many items, the items at which it is half of
that, and the agreement of some pair from which it holds. Below it skills cannot be told: one good member among useless
ones agrees with nobody. With sureness beside it, panels of three to five lose more (worst of TREC - .020, without it
- .005)."""
HALF = 100.0
"""Items at which the worths count half: fewer tell little."""
ALIKE, CHANCE = 0.6**2, 20.0
"""Worths that vary less than this (squared nats; and by chance, over the items) are taken to be equal ones."""
LEAST, MOST = 0.02, 0.97
"""Bounds of a skill: below, an annotator still says something; above, its worth would have no end."""
POWERS = (0.25, 0.5, 0.75)
"""Of the shares, beside equal ones. Above .75 a panel with one far better member gains accuracy and loses log-loss: it
leaves nothing of the others' doubts (TREC, power 1: .774 right and .905 nats, .75: .771 and .875, 0: .745 and .873)."""
BENEFIT = 0.5
"""Standard errors by which uneven shares may seem worse than equal ones, and are still taken: the worths have spoken
for them before."""
STEPS = 200  # at most, of the one factor; 20 are usual


def shares(pool: Pool, centring: Centring) -> FloatArray:
    """(M,) weights, annotators by name, of mean 1 over those that say anything; 1 for the others.

    No human label is looked at.
    """
    signals, found = pool.signals, np.ones(pool.signals.M)
    if signals.C < 2:
        return found
    said, margin = answers(signals, centring)
    speak = np.flatnonzero((said >= 0).any(axis=0))
    if len(speak) > 1:
        check = TextCheck.of(pool)
        said, margin = said[:, speak], margin[:, speak]
        if check is None:
            found[speak] = _by_agreement(said, signals.C)
        else:
            texts = Texts(check, _odds(signals, centring, check.items)[:, speak])
            found[speak] = _powered(_worth(said, margin, signals.C, texts), texts)
    return found


def shares_by_name(pool: Pool) -> dict[str, float]:
    """The share of each annotator."""
    found = shares(pool, Centring.of(pool.signals))
    return dict(zip(sorted(pool.signals.annotators), found.tolist(), strict=True))


def answers(signals: Signals, centring: Centring) -> tuple[IntArray, FloatArray]:
    """((N, M) each annotator's most probable label after centring, -1 where it says nothing; (N, M) its lead, nats)."""
    said, margin = np.empty((signals.N, signals.M), dtype=np.int64), np.empty((signals.N, signals.M))
    for rows in chunks(signals.N):
        odds = _odds(signals, centring, rows)
        top = np.partition(odds, -2, axis=2)
        said[rows] = np.where(np.abs(odds).max(axis=2) > 0, odds.argmax(axis=2), -1)
        margin[rows] = top[..., -1] - top[..., -2]
    return said, margin


def _odds(signals: Signals, centring: Centring, rows: slice | IntArray) -> FloatArray:
    """(n, M, C) each annotator's log-odds, of its probabilities and of its votes together."""
    both = centring.log_odds(signals, rows)
    return both[:, : signals.M] + both[:, signals.M :]


@dataclass(frozen=True)
class Texts:
    """Some items with a text, and what the annotators say of them: `odds` (n, M, C)."""

    check: TextCheck
    odds: FloatArray

    def own(self, m: int) -> FloatArray:
        """(2,) how well the texts explain an annotator's answers, and how far it agrees with `common`."""
        silent = ~self.odds[:, m].any(axis=1)
        said = np.where(silent, -1, self.odds[:, m].argmax(axis=1))
        told = (self.check.told(said, self.odds.shape[2]), self.common)
        return np.array([_beyond_chance(said, each, self.odds.shape[2]).mean() for each in told])

    @cached_property
    def common(self) -> IntArray:
        """(n,) what the texts say after the whole panel's answers, all alike."""
        return self.check.told(self.odds.sum(axis=1).argmax(axis=1), self.odds.shape[2])

    def hits(self, weight: FloatArray) -> FloatArray:
        """(n,) whose mean says how well the texts explain the pooled answers."""
        said = np.einsum("nmc,m->nc", self.odds, weight).argmax(axis=1)
        return _beyond_chance(said, self.check.told(said, self.odds.shape[2]), self.odds.shape[2])


def _by_agreement(said: IntArray, C: int) -> FloatArray:
    """(M,) shares of mean 1 where there are no texts."""
    M = said.shape[1]
    if M < FEWEST:
        return np.ones(M)
    agreement, both = agreements(said, C)
    apart = ~np.eye(M, dtype=np.bool_)
    seen = float(both[apart].min())
    telling = float(np.clip(agreement[apart].max() / TELLING, 0, 1))
    skill = np.clip(one_factor(agreement), LEAST, MOST)
    weight = skill / (1 - skill**2)
    return np.asarray(1 + TRUST * telling * seen / (seen + HALF_TRUSTED) * (weight / weight.mean() - 1))


def _powered(worth: FloatArray, texts: Texts) -> FloatArray:
    """(M,) shares of mean 1."""
    best: FloatArray = np.ones(len(worth))
    most, equal = 0.0, texts.hits(best)
    for power in POWERS:
        weight = _weights(worth, power)
        gain = texts.hits(weight) - equal
        seems = float(gain.mean()) + BENEFIT * float(np.sqrt((gain**2).mean() / len(gain)))
        if seems > most:
            best, most = weight, seems
    return best


def _worth(said: IntArray, margin: FloatArray, C: int, texts: Texts) -> FloatArray:
    """(M,) nats of mean 0, shrunk towards 0 where they are alike or rest on few items."""
    M = said.shape[1]
    agreement, both = agreements(said, C)
    seen = float(both[~np.eye(M, dtype=np.bool_)].min())
    worth = SURER * worths(margin, said)
    if M >= FEWEST:
        worth = worth + AGREES * _logit(one_factor(agreement))
    n = len(texts.odds)
    by_text = np.array([_logit(texts.own(m)) @ (FOLLOWS, JOINS) for m in range(M)])
    worth = (worth - worth.mean()) * seen / (seen + HALF) + (by_text - by_text.mean()) * n / (n + HALF)
    spread = float((worth**2).mean())
    return np.asarray(worth * spread / (spread + ALIKE + CHANCE / max(seen, 1.0)))


def _beyond_chance(said: IntArray, told: IntArray, C: int) -> FloatArray:
    """(n,) whose mean is the agreement beyond chance of two lists of labels, over those that are not -1."""
    spoke = said >= 0
    mine, other = said[spoke], told[spoke]
    n = max(1, len(mine))
    chance = float(np.bincount(mine, minlength=C) @ np.bincount(other, minlength=C)) / n**2
    return ((mine == other) - chance) / (1 - chance) if len(mine) and chance < 1 else np.zeros(n)


def _logit(share: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(share, LEAST, MOST)))


def _weights(worth: FloatArray, power: float) -> FloatArray:
    return np.asarray(softmax(power * worth) * len(worth))


def agreements(said: IntArray, C: int) -> tuple[FloatArray, FloatArray]:
    """((M, M) agreement beyond chance with 1 on the diagonal, (M, M) the items on which both say something)."""
    M = said.shape[1]
    agreement, count = np.eye(M), np.zeros((M, M))
    for i in range(M):
        for j in range(i):
            mine, other = (said[(said[:, i] >= 0) & (said[:, j] >= 0), m] for m in (i, j))
            n = max(len(mine), 1)
            chance = float(np.bincount(mine, minlength=C) @ np.bincount(other, minlength=C)) / n**2
            if len(mine) and chance < 1:
                agreement[i, j] = agreement[j, i] = (float((mine == other).mean()) - chance) / (1 - chance)
            count[i, j] = count[j, i] = len(mine)
    return agreement, count


def one_factor(R: FloatArray) -> FloatArray:
    """(M,) the vector whose outer product fits the (M, M) matrix `R` best off its diagonal (principal factor)."""
    M = len(R)
    own, loading = np.full(M, 0.5), np.zeros(M)
    for _ in range(STEPS):
        reduced = R.copy()
        reduced[np.arange(M), np.arange(M)] = own
        values, vectors = np.linalg.eigh(reduced)
        loading = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
        loading = loading if loading.sum() >= 0 else -loading
        fresh = np.minimum(loading**2, MOST)
        if np.abs(fresh - own).max() < 1e-9:
            break
        own = fresh
    return np.asarray(loading)
