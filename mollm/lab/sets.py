"""Replay of a multiple choice: which labels of a list are shown, against simple rivals.

A recording holds one label an item. So a multiple choice is built from it: a made-up text is none, one, two or three of
its items of different labels, the panel's answer to it is the mean of the LLMs' real answers to these items, and all
their labels are true. Its text is theirs, one after the other. One label of the recording is left out of the list and
stands for "none of these". What is built this way has real answers, but no LLM has read two of its items together.

Each label is a decision of its own, and the service's round is fitted to it, with the frozen encoder as the classifier.

The rivals: nothing; the single most probable label; each label cut at .5 by itself; with human labels, the one LLM that
is best on them, with a threshold for each label that maximises F1 there. Gold only scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.fuse import KnownTexts
from mollm.metrics import ece
from mollm.mixture.evidence import normalised
from mollm.mixture.logpool import before_labels
from mollm.recording import Recording
from mollm.records import BoolArray, FloatArray, IntArray, Item, Signals, Targets
from mollm.round.run import Embeds, RoundInput, run_round
from mollm.sets import SetRule, micro_f1
from mollm.signals import yes_or_no

SIZES = (0.15, 0.45, 0.3, 0.1)
"""The shares of made-up texts with 0, 1, 2 and 3 labels: a guess of how lists are used, made before anything was
measured, and other than what `mollm.sets` guesses."""
OURS, HALVES, SINGLE, NOTHING, LLM = "sets", "each at .5", "the single best label", "nothing", "best LLM's thresholds"
ASKED, FIT = 1, 2
"""Under [seed]: the streams of the human labels and of the fit."""
CONFIG = LoopConfig(classifier="head")


@dataclass(frozen=True)
class Listed:
    """N texts with a panel's answers over K labels and "none of these" (the last), and which labels are true (N, K).

    `texts` (N,): None where only the panel's answers are known.
    """

    signals: Signals
    truth: BoolArray
    texts: tuple[str, ...] | None = None

    def decision(self, k: int, asked: IntArray) -> RoundInput:
        """The k-th label as a decision of its own, as the service makes it; `asked` are human-labelled texts."""
        answers = (yes_or_no(part, k) for part in (self.signals.label_probs, self.signals.votes))
        signals = Signals(self.signals.items, self.signals.annotators, ("applies", "does not apply"), *answers)
        K = self.truth.shape[1]
        targets = Targets.of(asked, np.where(self.truth[asked, k], 0, 1))
        texts = self.texts or [None] * signals.N
        items = [Item(name, text) for name, text in zip(signals.items, texts, strict=True)]
        return RoundInput(items, signals, targets, frequencies=(1 / max(2, K), 1 - 1 / max(2, K)))


@dataclass(frozen=True)
class Score:
    """Of the sets of the texts that nobody labelled: the share of right decisions, micro-F1, the share of sets that are
    wholly right, and the calibration error of a decision (ours alone: NaN elsewhere)."""

    decisions: float
    f1: float
    exact: float
    ece: float = float("nan")


def built(recording: Recording, texts: int, rng: np.random.Generator) -> Listed:
    """A multiple choice of up to `texts` texts; no item is used twice. Raises InputError for fewer than four labels."""
    C, gold = recording.signals.C, recording.gold
    if C < 4 or (gold < 0).any():
        raise InputError(f"{recording.name} has {C} labels: a list is built from at least four, with gold for all.")
    none = int(np.bincount(gold, minlength=C).argsort()[-2])  # frequent, so that there are texts without a label
    listed = [c for c in range(C) if c != none]
    left = {c: rng.permutation(np.flatnonzero(gold == c)).tolist() for c in range(C)}
    groups: list[list[int]] = []
    while len(groups) < texts:
        size = int(rng.choice(len(SIZES), p=SIZES))
        counts = np.array([len(left[c]) for c in listed], dtype=np.float64)
        if (counts > 0).sum() < len(SIZES) or not left[none]:
            break
        chosen = rng.choice(listed, size, replace=False, p=counts / counts.sum()).tolist() if size else [none]
        groups.append([left[c].pop() for c in chosen])
    order = [*listed, none]
    answers = [
        np.stack([normalised(part[group]).mean(axis=0)[:, order] for group in groups])
        for part in (recording.signals.label_probs, recording.signals.votes)
    ]
    names = tuple(recording.signals.labels[c] for c in order)
    truth = np.array([[c in gold[group] for c in listed] for group in groups])
    items = tuple(f"{n:06d}" for n in range(len(groups)))  # their order as texts is their order
    said = tuple(" ".join(recording.items[n].text or "" for n in group) for group in groups)
    signals = Signals(items, recording.signals.annotators, names, *answers)
    return Listed(signals, truth, said if recording.has_text else None)


def play(listed: Listed, human: int, seed: int, encoder: Embeds | None = None) -> dict[str, Score]:
    """Ours and its rivals, after `human` random labelled texts, on all others; by name. Without an `encoder` texts have
    no part."""
    if listed.texts is None:
        encoder = None
    elif encoder is not None:
        encoder = KnownTexts(dict(zip(listed.texts, encoder.embed(listed.texts), strict=True)))
    N, K = listed.truth.shape
    asked = np.sort(np.random.default_rng([seed, ASKED]).permutation(N)[:human])
    rest = np.setdiff1d(np.arange(N), asked)
    panel, probs, held_out = np.empty((N, K)), np.empty((N, K)), np.empty((human, K))
    for k in range(K):
        given = listed.decision(k, asked)
        panel[:, k] = before_labels(given.signals, given.frequencies).predict_proba(given.signals)[:, 0]
        outcome = run_round(given, config=CONFIG, encoder=encoder, rng=np.random.default_rng([seed, FIT, k]))
        probs[:, k], held_out[:, k] = outcome.probabilities[:, 0], outcome.heard.mixture[:, 0]
    rule = SetRule.fitted(panel, asked, held_out, listed.truth[asked], np.ones(human))
    sets = {
        OURS: rule.choose(panel, probs), HALVES: probs > 0.5, SINGLE: np.eye(K, dtype=np.bool_)[probs.argmax(axis=1)],
        NOTHING: np.zeros((N, K), dtype=np.bool_),
    }  # fmt: skip
    if human:
        sets[LLM] = best_llm(normalised(listed.signals.label_probs)[..., :K], listed.truth, asked)
    error = np.mean([_ece(probs[rest, k], listed.truth[rest, k]) for k in range(K)])
    return {
        name: _score(chosen[rest], listed.truth[rest], float(error) if name == OURS else float("nan"))
        for name, chosen in sets.items()
    }


def best_llm(shares: FloatArray, truth: BoolArray, asked: IntArray) -> BoolArray:
    """(N, K): one LLM's labels above thresholds, both of the highest F1 on the `asked` texts; `shares` (N, M, K)."""
    found, best = np.zeros(truth.shape, dtype=np.bool_), -1.0
    for m in range(shares.shape[1]):
        cuts = [_best_cut(shares[asked, m, k], truth[asked, k]) for k in range(truth.shape[1])]
        chosen = shares[:, m] >= np.array(cuts)
        worth = micro_f1(chosen[asked], truth[asked])
        if worth > best:
            found, best = chosen, worth
    return found


