"""Use a tuned classifier beside the mixture: average the two over a pool, load and save the classifier.

This module imports torch only when a tuned classifier is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from mollm.classifier.encoder import Encoder
from mollm.errors import ConfigError, ModelFileError
from mollm.records import BoolArray, FittedState, FloatArray

if TYPE_CHECKING:
    from mollm.classifier.top import Top

BLOCK = 4096  # texts in memory at once: for MiniLM at most 0.4 GB of activations (128 tokens, 384 halves)
SMALLEST = 1e-6  # smaller probabilities count as this, so that one near-zero does not rule out a label in the mean
SHARE = 0.5  # of the tuned classifier in the geometric mean (chosen by hand: equal parts); the rest is the mixture's


def mean_with(fused: FloatArray, logits: FloatArray, has_text: BoolArray) -> FloatArray:
    """(N, C) the geometric mean of the mixture `fused` (N, C) and the classifier, from its `logits` (N, C). Items
    without a text keep the mixture's probabilities."""
    tuned = np.log(np.maximum(softmax(logits, axis=1), SMALLEST))
    mean = SHARE * tuned + (1 - SHARE) * np.log(np.maximum(fused, SMALLEST))
    return np.where(has_text[:, None], softmax(mean, axis=1), fused)


def everywhere(
    top: Top, encoder: Encoder, texts: Sequence[str], fused: FloatArray, below: FloatArray,
    progress: Callable[[str], None] | None = None,
) -> FloatArray:  # fmt: skip
    """(N, C): `mean_with` over all texts, in blocks. `fused` (N, C) is the mixture; the log of the panel's mixture
    `below` (N, C) is the classifier's offset."""
    from mollm.classifier.layers import activations

    out = np.empty_like(fused)
    for start in range(0, len(texts), BLOCK):
        rows = slice(start, start + BLOCK)
        if progress:
            progress(f"reading texts {start} to {min(start + BLOCK, len(texts))} with the tuned encoder")
        logits = np.log(np.maximum(below[rows], SMALLEST)) + top.logits(activations(encoder, texts[rows], top.tuned))
        has_text = np.array([bool(text.strip()) for text in texts[rows]], dtype=np.bool_)
        out[rows] = mean_with(fused[rows], logits, has_text)
    return out


def restored(state: FittedState, encoder: Encoder) -> Top:
    """The tuned classifier from its saved state. Raises ModelFileError if the state does not fit the encoder."""
    from mollm.classifier.top import Top

    facts = state.facts
    return Top(int(str(facts["C"])), encoder.load()[1], int(str(facts["tuned"]))).restored(state.arrays)


def save_pretrained(
    state: Mapping[str, FittedState],
    encoder: object | None,
    directory: Path,
    labels: Sequence[str],
    facts: Mapping[str, object],
) -> bool:
    """Write a round's tuned classifier as a directory that transformers can load. False if the round has none."""
    if "tuned" not in state:
        return False
    from mollm.classifier.saving import save

    known = text_encoder(encoder)
    save(restored(state["tuned"], known), known, directory, labels, facts)
    return True


def layers_to_tune(encoder: Encoder, mode: str) -> int:
    """The number of layers to tune: all in mode `full`, else at most TUNED."""
    from mollm.classifier.layers import layers_of
    from mollm.classifier.top import TUNED

    layers = len(layers_of(encoder.load()[1])[2])
    return layers if mode == "full" else min(TUNED, layers)


def text_encoder(encoder: object | None) -> Encoder:
    """The encoder, if its layers can be tuned. Raises ModelFileError for None, ConfigError for another type."""
    if encoder is None:
        raise ModelFileError("The encoder of this version's tuned classifier is missing: restore it or train again.")
    if not isinstance(encoder, Encoder):
        raise ConfigError('A tuned classifier needs a Hugging Face encoder: set `classifier = "head"`.')
    return encoder
