"""The cross-fitted chain: panel -> mixture -> training rows -> classifier -> mixture with the classifier in it.

Every fit is named by the set of folds that it has not seen: `panel({2})`, `classifier({2, 4})`. A row of fold 2 is
only ever scored by fits whose set holds 2, and so is everything that such a fit was built on (method.md 4). Fits are
memoised, so that asking for the same one twice costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy.special import softmax

from mollm.classifier.crossfit import group_folds
from mollm.classifier.head import Head
from mollm.config import LoopConfig
from mollm.errors import ConfigError, InputError
from mollm.losses import Rows, negative_strength
from mollm.mixture import Mixture, aggregators
from mollm.mixture.calibration import at_temperature, temperature
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.records import BoolArray, FloatArray, IntArray, Item, Signals, Targets, TrainingRow

FOLDS, FEW_FOLDS, FEW = 5, 3, 50  # fewer folds below 50 human labels, where people wait and little is certain
CHOSEN_FEW = 30  # human labels below which no part of the loss is chosen by measurement
FIRST_RUNG = 10  # human labels, in two classes, below which nothing is learned from them but priors
RIDGE = 0.3
DROPOUT = 0.1
CLASSIFIER = "classifier"
MIXTURE_ROWS = 450  # the paper's nine rounds of 50
Out = frozenset[int]
NONE: Out = frozenset()


class Encoder(Protocol):
    """Anything that turns N texts into (N, D)."""

    def embed(self, texts: Sequence[str]) -> FloatArray: ...


@dataclass(frozen=True)
class Parts:
    """Which parts of the robust loss are on for rows that the mixture labelled."""

    discrepancy_weights: bool = False
    negatives: bool = False
    confidence_weights: bool = True


@dataclass
class Chain:
    """One pool of N items with H human labels. `fold` (N,) is the fold of each item; groups are never split."""

    signals: Signals
    targets: Targets
    groups: tuple[str, ...]
    embeddings: FloatArray | None
    has_text: BoolArray
    config: LoopConfig
    round_index: int
    seed: int
    fold: IntArray
    parts: Parts = field(default_factory=Parts)
    mixture_items: IntArray | None = None  # which items the mixture labels for the classifier; None: a random draw
    temperature: float = 1.0
    _panels: dict[Out, tuple[Mixture, FloatArray]] = field(default_factory=dict, repr=False)
    _texts: dict[Out, tuple[Mixture, FloatArray]] = field(default_factory=dict, repr=False)
    _heads: dict[tuple[Out, Parts], Head] = field(default_factory=dict, repr=False)
    _fused: dict[Out, tuple[Mixture, FloatArray]] = field(default_factory=dict, repr=False)

    @classmethod
    def start(
        cls,
        items: Sequence[Item],
        signals: Signals,
        targets: Targets,
        *,
        config: LoopConfig,
        encoder: Encoder | None,
        round_index: int,
        rng: np.random.Generator,
    ) -> Chain:
        """Check the arguments, embed the texts, deal the folds."""
        if tuple(item.id for item in items) != signals.items:
            raise InputError("The items and the signals do not name the same pool in the same order.")
        if targets.H and (targets.index.min() < 0 or targets.index.max() >= signals.N):
            raise InputError(f"A human label points outside the pool of {signals.N} items.")
        if targets.H and (targets.label.min() < 0 or targets.label.max() >= signals.C):
            raise InputError("A human label is not one of the label set's: was it removed from the label config?")
        if config.aggregator not in aggregators():
            raise ConfigError(f"There is no aggregator {config.aggregator!r}: choose from {', '.join(aggregators())}.")
        has_text = np.array([bool(item.text and item.text.strip()) for item in items], dtype=np.bool_)
        embeddings = None
        if encoder is not None and config.classifier != "none" and has_text.any():
            embeddings = encoder.embed([item.text or "" for item in items])
        groups = tuple(item.group for item in items)
        label = np.full(signals.N, -1, dtype=np.int64)
        label[targets.index] = targets.label
        seed = int(rng.integers(2**32))
        fold = group_folds(groups, FOLDS if targets.H >= FEW else FEW_FOLDS, np.random.default_rng([seed, 0]), label)
        return cls(signals, targets, groups, embeddings, has_text, config, round_index, seed, fold)

    @property
    def labelled(self) -> BoolArray:
        """(N,): a human has labelled this item."""
        mask = np.zeros(self.signals.N, dtype=np.bool_)
        mask[self.targets.index] = True
        return mask

    def seen(self, out: Out) -> Targets:
        """The human labels outside the folds `out`."""
        return self.targets.take(~np.isin(self.fold[self.targets.index], sorted(out)))

    def with_text(self, out: Out = NONE) -> FloatArray:
        """(N, C): the LLMs' mixture with the text in it, but without the classifier: what may label its rows."""
        if out not in self._texts:
            self._texts[out] = self._mix(self.signals, 5, out, self.embeddings)
        return self._texts[out][1]

    def panel_mixture(self) -> Mixture:
        """The mixture behind `panel()`."""
        self.panel()
        return self._panels[NONE][0]

    def panel_held_out(self, out: Out = NONE) -> FloatArray:
        """(N, C): `panel(out)`, but each labelled item by the fit that saw nothing of its own fold either."""
        probs = self.panel(out).copy()
        asked = self.labelled
        for k in np.unique(self.fold[asked]).tolist():
            mine = asked & (self.fold == k)
            probs[mine] = self.panel(out | {k})[mine]
        return probs

    def rng(self, stage: int, out: Out) -> np.random.Generator:
        """The generator of one fit: the same whenever, and in whatever order, that fit is asked for."""
        return np.random.default_rng([self.seed, stage, *sorted(out)])

    def rung(self, seen: Targets) -> str:
        """The aggregator by name. `auto` is its own ladder by the number of labels: the chain does the calibration."""
        if self.config.aggregator != "auto":
            return self.config.aggregator
        return "stacked" if seen.H >= FIRST_RUNG and len(np.unique(seen.label)) > 1 else "logpool"

    def _mix(self, signals: Signals, stage: int, out: Out, embeddings: FloatArray | None) -> tuple[Mixture, FloatArray]:
        seen = self.seen(out)
        mixture = aggregators()[self.rung(seen)]()
        mixture.fit(signals, seen, rng=self.rng(stage, out), embeddings=embeddings, groups=self.groups)
        return mixture, mixture.predict_proba(signals, embeddings)

    def panel(self, out: Out = NONE) -> FloatArray:
        """(N, C): the LLMs' mixture, without the text, fitted without the human labels of the folds `out`."""
        if out not in self._panels:
            self._panels[out] = self._mix(self.signals, 1, out, None)
        return self._panels[out][1]

    def refolded(self, repeat: int) -> Chain:
        """The same pool and labels with other folds, and the log-odds pool as the mixture: its fits cost nothing."""
        label = np.full(self.signals.N, -1, dtype=np.int64)
        label[self.targets.index] = self.targets.label
        fold = group_folds(self.groups, FEW_FOLDS, np.random.default_rng([self.seed, 7, repeat]), label)
        config = self.config.model_copy(update={"aggregator": "logpool"})
        return replace(self, config=config, fold=fold, _panels={}, _texts={}, _heads={}, _fused={})

    def to_label(self) -> IntArray:
        """The unlabelled items that the mixture labels for the classifier."""
        free = ~self.labelled & self.has_text
        if self.mixture_items is not None:
            return self.mixture_items[free[self.mixture_items]]
        return self.rng(2, NONE).permutation(np.flatnonzero(free))[:MIXTURE_ROWS]

    def rows(self, out: Out = NONE, parts: Parts | None = None) -> tuple[TrainingRow, ...]:
        """The classifier's training rows outside the folds `out`: humans' plain, the mixture's by the robust loss."""
        parts = parts or self.parts
        seen = self.seen(out)
        human = [
            TrainingRow(int(n), int(c), float(w), (), True)
            for n, c, w in zip(seen.index, seen.label, seen.weight, strict=True)
        ]
        candidates = self.to_label()
        candidates = candidates[~np.isin(self.fold[candidates], sorted(out))]
        probs = self.panel(out)
        weight = probs.max(axis=1) ** 2 if parts.confidence_weights else np.ones(self.signals.N)
        if parts.discrepancy_weights:
            current = self.crossfitted(out, replace(parts, discrepancy_weights=False))
            assert current is not None
            weight = np.where(current.argmax(axis=1) != probs.argmax(axis=1), self.config.alpha, 1.0) * weight
        panel, precision, rule = mean_probs(self.signals), self.config.negative_precision, self.config.negative_rule
        never = negative_labels(probs, panel, seen, target=precision, rule=rule).mask & parts.negatives
        return tuple(human) + tuple(
            TrainingRow(int(n), int(probs[n].argmax()), float(weight[n]), tuple(np.flatnonzero(never[n]).tolist()))
            for n in candidates
        )

    def head(self, out: Out = NONE, parts: Parts | None = None) -> Head:
        """The classifier trained on the rows outside the folds `out`."""
        parts = parts or self.parts
        if self.embeddings is None:
            raise InputError("There is no classifier without texts and an encoder.")
        if (out, parts) not in self._heads:
            strength = negative_strength(self.round_index, self.config)
            rows = Rows.of(self.rows(out, parts), self.signals.C)
            self._heads[out, parts] = Head(self.signals.C, ridge=RIDGE, strength=strength).fit(self.embeddings, rows)
        return self._heads[out, parts]

    def crossfitted(self, out: Out = NONE, parts: Parts | None = None) -> FloatArray | None:
        """(N, C): each item by the classifier that saw neither the folds `out` nor its own; NaN rows without text."""
        if self.embeddings is None:
            return None
        probs = np.full((self.signals.N, self.signals.C), np.nan)
        for k in np.unique(self.fold).tolist():
            mine = (self.fold == k) & self.has_text
            if mine.any():
                probs[mine] = self.head(out | {k}, parts).predict_proba(self.embeddings[mine])
        return probs

    def fused(self, out: Out = NONE) -> tuple[Mixture, FloatArray]:
        """The mixture with the classifier as one more annotator, and its (N, C)."""
        if out not in self._fused:
            classifier = self.crossfitted(out)
            if classifier is None:
                self._fused[out] = (self.panel(out), self._panels[out])[1]
            else:
                self._fused[out] = self._mix(
                    self.signals.with_annotator(CLASSIFIER, classifier), 3, out, self.embeddings
                )
        return self._fused[out]

    def sampled(self, probs: FloatArray, members: int, rng: np.random.Generator) -> FloatArray:
        """(E, N, C): `probs` (N, C) shaken by dropout on the classifier's inputs."""
        assert self.embeddings is not None
        head = self.head()
        still, log_probs = head.logits(self.embeddings), np.log(np.maximum(probs, 1e-12))
        out = np.empty((members, *probs.shape))
        for e in range(members):
            kept = (rng.random(self.embeddings.shape[1]) >= DROPOUT) / (1 - DROPOUT)
            shaken = head.logits((self.embeddings - head.mean_) * kept + head.mean_)
            out[e] = softmax(log_probs + shaken - still, axis=1)
        return out

    def held_out(self) -> FloatArray:
        """(H, C): each human label's item by the mixture that saw nothing of its fold, temperature included."""
        raw = np.empty((self.targets.H, self.signals.C))
        fold = self.fold[self.targets.index]
        for k in np.unique(fold).tolist():
            raw[fold == k] = self.fused(frozenset({k}))[1][self.targets.index[fold == k]]
        out = raw.copy()
        for k in np.unique(fold).tolist():
            others = fold != k
            out[fold == k] = at_temperature(raw[fold == k], fitted_temperature(raw[others], self.targets.take(others)))
        self.temperature = fitted_temperature(raw, self.targets)
        return out


def fitted_temperature(held_out: FloatArray, targets: Targets) -> float:
    """The temperature of least log-loss on held-out rows; 1 below `FIRST_RUNG` labels."""
    return temperature(held_out, targets) if targets.H >= FIRST_RUNG else 1.0
