"""A project's classifier as a directory that transformers loads alone, with a card and a calibrated `predict.py`.

It is fitted anew: within mollm the classifier reads several layers of the encoder at once, which no standard
architecture does. Where the encoder can be cast into a standard sequence classifier (`mollm.classifier.standard`), the
head reads the mean of one layer, which cross-fitting on people's labels chooses. Any other encoder is written as it is
with a head beside it on mollm's own embedding, and `predict.py` puts the two together.

It learns people's labels, and beside them what the mixture says of other texts, so that it also knows what the LLMs
know. One temperature, fitted on cross-fitted logits of people's labels, is part of the head's weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from scipy.special import softmax

from mollm.classifier.encoder import MAX_TOKENS, Encoder
from mollm.classifier.head import RIDGE, Head
from mollm.errors import InputError
from mollm.folds import folds
from mollm.losses import Rows
from mollm.metrics import ece, wilson
from mollm.mixture.calibration import at_temperature, temperature
from mollm.records import BoolArray, FloatArray, IntArray, Targets
from mollm.round.chain import CHOSEN_FEW, FEW_FOLDS, FOLDS
from mollm.round.reading import flat
from mollm.streams import stream

MOST = 2000  # texts that the mixture labels for it (chosen by hand: more takes longer to read and changes little)
MARK = "<!-- written by mollm export -->"  # a directory whose card has it may be written again


@dataclass(frozen=True)
class Lesson:
    """What the classifier learns from: N texts, people's labels of some, and the mixture's `probs` (N, C) of all.

    A row of NaN: the mixture has not read the text.
    """

    labels: tuple[str, ...]
    texts: Sequence[str]
    targets: Targets
    probs: FloatArray

    def rows(self, away: IntArray) -> Rows:
        """The training rows outside the texts `away`: people's labels, the mixture's with its confidence squared."""
        kept = ~np.isin(self.targets.index, away)
        free: BoolArray = np.asarray(~np.isnan(self.probs).any(axis=1))
        free[self.targets.index] = free[away] = False
        mixture = np.flatnonzero(free)[:MOST]
        item = np.concatenate([self.targets.index[kept], mixture])
        label = np.concatenate([self.targets.label[kept], self.probs[mixture].argmax(axis=1)]).astype(np.int64)
        weight = np.concatenate([self.targets.weight[kept], self.probs[mixture].max(axis=1) ** 2])
        return Rows(item, label, weight, np.zeros((len(item), len(self.labels)), dtype=np.bool_))


@dataclass(frozen=True)
class Measured:
    """What is known of the classifier, on `n` labels of people, cross-fitted; `layer` 0: mollm's own embedding."""

    layer: int
    n: int
    temperature: float
    accuracy: float = float("nan")
    ece: float = float("nan")
    agreement: float = float("nan")

    def lines(self) -> list[str]:
        """For people, and for the card."""
        said = [f"its label is the mixture's on {self.agreement:.1%} of the texts that nobody labelled"]
        if self.n < CHOSEN_FEW:
            return [f"not measured, and hardly calibrated: people have labelled {self.n} texts", *said]
        found = wilson(self.accuracy, self.n)
        return [
            f"accuracy {self.accuracy:.3f} ({found.low:.3f} to {found.high:.3f}) on {self.n} labels of people, "
            f"cross-fitted, ECE {self.ece:.3f} at the temperature {self.temperature:.2f}; people saw hard texts first",
            *said,
        ]


def write(
    lesson: Lesson, encoder: Encoder, directory: Path, facts: Mapping[str, object], seed: int,
    tell: Callable[[str], None] = lambda _line: None,
) -> Measured:  # fmt: skip
    """Fit and write it, whole or not at all. The same lesson, encoder and seed give the same bytes.

    Raises InputError where there is nothing to learn from, or where the directory holds something else.
    """
    from mollm.classifier import standard

    card = directory / "README.md"
    if directory.exists() and not (card.is_file() and MARK in card.read_text(encoding="utf-8")):
        raise InputError(f"{directory} is there and was not written by `mollm export`: name another directory.")
    if not lesson.rows(np.array([], dtype=np.int64)).J:
        raise InputError("There is neither a label of people nor of the mixture: there is nothing to learn from.")
    tokenizer, model = encoder.load()
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if standard.possible(model):
            measured = _standard(lesson, encoder, part, seed, tell)
        else:
            measured = _embedding(lesson, encoder, part, seed, tell)
        standard.save_tokenizer(tokenizer, model, part)
        kind = "standard" if measured.layer else "embedding"
        beside = resources.files("mollm.classifier.beside").joinpath(f"{kind}.py").read_text(encoding="utf-8")
        (part / "predict.py").write_text(beside, encoding="utf-8")
        text = _card(lesson.labels, facts, measured, kind)
        (part / "README.md").write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)
    return measured


