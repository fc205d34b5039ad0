"""`top` and `full` in a round: a tuned encoder that stands on the held-out panel and is averaged with the mixture.

The offset is the panel's mixture without the text: standing on the mixture with the text, the layers learned less
(TREC, 300 human labels: .864 against .896). Only human rows train it: a row that the mixture labelled would teach it
nothing beyond its own offset.

`auto` tries `top` where enough humans have spoken and enough is still wrong, and keeps it if its cross-fitted log-loss
is lower. That choice is cross-fitted as the temperature is: a fold's rows are scored by what the other folds chose.
This module imports torch when a tuned classifier is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mollm.classifier.tuned import SMALLEST, everywhere, layers_to_tune, mean_with, restored, text_encoder
from mollm.errors import ModelFileError
from mollm.losses import Rows
from mollm.mixture.calibration import at_temperature
from mollm.records import BoolArray, FittedState, FloatArray, IntArray, Item, TrainingRow
from mollm.round.chain import FOLDS, NONE, Chain, Encoder, Out, fitted_temperature

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder as TextEncoder
    from mollm.classifier.layers import Activations
    from mollm.classifier.top import Top

ENOUGH = 100  # human labels from which tuning has beaten the head on TREC
WRONG = 10.0  # expected wrong labels among the open items below which `auto` does not try: there is nothing to gain
MOST_PASSES = 2e6  # of a token through the tuned layers, without a GPU: some eight minutes of a core for MiniLM's four
LETTERS = 4  # a token, to estimate that
EPOCHS = 5  # of `Top`, to estimate that


@dataclass(frozen=True)
class Tuned:
    """What a round says after tuning: (N, C), and (H, C) cross-fitted, both calibrated; `top` None: not tuned."""

    probabilities: FloatArray
    held_out: FloatArray
    top: Top | None = None
    temperature: float = 1.0
    notes: tuple[str, ...] = ()


def tuned(
    chain: Chain,
    encoder: Encoder | None,
    items: Sequence[Item],
    probabilities: FloatArray,
    held_out: FloatArray,
    open_items: BoolArray,
    progress: Callable[[str], None],
) -> Tuned:
    """The round with a tuned encoder in it, where one is asked for, possible and worth its time."""
    if not asked_for(chain, encoder):
        return Tuned(probabilities, held_out)
    reason = obstacle(chain, items, probabilities, open_items)
    if reason is not None:
        return Tuned(probabilities, held_out, notes=(reason,))
    try:
        return tune(chain, text_encoder(encoder), items, probabilities, held_out, progress)
    except ModelFileError as error:
        if chain.config.classifier != "auto":
            raise
        return Tuned(probabilities, held_out, notes=(f"The encoder's layers stay as they are: {error}",))


def asked_for(chain: Chain, encoder: Encoder | None) -> bool:
    """May this round be tuned at all? `auto` asks for it only where the encoder is one whose layers can be tuned."""
    from mollm.classifier.encoder import Encoder as TextEncoder

    mode = chain.config.classifier
    possible = mode in ("top", "full") or (mode == "auto" and isinstance(encoder, TextEncoder))
    return possible and chain.embeddings is not None


def obstacle(chain: Chain, items: Sequence[Item], probabilities: FloatArray, open_items: BoolArray) -> str | None:
    """Why this round is not worth tuning for, in a sentence; None where it is."""
    with_text = chain.targets.take(chain.has_text[chain.targets.index])
    if with_text.H < ENOUGH or len(np.unique(with_text.label)) < 2:
        return f"The encoder's layers are tuned from {ENOUGH} human labels on."
    if chain.config.classifier != "auto":
        return None
    wrong = float((1 - probabilities.max(axis=1))[open_items].sum())
    if wrong < WRONG:
        return f"The encoder's layers stay as they are: only some {wrong:.1f} labels of open items are wrong still."
    tokens = float(np.mean([min(len(item.text or "") / LETTERS + 2, 128) for item in items]))
    passes = tokens * (3 * EPOCHS * FOLDS * chain.targets.H + 2 * chain.signals.N)
    if passes > MOST_PASSES and not on_gpu():
        return "The encoder's layers stay as they are: without a GPU, tuning them would take too long here."
    return None


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def tune(
    chain: Chain,
    known: TextEncoder,
    items: Sequence[Item],
    probabilities: FloatArray,
    held_out: FloatArray,
    progress: Callable[[str], None],
) -> Tuned:
    """Tune, judge by cross-fitting, and say what came of it; `probabilities` and `held_out` are the round's without.

    `full` is not cross-fitted, for it would take minutes a fold: its scores are those of the head.
    """
    mode = chain.config.classifier
    layers = layers_to_tune(known, mode)
    labelled = np.unique(chain.targets.index)
    from mollm.classifier.layers import activations

    acts = activations(known, [items[n].text or "" for n in labelled], layers)
    temperature, note, final = 1.0, "scores are those of the head", held_out
    if mode != "full":
        progress("cross-fitting the tuned encoder")
        raw = cross_fitted(chain, known, acts, labelled, layers, held_out)
        wins, final = judged(chain, raw, held_out)
        before, after = (mean_loss(chain, probs) for probs in (held_out, calibrated(chain, raw)))
        note = f"cross-fitted log-loss {after:.3f}, {before:.3f} with the head alone"
        if not wins and mode == "auto":
            line = f"The encoder's layers stay as they are ({note} when they were tuned)."
            return Tuned(probabilities, final, notes=(line,))
        final = final if mode == "auto" else calibrated(chain, raw)
        temperature = fitted_temperature(raw, chain.targets)
    progress("tuning the encoder")
    top = fitted(chain, known, acts, labelled, layers, NONE)
    out = everywhere(top, known, [item.text or "" for item in items], probabilities, chain.panel_held_out(), progress)
    line = f"Classifier: {layers} tuned layers, averaged with the mixture ({note})."
    return Tuned(at_temperature(out, temperature), final, top, temperature, (line,))


def fitted(chain: Chain, encoder: TextEncoder, acts: Activations, labelled: IntArray, tuned: int, out: Out) -> Top:
    """The classifier that saw nothing of the folds `out`; `acts` holds the texts of the items `labelled`."""
    from mollm.classifier.top import Top

    seen, C = chain.seen(out), chain.signals.C
    place = np.searchsorted(labelled, seen.index)
    rows = [
        TrainingRow(int(n), int(c), float(w), (), True)
        for n, c, w in zip(place, seen.label, seen.weight, strict=True)
        if chain.has_text[labelled[n]]
    ]
    offset = np.log(np.maximum(chain.panel_held_out(out)[labelled], SMALLEST))
    return Top(C, encoder.load()[1], tuned).fit(acts, Rows.of(rows, C), offset, chain.seed)


def cross_fitted(
    chain: Chain, encoder: TextEncoder, acts: Activations, labelled: IntArray, tuned: int, held_out: FloatArray
) -> FloatArray:
    """(H, C): each human label's item by the tuned classifier and the mixture that saw nothing of its fold."""
    index = chain.targets.index
    place, fold = np.searchsorted(labelled, index), chain.fold[index]
    probs = np.empty_like(held_out)
    for k in np.unique(fold).tolist():
        out = frozenset({k})
        top, mine = fitted(chain, encoder, acts, labelled, tuned, out), fold == k
        offset = np.log(np.maximum(chain.panel(out)[index[mine]], SMALLEST))
        probs[mine] = mean_with(held_out[mine], offset + top.logits(acts, place[mine]), chain.has_text[index[mine]])
    return probs


