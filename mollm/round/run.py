"""One round of the loop, as the paper tells it: fuse the panel, label with the mixture, train the classifier, let it
join the panel, and pick what humans should see next. `mollm.round.chain` holds the cross-fitted fits behind each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mollm.classifier.head import Head
from mollm.config import COLD_STEP, LoopConfig
from mollm.errors import InputError, ModelFileError
from mollm.mixture import aggregators
from mollm.mixture.calibration import at_temperature, ece
from mollm.mixture.cold_start import ahead
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.records import (
    BatchEntry,
    BoolArray,
    FittedState,
    FloatArray,
    Item,
    Signals,
    Targets,
    TrainingRow,
)
from mollm.round import ablation, stopping, tuning
from mollm.round.chain import CLASSIFIER, Chain, Encoder
from mollm.round.discrepancy import Discrepancy
from mollm.strategies import Pool, strategy

__all__ = ["Encoder", "RoundOutcome", "no_op", "predict", "run_round"]


def no_op(_: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a round hands to its caller: the store saves it, the publisher shows it."""

    probabilities: FloatArray  # (N, C) calibrated mixture, the classifier in it
    classifier_probabilities: FloatArray | None  # (N, C) cross-fitted, NaN rows without text; None without encoder
    negatives: BoolArray  # (N, C) classes that the item very likely does not have
    entries: tuple[BatchEntry, ...]  # acquisition order over the open items: batch and reserve
    rows: tuple[TrainingRow, ...]  # what the classifier was trained on
    state: Mapping[str, FittedState]  # "mixture", "temperature", and "classifier" where there is one: see `predict`
    scores: Mapping[str, float]  # cross-fitted, on human labels; absent when unknown
    per_label_log_loss: FloatArray  # (H,) nats, cross-fitted
    notes: tuple[str, ...]  # one line each, for people


def run_round(
    items: Sequence[Item],
    signals: Signals,
    targets: Targets,
    *,
    config: LoopConfig,
    encoder: Encoder | None,
    round_index: int,
    rng: np.random.Generator,
    open_items: BoolArray | None = None,
    earlier: Sequence[stopping.Earlier] = (),
    progress: Callable[[str], None] = no_op,
) -> RoundOutcome:
    """Run one round on N items with H human labels (H may be 0). Equal arguments give equal outcomes.

    `open_items` (N,) marks what may be picked (None: all that is not labelled); `earlier` rounds' cross-fitted losses
    are the learning curve of the stopping advice. Raises InputError when items, signals and targets do not fit each
    other, ConfigError for an unknown aggregator or strategy.
    """
    progress(f"reading {len(items)} items")
    chain = Chain.start(items, signals, targets, config=config, encoder=encoder, round_index=round_index, rng=rng)
    progress("measuring what each part of the loss is worth here")
    gains = ablation.measure(chain)
    chain.parts = ablation.decided(chain, gains)
    progress("fusing the panel and training the classifier")
    classifier = chain.crossfitted()
    mixture, raw = chain.fused()
    progress(f"scoring on {targets.H} human labels by cross-fitting")
    held_out = chain.held_out()
    probabilities = at_temperature(raw, chain.temperature)
    state = {"mixture": mixture.state(), "temperature": FittedState("temperature", {}, {"value": chain.temperature})}
    open_items = ~chain.labelled if open_items is None else open_items
    tuned = tuning.tuned(chain, encoder, items, probabilities, held_out, open_items, progress)
    probabilities, held_out = tuned.probabilities, tuned.held_out
    state |= tuning.state_of(tuned, chain)
    never = negative_labels(
        probabilities, mean_probs(signals), targets, held_out, config.negative_precision, rule=config.negative_rule
    )
    progress("picking the next batch")
    entries = next_batch(chain, probabilities, classifier, open_items)
    losses = log_loss(held_out, targets)
    advice = advise(chain, probabilities, entries, open_items, losses, earlier)
    if classifier is not None:
        state["classifier"] = chain.head().state()
    return RoundOutcome(
        probabilities=probabilities,
        classifier_probabilities=classifier,
        negatives=never.mask,
        entries=entries,
        rows=chain.rows() if classifier is not None else (),
        state=state,
        scores=scores(held_out, targets),
        per_label_log_loss=losses,
        notes=(
            mixture.explain(), never.explain(), *notes(chain), *tuned.notes, *(gain.line() for gain in gains),
            advice.line(),
        ),
    )  # fmt: skip