def _standard(lesson: Lesson, encoder: Encoder, part: Path, seed: int, tell: Callable[[str], None]) -> Measured:
    from mollm.classifier import standard

    tokenizer, model = encoder.load()
    depth = int(model.config.num_hidden_layers)
    layer = max(1, depth - 1)  # the last but one: the last is shaped by what the encoder was trained for
    if lesson.targets.H >= CHOSEN_FEW:
        heard = [lesson.texts[n] for n in lesson.targets.index]
        losses = {}
        for n in range(max(1, depth // 2), depth + 1):
            seen = standard.features(standard.cast(model, n, lesson.labels), tokenizer, heard)
            losses[n] = _loss(seen, lesson.targets, seed, len(lesson.labels), heard)
            tell(f"layer {n} of {depth}: log-loss {losses[n]:.3f}")
        layer = min(losses, key=lambda n: losses[n])
    made = standard.cast(model, layer, lesson.labels)
    seen = standard.features(made, tokenizer, lesson.texts, tell)
    weight, bias, measured = _fitted(lesson, seen, seed, layer)
    standard.set_head(made, weight, bias)
    made.save_pretrained(part)
    return measured


def _embedding(lesson: Lesson, encoder: Encoder, part: Path, seed: int, tell: Callable[[str], None]) -> Measured:
    from safetensors.numpy import save_file

    one = Encoder(encoder.directory, encoder.cache, most=1)  # `predict.py` reads no second window
    weight, bias, measured = _fitted(lesson, flat(one.embed(lesson.texts, tell)), seed, 0)
    model = encoder.load()[1]
    before = model.config.id2label, model.config.label2id
    try:
        model.config.id2label = dict(enumerate(lesson.labels))
        model.config.label2id = {label: c for c, label in enumerate(lesson.labels)}
        model.save_pretrained(part)
    finally:
        model.config.id2label, model.config.label2id = before
    head = {"weight": np.ascontiguousarray(weight.T, dtype=np.float32), "bias": bias.astype(np.float32)}
    save_file(head, part / "head.safetensors")
    return measured


def _loss(seen: FloatArray, targets: Targets, seed: int, C: int, texts: Sequence[str]) -> float:
    """Cross-fitted log-loss (nats) of a head that knows people's labels alone; `seen` (H, D) of their texts."""
    alone = Targets(np.arange(targets.H), targets.label, targets.weight)
    lesson = Lesson(tuple(map(str, range(C))), texts, alone, np.full((targets.H, C), np.nan))
    logits = _crossfitted(lesson, seen, seed)
    losses = -np.log(np.maximum(softmax(logits, axis=1)[np.arange(targets.H), targets.label], 1e-9))
    return float(np.average(losses, weights=targets.weight))


def _crossfitted(lesson: Lesson, seen: FloatArray, seed: int) -> FloatArray:
    """(H, C) logits of people's labels, each from a head that saw neither the label nor another of the same text."""
    N, C, H = len(lesson.texts), len(lesson.labels), lesson.targets.H
    label = np.full(N, -1, dtype=np.int64)
    label[lesson.targets.index] = lesson.targets.label
    fold = folds(lesson.texts, FOLDS if H >= 50 else FEW_FOLDS, stream(seed, "as a model"), label)
    out = np.zeros((H, C))
    for k in np.unique(fold[lesson.targets.index]).tolist():
        head = Head(C, ridge=RIDGE).fit(seen, lesson.rows(np.flatnonzero(fold == k)))
        mine = fold[lesson.targets.index] == k
        out[mine] = head.logits(seen[lesson.targets.index[mine]])
    return out


def _fitted(lesson: Lesson, seen: FloatArray, seed: int, layer: int) -> tuple[FloatArray, FloatArray, Measured]:
    """The head's weight (D, C) and bias (C,), with the temperature in them, and what was measured."""
    C, targets = len(lesson.labels), lesson.targets
    head = Head(C, ridge=RIDGE).fit(seen, lesson.rows(np.array([], dtype=np.int64)))
    assert head.W_ is not None
    assert head.b_ is not None
    weight = head.W_ / head.scale_[:, None]
    bias = head.b_ - head.mean_ @ weight
    held_out = softmax(_crossfitted(lesson, seen, seed), axis=1) if targets.H else np.zeros((0, C))
    warmth = temperature(held_out, targets)
    free: BoolArray = np.asarray(~np.isnan(lesson.probs).any(axis=1))
    free[targets.index] = False
    same = head.logits(seen[free]).argmax(axis=1) == lesson.probs[free].argmax(axis=1)
    right = held_out.argmax(axis=1) == targets.label
    measured = Measured(
        layer, targets.H, warmth,
        float(np.average(right, weights=targets.weight)) if targets.H else float("nan"),
        ece(at_temperature(held_out, warmth), targets.label, targets.weight),
        float(same.mean()) if len(same) else float("nan"),
    )  # fmt: skip
    return weight / warmth, bias / warmth, measured


def _card(labels: Sequence[str], facts: Mapping[str, object], measured: Measured, kind: str) -> str:
    how = STANDARD.format(layer=measured.layer) if kind == "standard" else EMBEDDING
    return CARD.format(
        mark=MARK, how=how, labels="\n".join(f"- {c}: {label}" for c, label in enumerate(labels)),
        facts="\n".join(f"- {name}: {value}" for name, value in facts.items()),
        measured="\n".join(f"- {line}" for line in measured.lines()), limit=MAX_TOKENS,
    )  # fmt: skip


CARD = """---
library_name: transformers
pipeline_tag: text-classification
---
{mark}
# A text classifier made with mollm

{how}

It was fitted for this export on people's labels and on what the LLMs' mixture says of other texts. It is not the
mixture: it has only the text, and asks no LLM.

## Labels

{labels}

## What it was made of

{facts}

## How right it is

{measured}

`python predict.py < texts.txt` prints calibrated probabilities. Of a text it reads {limit} tokens at most; the rest is
cut. It says nothing useful of texts of another kind or language than those that it has seen.
"""
STANDARD = """`AutoModelForSequenceClassification` and `AutoTokenizer` load it; no code comes with the weights. The
encoder is cut after its layer {layer}; one more layer of the same kind, with constant weights, takes the mean over the
text's tokens, and a linear head gives the logits. Their softmax is calibrated."""
EMBEDDING = """`AutoModel` and `AutoTokenizer` load the encoder. Its pooling is not that of a sequence classifier in
transformers, so that the head lies beside it, in `head.safetensors`, and `predict.py` puts the two together."""
