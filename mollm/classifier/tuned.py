"""A tuned classifier beside the mixture: their mean over a pool, and the classifier out of, and into, its files.

This module imports torch when a tuned classifier is used, and not before.
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

BLOCK = 4096  # texts whose activations are held at once
SMALLEST = 1e-6  # of a probability whose logarithm is taken
SHARE = 0.5  # of the geometric mean; the rest is the mixture with the head in it


def mean_with(fused: FloatArray, logits: FloatArray, has_text: BoolArray) -> FloatArray:
    """(N, C) the geometric mean of the mixture and the tuned classifier; the mixture alone where there is no text."""
    tuned = np.log(np.maximum(softmax(logits, axis=1), SMALLEST))
    mean = SHARE * tuned + (1 - SHARE) * np.log(np.maximum(fused, SMALLEST))
    return np.where(has_text[:, None], softmax(mean, axis=1), fused)


def everywhere(
    top: Top, encoder: Encoder, texts: Sequence[str], fused: FloatArray, below: FloatArray,
    progress: Callable[[str], None] | None = None,
) -> FloatArray:  # fmt: skip
    """(N, C): the mixture `fused` averaged with the classifier on top of the panel's mixture `below`, in blocks."""
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
    """The tuned classifier from its saved state. Raises ModelFileError for another encoder's."""
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
    """Write a round's tuned classifier as a directory that transformers loads; False where the round has none."""
    if "tuned" not in state:
        return False
    from mollm.classifier.saving import save

    known = text_encoder(encoder)
    save(restored(state["tuned"], known), known, directory, labels, facts)
    return True


def layers_to_tune(encoder: Encoder, mode: str) -> int:
    """`full`: all of them; else the last few."""
    from mollm.classifier.layers import layers_of
    from mollm.classifier.top import TUNED

    layers = len(layers_of(encoder.load()[1])[2])
    return layers if mode == "full" else min(TUNED, layers)


def text_encoder(encoder: object | None) -> Encoder:
    """The encoder, if its layers can be tuned. Raises ConfigError or ModelFileError otherwise."""
    if encoder is None:
        raise ModelFileError("The encoder of this version's tuned classifier is missing: restore it or train again.")
    if not isinstance(encoder, Encoder):
        raise ConfigError('A tuned classifier needs a Hugging Face encoder: set `classifier = "head"`.')
    return encoder
