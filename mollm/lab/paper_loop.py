"""The paper's loop on a recording: humans label the first batch, the mixture (or an LLM) labels the next ones.

The classifier is trained on all labels so far, from its pretrained start each round, and its accuracy on the test
items is the paper's curve (method.md 1.6). It reads the text alone: rows that the mixture labelled would teach it
nothing beyond an offset that comes from the same mixture.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mollm.errors import ConfigError
from mollm.lab import classifiers
from mollm.lab.experiment import Run, Step
from mollm.mixture import aggregator, aggregators
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.records import FloatArray, IntArray, Targets, TrainingRow
from mollm.round.chain import Chain
from mollm.round.run import candidates_of
from mollm.strategies import Pool, strategy


class PaperLoop(Run):
    """Part of each batch, or all of it, is labelled by the mixture, an aggregator or an annotator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = [item.text for item in self.recording.items]
        self.classifier = classifiers.make(
            self.options.classifier, self.recording.labels.C, self.options.config, self.encoder, texts, self.pool
        )

    def step(self, r: int) -> Step:
        items = np.array([row.item for row in self.machine], dtype=np.int64)
        given = replace(self.given(r), mixture_items=items if self.machine else None)
        chain = Chain.start(given, self.options.config, self.encoder, self.stream(r))
        reads_pool = not self.options.paper or self.options.strategy != "random"
        probs = chain.fused.probs() if reads_pool else None
        test_label = self.train(r)
        batch = self.pick(chain, probs, r)
        asked = self.options.asked()
        return Step(probs, test_label, batch, self.annotate(chain, batch[asked:]))

    def train(self, r: int) -> IntArray | None:
        """(T,) the labels of the test items by the classifier of this round; None where there is no classifier."""
        if self.classifier is None:
            return None
        targets = self.targets
        human = [TrainingRow(int(n), int(c), human=True) for n, c in zip(targets.index, targets.label, strict=True)]
        rows = [replace(row, item=int(self.pool[row.item])) for row in (*human, *self.machine)]
        self.classifier.fit(rows, r, self.seed)
        return np.asarray(self.classifier.logits(self.test).argmax(axis=1))

    def pick(self, chain: Chain, probs: FloatArray | None, r: int) -> IntArray:
        open_items = self.open_items
        if probs is None:
            flat = np.full((len(self.pool), chain.signals.C), 1 / chain.signals.C)
            candidates = Pool(flat, np.flatnonzero(open_items), self.human)
        else:
            candidates = candidates_of(chain, probs, chain.crossfitted(), open_items)
        rng = np.random.default_rng([self.seed, 2, r, 1])
        return strategy(self.options.strategy)(candidates, self.options.batch, rng).index

    def annotate(self, chain: Chain, batch: IntArray) -> list[TrainingRow]:
        """The rows that `options.annotate` labels, with the parts of the robust loss that are on."""
        if not len(batch):
            return []
        options, probs = self.options, opinion(chain, self.options.annotate)[batch]
        label = probs.argmax(axis=1)
        weight: FloatArray = np.ones(len(batch))
        if options.annotate == "mixture" and options.config.confidence_weights == "on":
            weight = probs.max(axis=1) ** 2
        if options.discrepancy and self.classifier is not None:
            differs = self.classifier.logits(self.pool[batch]).argmax(axis=1) != label
            weight = np.where(differs, options.config.alpha, 1.0) * weight
        panel, config, nothing = mean_probs(chain.signals)[batch], options.config, Targets.of([], [])
        found = negative_labels(probs, panel, nothing, target=config.negative_precision, rule=config.negative_rule)
        never = found.mask & options.negatives
        return [
            TrainingRow(int(n), int(label[j]), float(weight[j]), tuple(np.flatnonzero(never[j]).tolist()))
            for j, n in enumerate(batch)
        ]


def opinion(chain: Chain, name: str) -> FloatArray:
    """(P, C): what `name` says of the pool. The mixture's never holds the classifier's own vote."""
    if name in ("mixture", "human"):
        return chain.text_ladder.probs()
    if name in chain.signals.annotators:
        return np.nan_to_num(chain.signals.label_probs[:, chain.signals.annotators.index(name)])
    if name not in aggregators():
        raise ConfigError(
            f"--annotate {name!r} is none of mixture, human, {', '.join(aggregators())} "
            f"or the annotators {', '.join(chain.signals.annotators)}."
        )
    fitted = aggregator(name)().fit(replace(chain.pool, embeddings=None), rng=chain.rng("opinion"))
    return fitted.predict_proba(chain.signals)