def _best_cut(share: FloatArray, truth: BoolArray) -> float:
    return max((float(cut) for cut in share), key=lambda cut: micro_f1((share >= cut)[:, None], truth[:, None]))


def _ece(yes: FloatArray, truth: BoolArray) -> float:
    return ece(np.stack([yes, 1 - yes], axis=1), np.where(truth, 0, 1))


def _score(chosen: BoolArray, truth: BoolArray, error: float) -> Score:
    right = chosen == truth
    return Score(float(right.mean()), micro_f1(chosen, truth), float(right.all(axis=1).mean()), error)


def replay(
    make: Callable[[int], Listed],
    human: int,
    seeds: Sequence[int],
    progress: Callable[[str], None],
    encoder: Embeds | None = None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """By ranking and figure, mean and standard deviation over seeds; `make(seed)` gives the texts."""
    played = []
    for seed in seeds:
        played.append(play(make(seed), human, seed, encoder))
        progress(f"seed {seed}: F1 {played[-1][OURS].f1:.3f}")
    figures = {}
    for name in played[0]:
        rows = np.array([[row[name].decisions, row[name].f1, row[name].exact, row[name].ece] for row in played])
        spread = zip(rows.mean(axis=0).tolist(), rows.std(axis=0).tolist(), strict=True)
        figures[name] = dict(zip(("decisions", "micro-F1", "exact sets", "ECE"), spread, strict=True))
    return figures
