"""`top` and `full` in a round: a tuned encoder that stands on the held-out panel and is averaged with the mixture.

The offset is the panel's mixture without the text: standing on the mixture with the text, the layers learned less
(TREC, 300 human labels: .864 against .896). Only human rows train it: a row that the mixture labelled would teach it
nothing beyond its own offset.

`auto` tries `top` where enough humans have spoken and enough is still wrong, and keeps it if its cross-fitted log-loss
is lower. The rows of a fold are scored by what the other folds' labels chose, as on the ladder.

What is kept is the mean of the folds' weights (Wortsman et al. 2022, "Model soups"). They start at one place and do not
go far, so that their mean is a classifier, too, and no further fit is needed. It is less sure than the folds'
classifiers: its temperature makes it as sure of a sample of the pool as they are.
This module imports torch when a tuned classifier is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mollm.classifier.tuned import SMALLEST, everywhere, layers_to_tune, mean_with, restored, text_encoder
from mollm.classifier.windows import Unread
from mollm.errors import ModelFileError
from mollm.languages import tokens_about
from mollm.losses import Rows
from mollm.metrics import log_loss
from mollm.mixture.auto import Auto
from mollm.mixture.calibration import as_sure, at_temperature
from mollm.mixture.ladder import NONE, Choice, Out, cross_chosen, fitted_temperature
from mollm.mixture.ladder import Rows as HeldOut
from mollm.records import FittedState, FloatArray, IntArray, Item, Targets, TrainingRow
from mollm.round.chain import FOLDS, Chain, Embeds, RoundInput

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder
    from mollm.classifier.layers import Activations
    from mollm.classifier.top import Top

ENOUGH = 100  # human labels from which tuning has beaten the head on TREC
WRONG = 10.0  # expected wrong labels among the open items below which `auto` does not try: there is nothing to gain
MOST_WORK = 1.4e13  # tokens times the parameters that they pass, without a GPU: some eight minutes of a core
SAMPLE = 500  # items without label on which sureness is compared (its spread there is about .01 of a probability)
TUNED, HEAD = "tuned", "head"  # the two candidates of `auto`
READER = "the tuned classifier"  # in what people are told; it is averaged with a mixture that reads whole texts


@dataclass(frozen=True)
class Tuned:
    """What a round says after tuning: (N, C), and (H, C) cross-fitted, both calibrated; `top` None: not tuned."""

    probabilities: FloatArray
    held_out: FloatArray
    top: Top | None = None
    temperature: float = 1.0
    notes: tuple[str, ...] = ()
    unread: Unread | None = None  # of the texts, by the tuned layers


def tuned(chain: Chain, encoder: Embeds | None, given: RoundInput, progress: Callable[[str], None]) -> Tuned:
    """The round with a tuned encoder in it, where one is asked for, possible and worth its time."""
    plain = Tuned(chain.fused.probs(), chain.fused.climb().held_out)
    if not asked_for(chain, encoder):
        return plain
    try:
        known = text_encoder(encoder)
        reason = obstacle(chain, known, given, plain.probabilities)
        if reason is not None:
            return replace(plain, notes=(reason,))
        return tune(chain, known, given.texts, plain, progress)
    except ModelFileError as error:
        if chain.config.classifier != "auto":
            raise
        return replace(plain, notes=(f"The encoder's layers stay as they are: {error}",))


def asked_for(chain: Chain, encoder: Embeds | None) -> bool:
    """May this round be tuned at all? `auto` asks for it only where the encoder is one whose layers can be tuned."""
    from mollm.classifier.encoder import Encoder

    mode = chain.config.classifier
    possible = mode in ("top", "full") or (mode == "auto" and isinstance(encoder, Encoder))
    return possible and chain.embeddings is not None


def obstacle(chain: Chain, encoder: Encoder, given: RoundInput, probabilities: FloatArray) -> str | None:
    """Why this round is not worth tuning for, in a sentence; None where it is. Raises ModelFileError."""
    with_text = chain.targets.take(chain.has_text[chain.targets.index])
    if with_text.H < ENOUGH or len(np.unique(with_text.label)) < 2:
        return f"The encoder's layers are tuned from {ENOUGH} human labels on."
    if chain.config.classifier != "auto":
        return None
    wrong = float((1 - probabilities.max(axis=1))[given.open].sum())
    if wrong < WRONG:
        return f"The encoder's layers stay as they are: only some {wrong:.1f} labels of open items are wrong still."
    from mollm.classifier.layers import MAX_TOKENS, size
    from mollm.classifier.top import EPOCHS

    tokens = float(np.mean([min(tokens_about(text) + 2, MAX_TOKENS) for text in given.texts]))
    passes = tokens * (3 * EPOCHS * (FOLDS - 1) * chain.targets.H + chain.signals.N)
    work = passes * size(encoder.load()[1], layers_to_tune(encoder, chain.config.classifier))
    if work > MOST_WORK and not on_gpu():
        return "The encoder's layers stay as they are: without a GPU, tuning them would take too long here."
    return None


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def tune(chain: Chain, known: Encoder, texts: Sequence[str], plain: Tuned, progress: Callable[[str], None]) -> Tuned:
    """Tune, judge by cross-fitting, and say what came of it; `plain` is the round without.

    `full` is not cross-fitted, for it would take minutes a fold: its scores are those of the head.
    """
    from mollm.classifier.layers import activations, unread

    layers = layers_to_tune(known, chain.config.classifier)
    labelled = np.unique(chain.targets.index)
    acts = activations(known, [texts[n] for n in labelled], layers)
    judged = Judged(plain.held_out, "scores are those of the head")
    if chain.config.classifier != "full":
        progress("cross-fitting the tuned encoder")
        judged = judge(chain, known, texts, acts, layers, plain)
        if not judged.kept:
            line = f"The encoder's layers stay as they are ({judged.note} when they were tuned)."
            return replace(plain, held_out=judged.held_out, notes=(line,))
    top = judged.top
    if top is None:
        progress("tuning the encoder")
        top = fitted(chain, known, acts, labelled, layers, NONE)
    out = everywhere(top, known, texts, plain.probabilities, chain.panel_everywhere(), progress)
    line = f"Classifier: {layers} tuned layers, averaged with the mixture ({judged.note})."
    beyond = unread(known, texts)
    notes = (line, beyond.line(READER)) if beyond.longer else (line,)
    return Tuned(at_temperature(out, judged.temperature), judged.held_out, top, judged.temperature, notes, beyond)


@dataclass(frozen=True)
class Judged:
    """What cross-fitting says of tuning.

    `held_out` (H, C): by these rows the round is scored. `note`: for people. `kept`: tuned layers pay, at this
    `temperature`. `top`: the mean of the folds' classifiers (None: one more fit is needed).
    """

    held_out: FloatArray
    note: str
    kept: bool = True
    temperature: float = 1.0
    top: Top | None = None


def judge(chain: Chain, known: Encoder, texts: Sequence[str], acts: Activations, layers: int, plain: Tuned) -> Judged:
    """Tune without each fold in turn, and compare with the round without tuned layers; `acts` holds the texts of the
    labelled items."""
    targets, labelled = chain.targets, np.unique(chain.targets.index)
    fold = chain.fold[targets.index]
    sample = Sample.of(chain, known, texts, layers, plain.probabilities)
    found = cross_fitted(chain, known, acts, labelled, layers, plain.held_out, sample)
    rows = {TUNED: cross_chosen({TUNED: found.held_out}, targets, fold, calibrated)}
    losses = {name: log_loss(held, targets) for name, held in (rows | {HEAD: plain.held_out}).items()}
    note = f"cross-fitted log-loss {losses[TUNED]:.3f}, {losses[HEAD]:.3f} with the head alone"
    if chain.config.classifier == "auto":
        rows = {HEAD: plain.held_out} | rows
    held_out = cross_chosen(rows, targets, fold, lowest)
    if lowest(rows, targets)[0] == HEAD:
        return Judged(held_out, note, kept=False)
    temperature = fitted_temperature(found.held_out, targets)
    top = found.mean(chain, known, acts, labelled, layers)
    if top is not None and len(sample.fused):
        sure = float(at_temperature(found.sample, temperature).max(axis=-1).mean())
        temperature = as_sure(sample.said_by(top), sure)
    return Judged(held_out, note, True, temperature, top)


def calibrated(rows: HeldOut, targets: Targets) -> Choice:
    """The only candidate, at the temperature that these labels ask for."""
    (name,) = rows
    return name, fitted_temperature(rows[name], targets)


def lowest(rows: HeldOut, targets: Targets) -> Choice:
    """The candidate of lowest log-loss as it stands; of equals the first."""
    return min(rows, key=lambda name: log_loss(rows[name], targets)), 1.0


def fitted(chain: Chain, encoder: Encoder, acts: Activations, labelled: IntArray, tuned: int, out: Out) -> Top:
    """The classifier that saw nothing of the folds `out`; `acts` holds the texts of the items `labelled`."""
    from mollm.classifier.top import Top

    seen, C = chain.panel_ladder.seen(out), chain.signals.C
    place = np.searchsorted(labelled, seen.index)
    rows = [
        TrainingRow(int(n), int(c), float(w), (), True)
        for n, c, w in zip(place, seen.label, seen.weight, strict=True)
        if chain.has_text[labelled[n]]
    ]
    offset = np.log(np.maximum(chain.panel_held_out(out)[np.searchsorted(chain.working, labelled)], SMALLEST))
    return Top(C, encoder.load()[1], tuned).fit(acts, Rows.of(rows, C), offset, chain.seed)


@dataclass(frozen=True)
class Sample:
    """S items without label: their activations, and what the mixture `fused` and the panel `below` say of them
    (both (S, C))."""

    acts: Activations
    fused: FloatArray
    below: FloatArray

    @classmethod
    def of(cls, chain: Chain, encoder: Encoder, texts: Sequence[str], tuned: int, fused: FloatArray) -> Sample:
        """A random draw of the items with a text."""
        from mollm.classifier.layers import activations

        free = np.flatnonzero(chain.has_text & ~chain.labelled)
        drawn = np.sort(chain.rng("sample").permutation(free)[:SAMPLE])
        acts = activations(encoder, [texts[n] for n in drawn], tuned)
        return cls(acts, fused[drawn], chain.panel_everywhere()[drawn])

    def said_by(self, top: Top) -> FloatArray:
        """(S, C): the mean of the mixture and of a tuned classifier."""
        logits = np.log(np.maximum(self.below, SMALLEST)) + top.logits(self.acts)
        return mean_with(self.fused, logits, np.ones(len(logits), dtype=np.bool_))


@dataclass(frozen=True)
class CrossFitted:
    """What the K folds' tuned classifiers say of their own fold's labels (H, C) and of a sample (K, S, C), and the mean
    of their weights by name."""

    held_out: FloatArray
    sample: FloatArray
    weights: Mapping[str, NDArray[np.float32]]

    def mean(self, chain: Chain, encoder: Encoder, acts: Activations, labelled: IntArray, tuned: int) -> Top | None:
        """The classifier of the mean weights; None where the weights went too far apart for a mean: then it is worse on
        the very labels that it learned from than the folds' classifiers are on labels that they have not seen."""
        top = restored(FittedState("top", self.weights, {"tuned": tuned, "C": chain.signals.C}), encoder)
        targets = chain.targets
        place = np.searchsorted(labelled, targets.index)
        offset = np.log(np.maximum(chain.panel_held_out()[np.searchsorted(chain.working, targets.index)], SMALLEST))
        learned = softmax(offset + top.logits(acts, place), axis=1)
        return top if log_loss(learned, targets) <= log_loss(self.held_out, targets) else None


