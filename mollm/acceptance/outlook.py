"""What an audit will likely bring, said before anybody audits: from the mixture's own calibrated confidence.

Of each task the mixture is wrong with probability 1 - confidence, and the confidence itself may be off (`DOUBT`). For
each region that an audit could be drawn from and each place where its test could begin, audits are simulated; the
pair with the largest expected share of accepted tasks is chosen. This only plans: the certificate holds whether or not
the confidence is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from mollm.acceptance.audit import Design, Kind
from mollm.acceptance.certificate import Allowed
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray, IntArray

DOUBT = 0.3  # standard deviation of the error's log-odds around what the confidence says (chosen on TREC and IMDB)
PLAYS = 100  # simulated audits a design, the same chances for each: their differences are known to about .01
REGIONS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)  # shares of the open tasks that an audit may be drawn from
STARTS = (0.4, 0.5, 0.6, 0.7)  # shares of the region at which the test may begin (chosen on TREC and IMDB)
ROOMY = 25  # tasks a label from which on an audit is spread: a simple one, exact for few tasks, gains 2 % there
COARSE = 60  # numbers of tasks tested in the simulation: the audit itself tests more
_SURE = 1e-4  # no probability is nearer to 0 or 1 in the simulation: a confidence of 1 is never that


@dataclass(frozen=True, slots=True)
class Outlook:
    """A design and what it will likely bring: the expected `share` of the open tasks accepted, with the central 80 %
    of the simulated audits, and the chance that the audit certifies nothing."""

    design: Design
    share: float
    low: float
    high: float
    refused: float


def outlook(
    confidence: FloatArray, labels: int, allowed: Allowed, alpha: float, *, rng: np.random.Generator,
    regions: Sequence[float] | FloatArray = REGIONS,
) -> Outlook:  # fmt: skip
    """The best design of an audit of `labels` on the open tasks, whose `confidence` (K,) falls; and its outlook.

    `regions` are the shares of the tasks that it may be drawn from ((1.0,): from all). Raises InputError where there
    are fewer tasks than labels.
    """
    K = len(confidence)
    if not 1 <= labels <= K:
        raise InputError(f"An audit of {labels} labels needs at least as many open tasks: there are {K}.")
    odds = -logit(np.clip(confidence, _SURE, 1 - _SURE))
    shift, chance = DOUBT * rng.standard_normal((PLAYS, 1)), rng.random((2, PLAYS, labels))
    designs = sorted({_drawn(float(share), K, labels) for share in regions}, key=lambda one: one.region)
    return max((_played(one, odds, shift, chance, allowed, alpha) for one in designs), key=lambda one: one.share)


def _drawn(share: float, K: int, labels: int) -> Design:
    """The design for a region of about this share; a spread audit needs a whole number of tasks a cell."""
    region = max(labels, round(share * K))
    kind: Kind = "spread" if region >= ROOMY * labels else "simple"
    if kind == "spread":
        region = min(round(region / labels), K // labels) * labels
    return Design(kind, labels, region, max(1, region // 20), K)


def _played(
    design: Design, odds: FloatArray, shift: FloatArray, chance: FloatArray, allowed: Allowed, alpha: float
) -> Outlook:
    """The outlook of a design, from simulated audits."""
    if design.kind == "spread":
        places = np.arange(design.labels) * design.cell + (chance[0] * design.cell).astype(np.int64)
    else:
        # Sorted and apart from each other: nearly the order statistics of a draw without replacement.
        places = np.sort((chance[0] * (design.region - design.labels + 1)).astype(np.int64), axis=1)
        places += np.arange(design.labels)
    wrong = chance[1] < expit(odds[places] + shift)
    ends = _coarse(design)
    audits, passed = _passed(design, ends, places, wrong, allowed, alpha)
    begun = (
        _begun(design, ends, audits, passed, int(np.searchsorted(ends, start * design.region))) for start in STARTS
    )
    return max(begun, key=lambda one: one.share)


def _begun(design: Design, ends: IntArray, audits: IntArray, passed: BoolArray, first: int) -> Outlook:
    """The outlook where the test begins at the number of tasks `ends[first]`."""
    steps = np.where(passed[:, first:].all(axis=1), len(ends) - first, passed[:, first:].argmin(axis=1))
    last = first + np.maximum(steps - 1, 0)
    accepted = np.where(steps > 0, ends[last] - np.take_along_axis(audits, last[:, None], axis=1)[:, 0], 0)
    share = accepted / max(1, design.tasks - design.labels)
    low, high = np.quantile(share, [0.1, 0.9])
    begun = replace(design, start=int(ends[first]))
    return Outlook(begun, float(share.mean()), float(low), float(high), float((steps == 0).mean()))


def _coarse(design: Design) -> IntArray:
    """Some of the tested numbers of tasks, the first and the last among them."""
    ends = design.ends
    return ends[np.unique(np.linspace(0, len(ends) - 1, COARSE).round().astype(np.int64))]


def _passed(
    design: Design, ends: IntArray, places: IntArray, wrong: BoolArray, allowed: Allowed, alpha: float
) -> tuple[IntArray, BoolArray]:
    """(PLAYS, E) how many of the first tasks are audited, and whether they would be certified."""
    audits = np.array([np.searchsorted(row, ends) for row in places])
    total = np.concatenate([np.zeros((len(wrong), 1), dtype=np.int64), np.cumsum(wrong, axis=1)], axis=1)
    errors = np.take_along_axis(total, audits, axis=1)
    tasks = np.broadcast_to(ends, audits.shape)
    return audits, design.tail(errors, audits, tasks, allowed(tasks - audits)) <= alpha