def judged(chain: Chain, raw: FloatArray, held_out: FloatArray) -> tuple[bool, FloatArray]:
    """Has the tuned classifier the lower cross-fitted log-loss, and (H, C) what each fold's choice says.

    The fold's own labels have no part in its choice, nor in its temperature.
    """
    fold = chain.fold[chain.targets.index]
    tuned = calibrated(chain, raw)
    out = held_out.copy()
    for k in np.unique(fold).tolist():
        others = fold != k
        if mean_loss(chain, tuned, others) < mean_loss(chain, held_out, others):
            out[fold == k] = tuned[fold == k]
    return mean_loss(chain, tuned) < mean_loss(chain, held_out), out


def calibrated(chain: Chain, raw: FloatArray) -> FloatArray:
    """(H, C): `raw` at the temperature that the other folds' labels ask for."""
    fold = chain.fold[chain.targets.index]
    out = raw.copy()
    for k in np.unique(fold).tolist():
        others = fold != k
        out[~others] = at_temperature(raw[~others], fitted_temperature(raw[others], chain.targets.take(others)))
    return out


def mean_loss(chain: Chain, probs: FloatArray, chosen: BoolArray | None = None) -> float:
    """Weighted log-loss (nats) of `probs` (H, C) on the human labels, or on the `chosen` (H,) of them."""
    targets = chain.targets
    rows = np.arange(targets.H) if chosen is None else np.flatnonzero(chosen)
    said = probs[rows, targets.label[rows]]
    return float(np.average(-np.log(np.maximum(said, 1e-12)), weights=targets.weight[rows]))


def state_of(tuned: Tuned, chain: Chain) -> dict[str, FittedState]:
    """What `predict_with` needs: the mixture below the offset, and the tuned weights; nothing if the head won."""
    if tuned.top is None:
        return {}
    facts = {"tuned": tuned.top.tuned, "C": tuned.top.C, "temperature": tuned.temperature}
    return {"offset": chain.panel_mixture().state(), "tuned": FittedState("top", tuned.top.weights(), facts)}


def predict_with(
    state: Mapping[str, FittedState],
    items: Sequence[Item],
    encoder: Encoder | None,
    fused: FloatArray,
    below: FloatArray,
) -> FloatArray:
    """(N, C) of new items: `fused` averaged with the saved tuned classifier on the mixture `below` (N, C)."""
    known = text_encoder(encoder)
    top = restored(state["tuned"], known)
    out = everywhere(top, known, [item.text or "" for item in items], fused, below)
    return at_temperature(out, float(str(state["tuned"].facts["temperature"])))