def cross_fitted(
    chain: Chain,
    encoder: Encoder,
    acts: Activations,
    labelled: IntArray,
    tuned: int,
    held_out: FloatArray,
    sample: Sample,
) -> CrossFitted:
    """Each human label's item by the tuned classifier and the mixture that saw nothing of its fold."""
    index = chain.targets.index
    place, fold = np.searchsorted(labelled, index), chain.fold[index]
    folds = np.unique(fold).tolist()
    probs, said = np.empty_like(held_out), []
    total: dict[str, FloatArray] = {}
    for k in folds:
        out = frozenset({k})
        top, mine = fitted(chain, encoder, acts, labelled, tuned, out), fold == k
        offset = np.log(np.maximum(chain.panel(out)[np.searchsorted(chain.working, index[mine])], SMALLEST))
        probs[mine] = mean_with(held_out[mine], offset + top.logits(acts, place[mine]), chain.has_text[index[mine]])
        said.append(sample.said_by(top))
        for name, value in top.weights().items():
            total[name] = total.get(name, 0.0) + np.asarray(value, dtype=np.float64)
    weights = {name: (value / len(folds)).astype(np.float32) for name, value in total.items()}
    return CrossFitted(probs, np.array(said), weights)


def state_of(tuned: Tuned, chain: Chain) -> dict[str, FittedState]:
    """What `predict_with` needs: the mixture below the offset, and the tuned weights; nothing if the head won."""
    if tuned.top is None:
        return {}
    facts = {"tuned": tuned.top.tuned, "C": tuned.top.C, "temperature": tuned.temperature}
    return {
        "offset": Auto.of(chain.panel_ladder.climb()).state(),
        "tuned": FittedState("top", tuned.top.weights(), facts),
    }


def predict_with(
    state: Mapping[str, FittedState],
    items: Sequence[Item],
    encoder: Embeds | None,
    fused: FloatArray,
    below: FloatArray,
) -> FloatArray:
    """(N, C) of new items: `fused` averaged with the saved tuned classifier on the mixture `below` (N, C)."""
    known = text_encoder(encoder)
    top = restored(state["tuned"], known)
    out = everywhere(top, known, [item.text or "" for item in items], fused, below)
    return at_temperature(out, float(str(state["tuned"].facts["temperature"])))
