"""A text encoder as an annotator: how near a text lies to each label's name, without a prompt.

    label_probs ~ exp(cos(text, "This text is about <label>.") / SHARPNESS)

It costs no more than to read the text once. It knows what a text is about, and nothing of an instruction: where labels
are no topics it is a weak annotator, which the mixture mostly finds out (docs/measurements.md). Labels by the
nearness of their names: Chang et al. 2008, "Importance of semantic representation: dataless classification".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from mollm.annotators import Annotator, Answer, Needs, abstention
from mollm.annotators._loaded import device_of, directory, present
from mollm.classifier.encoder import Encoder
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError, MollmError
from mollm.prompts import Shot
from mollm.records import FloatArray, LabelSet

ABOUT = "This text is about {}."
"""The best of three sentences in the mean. With it .857 of BBC News, .735 of drug reviews and .413 of short chats are
right; with the label's name alone .799, .731 and .396."""
SHARPNESS = 0.05
"""Of a cosine, for one nat (.1 made the mixture less right on the demo's texts before any label)."""


class TextEncoder(Annotator):
    """An encoder from a directory. `instruction`, `prompt` and `shots` of the panel are not read."""

    runtime = "encoder"

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot], models_dir: Path
    ) -> None:
        super().__init__(config, labels, instruction, shots, models_dir)
        self.encoder = Encoder(present(config, models_dir), device=device_of(config))
        try:
            self.names = places(self.encoder, sentences(labels))
        except ModelFileError:
            raise
        except MollmError as error:
            raise ConfigError(f"{config.name}: {error}") from None

    @classmethod
    def needs(cls, config: AnnotatorConfig, models_dir: Path) -> Needs:
        """Memory: the size of the weight files, in float32, and half of it more to work with."""
        path = directory(config, models_dir)
        weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return Needs(device_of(config), int(1.5 * weights), str(path))

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        told = [n for n, text in enumerate(texts) if text.strip()]
        answers = [abstention(self.labels.C, "the text is blank") for _ in texts]
        if told:
            for n, probs in zip(told, nearness(self.encoder, [texts[n] for n in told], self.names), strict=True):
                answers[n] = Answer(probs, probs)
        return answers

    def describe(self) -> str:
        return f"{self.name}: the text encoder {self.config.model} in process, by the nearness of labels' names"


def sentences(labels: LabelSet) -> list[str]:
    """Of each label what texts are compared with: its name, and its description where there is one."""
    named = [labels.text_of(c) for c in range(labels.C)]
    told = labels.descriptions or [""] * labels.C
    return [ABOUT.format(f"{name}: {more}" if more else name) for name, more in zip(named, told, strict=True)]


def places(encoder: Encoder, texts: Sequence[str]) -> FloatArray:
    """(n, D) the last layer of each text, of length 1."""
    last = encoder.embed(texts)[:, -1]
    return np.asarray(last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), np.finfo(np.float32).tiny))


def nearness(encoder: Encoder, texts: Sequence[str], names: FloatArray) -> FloatArray:
    """(n, C) the probabilities of labels whose sentences lie at `names` (C, D)."""
    return np.asarray(softmax(places(encoder, texts) @ names.T / SHARPNESS, axis=1))
