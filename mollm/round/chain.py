"""The cross-fitted chain: panel -> mixture -> training rows -> classifier -> mixture with the classifier in it.

Every fit is named by the set of folds whose labels it has not seen: `panel({2})`, `head({2, 4})`. A label of fold 2 is
only scored by fits whose set holds 2, and so is everything that such a fit was built on (method.md 4). Fits are kept:
asking for the same one twice costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.special import softmax

from mollm.classifier.head import RIDGE, Head
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.folds import folds
from mollm.losses import Rows, negative_strength
from mollm.metrics import SMALLEST
from mollm.mixture import aggregator
from mollm.mixture.auto import RUNGS, Auto
from mollm.mixture.ladder import NONE, Ladder, Out
from mollm.mixture.logpool import LogPool
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.mixture.skills import shares_by_name
from mollm.records import BoolArray, FloatArray, IntArray, Item, Pool, Signals, Targets, TrainingRow
from mollm.round.reading import Reading, shares
from mollm.round.stopping import Earlier
from mollm.streams import stream

FOLDS, FEW_FOLDS, FEW = 5, 3, 50
"""Folds; fewer below `FEW` human labels, where people wait for the next batch and little is certain."""
CHOSEN_FEW = 30
"""Human labels below which no part of the loss is chosen by measurement: an interval from fewer is too wide."""
DROPOUT = 0.1
"""Share of the embedding's dimensions that a perturbed classifier does not see: the usual rate of the encoders."""
CLASSIFIER = "classifier"
"""The classifier's name in the panel."""
MIXTURE_ROWS = 450
"""Items that the mixture labels for the classifier: the paper's nine rounds of 50."""


class Embeds(Protocol):
    """Anything that turns N texts into (N, D), or into (N, L, D) where an encoder has layers."""

    def embed(self, texts: Sequence[str]) -> FloatArray: ...


@dataclass(frozen=True)
class Parts:
    """Which parts of the robust loss are on for rows that the mixture labelled."""

    discrepancy_weights: bool = False
    negatives: bool = False
    confidence_weights: bool = True


@dataclass(frozen=True)
class RoundInput:
    """What a round starts from: N items with the panel's signals, and the human labels of H of them (H may be 0).

    `open_items` (N,) marks what people may be asked next (None: all that is not labelled). `earlier` rounds'
    cross-fitted losses are the learning curve of the stopping advice. `mixture_items` are the items that the mixture
    labels for the classifier (None: a random draw). `frequencies` (C,): as in `Pool`. Raises InputError where items and
    signals differ.
    """

    items: Sequence[Item]
    signals: Signals
    targets: Targets
    index: int = 1
    open_items: BoolArray | None = None
    earlier: Sequence[Earlier] = ()
    mixture_items: IntArray | None = None
    frequencies: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if tuple(item.id for item in self.items) != self.signals.items:
            raise InputError("The items and the signals do not name the same pool in the same order.")
        if self.open_items is not None and self.open_items.shape != (self.signals.N,):
            raise InputError(f"`open_items` has shape {self.open_items.shape}, not ({self.signals.N},).")

    @property
    def texts(self) -> list[str]:
        """(N,) each item's text, empty where there is none."""
        return [item.text or "" for item in self.items]

    @property
    def open(self) -> BoolArray:
        """(N,) what may be picked."""
        if self.open_items is not None:
            return self.open_items
        free = np.ones(self.signals.N, dtype=np.bool_)
        free[self.targets.index] = False
        return free


