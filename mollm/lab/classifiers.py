"""The classifiers of a replay, in the index space of a recording's N items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mollm.classifier.head import RIDGE, Head
from mollm.config import LoopConfig
from mollm.errors import ConfigError
from mollm.losses import Rows, negative_strength
from mollm.records import FloatArray, IntArray, TrainingRow
from mollm.round.chain import Embeds
from mollm.round.reading import flat

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder


class Classifier(ABC):
    """Trained anew each round on rows of the pool; the test items are only ever predicted."""

    def __init__(self, C: int, config: LoopConfig) -> None:
        self.C, self.config = C, config

    @abstractmethod
    def fit(self, rows: Sequence[TrainingRow], r: int, seed: int) -> None:
        """Learn round r's rows."""

    @abstractmethod
    def logits(self, index: IntArray) -> FloatArray:
        """(n, C) in nats for the items `index`."""


class FrozenHead(Classifier):
    """`head`: a ridge softmax regression on frozen embeddings (N, D)."""

    def __init__(self, C: int, config: LoopConfig, embeddings: FloatArray, pool: IntArray) -> None:
        super().__init__(C, config)
        self.embeddings, self.pool = embeddings, pool

    def fit(self, rows: Sequence[TrainingRow], r: int, seed: int) -> None:  # noqa: ARG002
        place = np.full(len(self.embeddings), -1)
        place[self.pool] = np.arange(len(self.pool))
        arrays = Rows.of(rows, self.C)
        arrays = Rows(place[arrays.item], arrays.label, arrays.weight, arrays.negatives)
        head = Head(self.C, ridge=RIDGE, strength=negative_strength(r, self.config))
        self.head = head.fit(self.embeddings[self.pool], arrays)

    def logits(self, index: IntArray) -> FloatArray:
        return self.head.logits(self.embeddings[index])


class TunedLayers(Classifier):
    """`top` and `full`: the last layers, or all, of the encoder."""

    def __init__(self, C: int, config: LoopConfig, encoder: Encoder, texts: Sequence[str], tuned: int) -> None:
        from mollm.classifier.layers import activations

        super().__init__(C, config)
        self.tuned = tuned
        self.model = encoder.load()[1]
        self.activations = activations(encoder, texts, tuned)

    def fit(self, rows: Sequence[TrainingRow], r: int, seed: int) -> None:
        from mollm.classifier.top import Top

        top = Top(self.C, self.model, self.tuned, strength=negative_strength(r, self.config))
        self.top = top.fit(self.activations, Rows.of(rows, self.C), None, seed)

    def logits(self, index: IntArray) -> FloatArray:
        return self.top.logits(self.activations, index)


def make(
    mode: str, C: int, config: LoopConfig, encoder: Embeds | None, texts: Sequence[str | None], pool: IntArray
) -> Classifier | None:
    """A classifier by its mode; None without texts or encoder. Raises ConfigError for an unknown mode."""
    if mode not in ("auto", "none", "head", "top", "full"):
        raise ConfigError(f"--classifier {mode!r} is none of auto, head, top, full, none.")
    if mode == "none" or encoder is None or any(text is None for text in texts):
        return None
    known = [text or "" for text in texts]
    if mode in ("auto", "head"):  # nothing here measures whether tuning pays
        return FrozenHead(C, config, flat(encoder.embed(known)), pool)
    from mollm.classifier.encoder import Encoder
    from mollm.classifier.layers import layers_of
    from mollm.classifier.top import TUNED

    if not isinstance(encoder, Encoder):
        raise ConfigError(f"--classifier {mode} needs a Hugging Face encoder to tune.")
    layers = len(layers_of(encoder.load()[1])[2])
    return TunedLayers(C, config, encoder, known, layers if mode == "full" else min(TUNED, layers))
