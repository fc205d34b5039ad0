"""Suspect labels: human labels that the mixture, the LLMs, the classifier and other people speak against.

The opinion p on a label's item is the mean of three cross-fitted distributions: the mixture's, the one of the panel's
mixture without the text, and the classifier's. None of them has seen a label of this item. The three err on different
items, so that a noisy label that has pulled one of them is still seen by the others. With g the given label,

    score = max over c != g of log p(c) + e(c)  -  (log p(g) + e(g))        nats

e(c) is the evidence of the people who said c: the sum of their labels' weights times log(r (C - 1) / (1 - r)), the
log-likelihood ratio of one label of a person who is right with probability r (`mollm.people.reliability`). So the label
of a minority is suspect, and with one label a task the people change no rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.errors import InputError
from mollm.metrics import SMALLEST
from mollm.mixture.evidence import normalised
from mollm.people.reliability import PRIOR
from mollm.records import FloatArray, IntArray, Signals, Targets


@dataclass(frozen=True)
class Heard:
    """H human labels and what speaks for and against them.

    `signals` are the panel's on the pool that `targets` (H) index into. `mixture`, `panel` and `classifier` are (H, C):
    cross-fitted rows of the labels' items, where a row of NaN says nothing (None: there is none). Raises InputError
    where the parts do not fit each other.
    """

    targets: Targets
    signals: Signals
    mixture: FloatArray
    panel: FloatArray | None = None
    classifier: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (self.targets.H, self.signals.C)
        for name in ("mixture", "panel", "classifier"):
            rows = getattr(self, name)
            if rows is not None and rows.shape != shape:
                raise InputError(f"`{name}` has shape {rows.shape}, but labels x classes is {shape}.")

    def opinion(self) -> FloatArray:
        """(H, C): the mean of the distributions that say something of a label's item."""
        views = np.stack([view for view in (self.mixture, self.panel, self.classifier) if view is not None])
        known = ~np.isnan(views).any(axis=2, keepdims=True)
        return np.asarray(np.where(known, views, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))

    def evidence(self) -> FloatArray:
        """(H, C) nats: what all people's labels of the item say for each class, this label among them."""
        C, targets = self.signals.C, self.targets
        _, task = np.unique(targets.index, return_inverse=True)
        weight = np.zeros((int(task.max()) + 1 if len(task) else 0, C))
        np.add.at(weight, (task, targets.label), targets.weight)
        return np.asarray(weight[task] * np.log(PRIOR * max(C - 1, 1) / (1 - PRIOR)))


@dataclass(frozen=True, slots=True)
class Suspect:
    """One of the H labels, by its `row`: the class that speaks against it most, by so many nats, and who says so."""

    row: int
    given: int
    suggested: int
    score: float
    reason: str


def doubts(heard: Heard) -> tuple[FloatArray, IntArray]:
    """(H,) the score of each label, in nats, and (H,) the class that speaks against it most."""
    rows, given = np.arange(heard.targets.H), heard.targets.label
    log_odds = np.log(np.maximum(heard.opinion(), SMALLEST)) + heard.evidence()
    mine = log_odds[rows, given]
    log_odds[rows, given] = -np.inf
    suggested = log_odds.argmax(axis=1)
    return np.asarray(log_odds[rows, suggested] - mine), np.asarray(suggested, dtype=np.int64)


def suspects(heard: Heard, most: int) -> tuple[Suspect, ...]:
    """At most `most` labels, the most suspect first (of equals the first row). None has more for it than against it.

    The given label's own evidence counts for it: where one person labelled a task, the rest must be surer than that
    person.
    """
    if heard.signals.C < 2:
        return ()
    score, suggested = doubts(heard)
    order = np.argsort(-score, kind="stable")[:most]
    given = heard.targets.label
    return tuple(
        Suspect(int(h), int(given[h]), int(suggested[h]), float(score[h]), reason(heard, int(h), int(suggested[h])))
        for h in order
        if score[h] > 0
    )


def reason(heard: Heard, row: int, suggested: int) -> str:
    """Who is for the suggested label, and who is for the given one beside the person who gave it."""
    given, names = int(heard.targets.label[row]), heard.signals.labels
    against, beside = _voices(heard, row, suggested), _voices(heard, row, given)
    if not against:  # each of them is for a third label, but not for the same
        against = [f"all of them together ({heard.opinion()[row, suggested]:.2f})"]
    sides = ((names[suggested], against), (names[given], beside))
    return "; ".join(f"{name}: {_listed(voices)}" for name, voices in sides if voices)


def _voices(heard: Heard, row: int, label: int) -> list[str]:
    """The LLMs by name, the mixture and the classifier that think this label the most probable, and other people."""
    targets = heard.targets
    item = int(targets.index[row])
    panel = heard.signals.take(np.array([item]))
    asked, said = ~panel.missing[0], normalised(panel.label_probs)[0].argmax(axis=-1)
    llms = [name for m, name in enumerate(panel.annotators) if asked[m] and said[m] == label]
    voices = [f"{len(llms)} of {int(asked.sum())} LLMs ({', '.join(llms)})"] if llms else []
    for name, view in (("the mixture", heard.mixture), ("the classifier", heard.classifier)):
        if view is not None and not np.isnan(view[row]).any() and view[row].argmax() == label:
            voices.append(f"{name} ({view[row, label]:.2f})")
    people = int(((targets.index == item) & (targets.label == label)).sum()) - int(targets.label[row] == label)
    return [*voices, f"{people} other {'person' if people == 1 else 'people'}"] if people else voices


def _listed(voices: Sequence[str]) -> str:
    """The voices with commas and one "and"."""
    return " and ".join([", ".join(voices[:-1]), voices[-1]]) if len(voices) > 1 else voices[0]
