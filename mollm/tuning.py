"""`top` and `full` in a round: a tuned encoder that stands on the held-out panel and is averaged with the head's.

The offset is the panel's mixture without the text: standing on the mixture with the text, the layers learned less
(TREC, 300 human labels: .864 against .896). Only human rows train it: a row that the mixture labelled would teach it
nothing beyond its own offset. This module imports torch when a tuned classifier is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from mollm.chain import Chain, Encoder
from mollm.errors import ConfigError, ModelFileError
from mollm.losses import Rows
from mollm.records import BoolArray, FittedState, FloatArray, Item, TrainingRow

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder as TextEncoder
    from mollm.classifier.top import Top

ENOUGH = 100  # human labels from which tuning has beaten the head on TREC
SMALLEST = 1e-6
TUNED_SHARE = 0.5  # of the geometric mean; the rest is the mixture with the head in it


def asked_for(chain: Chain) -> bool:
    """A tuned classifier is configured, and there is enough to train it on."""
    tuned = chain.config.classifier in ("top", "full")
    return tuned and chain.embeddings is not None and chain.targets.H >= ENOUGH


def tune(chain: Chain, encoder: Encoder | None, items: Sequence[Item], fused: FloatArray) -> tuple[FloatArray, Top]:
    """(N, C) the mixture `fused` averaged with the tuned classifier, and the classifier."""
    from mollm.classifier.top import TUNED, Top, activations, layers_of

    known = text_encoder(encoder)
    model = known.load()[1]
    layers = len(layers_of(model)[2])
    tuned = layers if chain.config.classifier == "full" else min(TUNED, layers)
    acts = activations(known, [item.text or "" for item in items], tuned)
    targets = chain.targets
    human = [
        TrainingRow(int(n), int(c), float(w), (), True)
        for n, c, w in zip(targets.index, targets.label, targets.weight, strict=True)
    ]
    offset = np.log(np.maximum(chain.panel_held_out(), SMALLEST))
    top = Top(chain.signals.C, model, tuned).fit(acts, Rows.of(human, chain.signals.C), offset, chain.seed)
    return mean_with(fused, offset + top.logits(acts), chain.has_text), top


def mean_with(fused: FloatArray, logits: FloatArray, has_text: BoolArray) -> FloatArray:
    """(N, C) the geometric mean of the mixture and the tuned classifier; the mixture alone where there is no text."""
    tuned = np.log(np.maximum(softmax(logits, axis=1), SMALLEST))
    mean = TUNED_SHARE * tuned + (1 - TUNED_SHARE) * np.log(np.maximum(fused, SMALLEST))
    return np.where(has_text[:, None], softmax(mean, axis=1), fused)


def state_of(top: Top, chain: Chain) -> dict[str, FittedState]:
    """What `predict_with` needs: the mixture below the offset, and the tuned weights."""
    facts = {"tuned": top.tuned, "C": top.C}
    return {"offset": chain.panel_mixture().state(), "tuned": FittedState("top", top.weights(), facts)}


def predict_with(
    state: Mapping[str, FittedState],
    items: Sequence[Item],
    encoder: Encoder | None,
    fused: FloatArray,
    below: FloatArray,
) -> FloatArray:
    """(N, C) of new items: `fused` averaged with the saved tuned classifier on the mixture `below` (N, C)."""
    from mollm.classifier.top import Top, activations

    known = text_encoder(encoder)
    facts = state["tuned"].facts
    top = Top(int(str(facts["C"])), known.load()[1], int(str(facts["tuned"]))).restored(state["tuned"].arrays)
    acts = activations(known, [item.text or "" for item in items], top.tuned)
    has_text = np.array([bool(item.text and item.text.strip()) for item in items], dtype=np.bool_)
    return mean_with(fused, np.log(np.maximum(below, SMALLEST)) + top.logits(acts), has_text)


def text_encoder(encoder: Encoder | None) -> TextEncoder:
    """The encoder, if its layers can be tuned. Raises ConfigError or ModelFileError otherwise."""
    from mollm.classifier.encoder import Encoder as TextEncoder

    if encoder is None:
        raise ModelFileError("The encoder of this version's tuned classifier is missing: restore it or train again.")
    if not isinstance(encoder, TextEncoder):
        raise ConfigError('A tuned classifier needs a Hugging Face encoder: set `classifier = "head"`.')
    return encoder