@dataclass
class Chain:
    """The fits of one round. `fold` (N,) is the fold of each item; groups of equal texts are never split."""

    pool: Pool
    has_text: BoolArray
    config: LoopConfig
    round_index: int
    seed: int
    fold: IntArray
    parts: Parts = field(default_factory=Parts)
    mixture_items: IntArray | None = None
    reading: Reading | None = None
    _shares: dict[str, float] = field(default_factory=dict, repr=False)
    _panels: dict[Out, FloatArray] = field(default_factory=dict, repr=False)
    _heads: dict[tuple[Out, Parts], Head] = field(default_factory=dict, repr=False)
    _classifiers: dict[Out, FloatArray | None] = field(default_factory=dict, repr=False)

    @classmethod
    def start(cls, given: RoundInput, config: LoopConfig, encoder: Embeds | None, rng: np.random.Generator) -> Chain:
        """Embed the texts and deal the folds. Raises ConfigError for an unknown aggregator."""
        aggregator(config.aggregator)
        has_text = np.array([bool(text.strip()) for text in given.texts], dtype=np.bool_)
        groups = tuple(item.group for item in given.items)
        pool = Pool(given.signals, given.targets, None, groups, given.frequencies)
        seed = int(rng.integers(2**32))
        fold = dealt(pool, FOLDS if pool.targets.H >= FEW else FEW_FOLDS, stream(seed, "folds"))
        reading = None
        if encoder is not None and config.classifier != "none" and has_text.any():
            embeddings = encoder.embed(given.texts)
            reading = Reading.of(embeddings, given.texts)
            read = reading.read(embeddings, given.texts)
            seen = pool.targets.take(has_text[pool.targets.index])
            share = shares(reading, read, seen, fold, pool.signals.C)
            read *= reading.factor(share)
            pool, reading = replace(pool, embeddings=read), reading.weighed(share)
        return cls(pool, has_text, config, given.index, seed, fold, mixture_items=given.mixture_items, reading=reading)

    @property
    def signals(self) -> Signals:
        return self.pool.signals

    @property
    def targets(self) -> Targets:
        return self.pool.targets

    @property
    def embeddings(self) -> FloatArray | None:
        return self.pool.embeddings

    @property
    def labelled(self) -> BoolArray:
        """(N,): a human has labelled this item."""
        mask = np.zeros(self.signals.N, dtype=np.bool_)
        mask[self.targets.index] = True
        return mask

    def _ladder(self, purpose: str, pool: Pool, view: Callable[[Out], Signals] | None = None) -> Ladder:
        names = RUNGS if self.config.aggregator == Auto.name else (self.config.aggregator,)
        seed = int(stream(self.seed, purpose).integers(2**31))
        return Ladder(names, pool, self.fold, seed, view, self.panel_shares)

    @property
    def panel_shares(self) -> dict[str, float]:
        """What each LLM weighs before any label, by what texts and LLMs say: all ladders and all folds share it."""
        if not self._shares:
            self._shares.update(shares_by_name(self.pool))
        return self._shares

    @cached_property
    def panel_ladder(self) -> Ladder:
        """The LLMs' mixture without the text: it labels the classifier's rows, and a tuned encoder starts from it."""
        return self._ladder("panel", replace(self.pool, embeddings=None))

    @cached_property
    def text_ladder(self) -> Ladder:
        """The LLMs' mixture with the text in it, but without the classifier."""
        return self._ladder("text", self.pool)

    @cached_property
    def fused(self) -> Ladder:
        """The mixture with the classifier as one more annotator: the round's prediction."""
        return self.panel_ladder if self.embeddings is None else self._ladder("fused", self.pool, self._joined)

    def _joined(self, out: Out) -> Signals:
        """The panel with the classifier in it that has seen nothing of the folds `out`."""
        if out not in self._classifiers:
            self._classifiers[out] = self.crossfitted(out)
        probs = self._classifiers[out]
        return self.signals if probs is None else self.signals.with_annotator(CLASSIFIER, probs)

    @cached_property
    def working(self) -> IntArray:
        """(W,) the items that training rows are made of: humans' and the mixture's. The other items only wait."""
        return np.union1d(self.targets.index, self.to_label())

    def panel(self, out: Out = NONE) -> FloatArray:
        """(W, C): the LLMs' mixture on the `working` items, fitted without the human labels of the folds `out`."""
        if out not in self._panels:
            self._panels[out] = self.panel_ladder.climb(out).predict_proba(self.signals.take(self.working))
        return self._panels[out]

    def panel_held_out(self, out: Out = NONE) -> FloatArray:
        """(W, C): `panel(out)`, but each labelled item by the fit that saw nothing of its own fold either."""
        probs = self.panel(out).copy()
        asked, fold = self.labelled[self.working], self.fold[self.working]
        for k in np.unique(fold[asked]).tolist():
            mine = asked & (fold == k)
            probs[mine] = self.panel(out | {k})[mine]
        return probs

    def panel_everywhere(self) -> FloatArray:
        """(N, C): the LLMs' mixture, each labelled item by the fit that saw nothing of its own fold."""
        probs = self.panel_ladder.probs().copy()
        probs[self.working] = self.panel_held_out()
        return probs

    def rng(self, purpose: str, out: Out = NONE) -> np.random.Generator:
        """The stream of one purpose: the same whenever, and in whatever order, it is asked for."""
        return stream(self.seed, purpose, sorted(out))

    def refolded(self, repeat: int) -> Chain:
        """The same pool and labels with other folds, and the log-odds pool as the mixture: its fits cost nothing."""
        fold = dealt(self.pool, FEW_FOLDS, stream(self.seed, "refold", [repeat]))
        config = self.config.model_copy(update={"aggregator": LogPool.name})
        return replace(self, config=config, fold=fold, _panels={}, _heads={}, _classifiers={})

    def to_label(self) -> IntArray:
        """The unlabelled items that the mixture labels for the classifier."""
        free = ~self.labelled & self.has_text
        if self.mixture_items is not None:
            return self.mixture_items[free[self.mixture_items]]
        return self.rng("rows").permutation(np.flatnonzero(free))[:MIXTURE_ROWS]

    def rows(self, out: Out = NONE, parts: Parts | None = None) -> tuple[TrainingRow, ...]:
        """The classifier's training rows outside the folds `out`: humans' plain, the mixture's by the robust loss."""
        parts = parts or self.parts
        seen = self.panel_ladder.seen(out)
        human = [
            TrainingRow(int(n), int(c), float(w), (), True)
            for n, c, w in zip(seen.index, seen.label, seen.weight, strict=True)
        ]
        candidates = self.to_label()
        candidates = candidates[~np.isin(self.fold[candidates], sorted(out))]
        at, probs = np.searchsorted(self.working, candidates), self.panel(out)
        label = probs[at].argmax(axis=1)
        weight: FloatArray = np.ones(len(at))
        if parts.confidence_weights:
            weight = probs[at].max(axis=1) ** 2
        if parts.discrepancy_weights:
            current = self.crossfitted(out, replace(parts, discrepancy_weights=False), candidates)
            assert current is not None
            weight = np.where(current.argmax(axis=1) != label, self.config.alpha, 1.0) * weight
        never = self.never(probs, seen)[at] if parts.negatives else np.zeros((len(at), self.signals.C), dtype=np.bool_)
        return tuple(human) + tuple(
            TrainingRow(int(n), int(label[j]), float(weight[j]), tuple(np.flatnonzero(never[j]).tolist()))
            for j, n in enumerate(candidates)
        )

    def never(self, probs: FloatArray, seen: Targets) -> BoolArray:
        """(W, C): the negative labels of the working items by their `probs` (W, C) and the labels `seen`."""
        panel = mean_probs(self.signals.take(self.working))
        here = Targets(np.searchsorted(self.working, seen.index), seen.label, seen.weight)
        precision, rule = self.config.negative_precision, self.config.negative_rule
        return negative_labels(probs, panel, here, target=precision, rule=rule).mask

    def head(self, out: Out = NONE, parts: Parts | None = None) -> Head:
        """The classifier trained on the rows outside the folds `out`."""
        parts = parts or self.parts
        if self.embeddings is None:
            raise InputError("There is no classifier without texts and an encoder.")
        if (out, parts) not in self._heads:
            strength = negative_strength(self.round_index, self.config)
            rows = Rows.of(self.rows(out, parts), self.signals.C)
            head = Head(self.signals.C, ridge=RIDGE, strength=strength, each=False)
            self._heads[out, parts] = head.fit(self.embeddings, rows)
        return self._heads[out, parts]

    def crossfitted(
        self, out: Out = NONE, parts: Parts | None = None, items: IntArray | None = None
    ) -> FloatArray | None:
        """(n, C): each of the `items` (None: all N) by the classifier that saw neither the folds `out` nor its own.

        Rows of items without text are NaN.
        """
        if self.embeddings is None:
            return None
        items = np.arange(self.signals.N) if items is None else items
        probs = np.full((len(items), self.signals.C), np.nan)
        fold, readable = self.fold[items], self.has_text[items]
        for k in np.unique(fold).tolist():
            mine = (fold == k) & readable
            if mine.any():
                probs[mine] = self.head(out | {k}, parts).predict_proba(self.embeddings[items[mine]])
        return probs

    def sampled(self, probs: FloatArray, members: int, rng: np.random.Generator) -> FloatArray:
        """(E, N, C): `probs` (N, C) shaken by dropout on the classifier's inputs."""
        assert self.embeddings is not None
        head = self.head()
        still, log_probs = head.logits(self.embeddings), np.log(np.maximum(probs, SMALLEST))
        out = np.empty((members, *probs.shape))
        for e in range(members):
            kept = (rng.random(self.embeddings.shape[1]) >= DROPOUT) / (1 - DROPOUT)
            shaken = head.logits((self.embeddings - head.mean_) * kept + head.mean_)
            out[e] = softmax(log_probs + shaken - still, axis=1)
        return out


def dealt(pool: Pool, K: int, rng: np.random.Generator) -> IntArray:
    """(N,) the fold of each item, the labelled ones dealt out evenly by class."""
    label = np.full(pool.signals.N, -1, dtype=np.int64)
    label[pool.targets.index] = pool.targets.label
    return folds(pool.group_names, K, rng, label)