def advise(
    chain: Chain, probabilities: FloatArray, entries: Sequence[BatchEntry], open_items: BoolArray, losses: FloatArray,
    earlier: Sequence[stopping.Earlier],
) -> stopping.Advice:  # fmt: skip
    """Is the next batch expected to pay?"""
    place = {item: n for n, item in enumerate(chain.signals.items)}
    batch = [place[entry.item] for entry in entries[: chain.config.batch_size]]
    lesson = stopping.lesson(losses, earlier)
    return stopping.advise(probabilities, open_items, batch, lesson)


def predict(
    state: Mapping[str, FittedState], items: Sequence[Item], signals: Signals, encoder: Encoder | None
) -> FloatArray:
    """(N, C) calibrated probabilities of items that came after the round, from a RoundOutcome's `state`.

    Raises ModelFileError when the panel, the labels or the encoder are not those of the round.
    """
    kind = state["mixture"].kind
    if kind not in aggregators():
        raise ModelFileError(f"The saved mixture is of an unknown kind {kind!r}: train again.")
    embeddings, joined = None, signals
    if "classifier" in state:
        if encoder is None:
            raise ModelFileError("The encoder of this version's classifier is missing: restore it or train again.")
        embeddings = encoder.embed([item.text or "" for item in items])
        probs = Head.from_state(state["classifier"]).predict_proba(embeddings)
        probs[[not (item.text and item.text.strip()) for item in items]] = np.nan
        joined = signals.with_annotator(CLASSIFIER, probs)
    fused = aggregators()[kind].from_state(state["mixture"]).predict_proba(joined, embeddings)
    calibrated = at_temperature(fused, float(str(state["temperature"].facts["value"])))
    if "tuned" not in state:
        return calibrated
    below = aggregators()[state["offset"].kind].from_state(state["offset"]).predict_proba(signals)
    return tuning.predict_with(state, items, encoder, calibrated, below)


def next_batch(
    chain: Chain, probabilities: FloatArray, classifier: FloatArray | None, open_items: BoolArray
) -> tuple[BatchEntry, ...]:
    """What humans should see next: `batch_size` items and the reserve, fewer where the pool ends.

    The first labels of a project that is refitted rarely follow the cold-start design: before the mixture has seen a
    label it is sure of the wrong things, and fifty at once by its own doubts teach less than fifty at random.
    """
    if open_items.shape != (chain.signals.N,):
        raise InputError(f"`open_items` has shape {open_items.shape}, not ({chain.signals.N},).")
    pool = pool_of(chain, probabilities, classifier, open_items)
    config = chain.config
    picks = strategy(config.strategy)(pool, config.batch_size + config.reserve, chain.rng(4, frozenset()))
    if config.refit_every > COLD_STEP:
        human, rng = len(np.unique(chain.targets.index)), chain.rng(6, frozenset())
        picks = picks.after(ahead(chain.signals, probabilities, open_items, human, rng=rng, groups=chain.groups))
    return Discrepancy(probabilities, pool.classifier, chain.signals).entries(picks, chain.signals.labels)


def pool_of(chain: Chain, probabilities: FloatArray, classifier: FloatArray | None, open_items: BoolArray) -> Pool:
    """The pool that query strategies see; where the classifier has no text, the mixture speaks for it."""
    return Pool(
        probabilities,
        np.flatnonzero(open_items),
        np.flatnonzero(chain.labelled),
        embed=None if chain.embeddings is None else partial(np.asarray, chain.embeddings),
        sample=None if chain.embeddings is None else partial(chain.sampled, probabilities),
        classifier=None if classifier is None else np.where(np.isnan(classifier), probabilities, classifier),
        panel=chain.signals.label_probs,
    )


def log_loss(probs: FloatArray, targets: Targets) -> FloatArray:
    """(H,) nats, for each human label."""
    return np.asarray(-np.log(np.maximum(probs[np.arange(targets.H), targets.label], 1e-12)))


def scores(probs: FloatArray, targets: Targets) -> dict[str, float]:
    """`log_loss`, `accuracy`, `ece` (top label, equal-width bins) of held-out `probs` (H, C); empty without labels."""
    if not targets.H:
        return {}
    weight = targets.weight / targets.weight.sum()
    return {
        "log_loss": float(weight @ log_loss(probs, targets)),
        "accuracy": float(weight @ (probs.argmax(axis=1) == targets.label)),
        "ece": ece(probs, targets.label, targets.weight),
    }


def notes(chain: Chain) -> tuple[str, ...]:
    """What was trained on what, one line each."""
    if chain.embeddings is None:
        return ("No classifier: there is no text or no encoder.",)
    rows = chain.rows()
    human = sum(row.human for row in rows)
    mixed = f"{human} human and {len(rows) - human} mixture rows"
    return (f"Classifier: a head on frozen embeddings, trained on {mixed}.",)
