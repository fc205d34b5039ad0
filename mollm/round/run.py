"""One round of the loop, as the paper tells it: fuse the panel, label with the mixture, train the classifier, let it
join the panel, and pick what humans should see next. `mollm.round.chain` holds the cross-fitted fits behind each step.

The service, the replays and the benches all call `run_round`, and `predict` for what comes after the round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mollm.classifier.encoder import Encoder
from mollm.classifier.head import Head
from mollm.classifier.windows import Unread
from mollm.config import COLD_STEP, LoopConfig
from mollm.errors import ModelFileError
from mollm.metrics import log_losses, scores
from mollm.mixture import from_state
from mollm.mixture.auto import Auto
from mollm.mixture.cold_start import ahead
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.negative_labels import negative_labels
from mollm.people.suspects import Heard
from mollm.records import BatchEntry, BoolArray, FittedState, FloatArray, Item, Signals, TrainingRow
from mollm.round import ablation, stopping, tuning
from mollm.round.chain import CLASSIFIER, Chain, Embeds, RoundInput
from mollm.round.discrepancy import Discrepancy
from mollm.round.reading import Reading
from mollm.strategies import Candidates, strategy

ENCODER = "encoder"  # a fact of the classifier's state
READING = "reading"  # what a round's classifier and mixture read of the embeddings

__all__ = ["Embeds", "RoundInput", "RoundOutcome", "no_op", "predict", "run_round"]


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
    state: Mapping[str, FittedState]  # "mixture", and "classifier", READING, "offset", "tuned" where there are
    scores: Mapping[str, float]  # cross-fitted, on human labels; absent when unknown
    per_label_log_loss: FloatArray  # (H,) nats, cross-fitted
    heard: Heard  # what speaks for and against each human label, cross-fitted
    notes: tuple[str, ...]  # one line each, for people
    unread: Unread | None  # of the texts, by the encoder; None where it is not one with windows
    unread_tuned: Unread | None  # by the tuned layers; None where none are tuned


def run_round(
    given: RoundInput,
    *,
    config: LoopConfig,
    encoder: Embeds | None,
    rng: np.random.Generator,
    progress: Callable[[str], None] = no_op,
) -> RoundOutcome:
    """Run one round. Equal arguments give equal outcomes.

    Raises InputError where the labels do not fit the pool, ConfigError for an unknown aggregator or strategy.
    """
    targets = given.targets
    progress(f"reading {len(given.items)} items")
    chain = Chain.start(given, config, encoder, rng)
    progress("measuring what each part of the loss is worth here")
    gains = ablation.measure(chain)
    chain.parts = ablation.decided(chain, gains)
    progress("fusing the panel and training the classifier")
    classifier = chain.crossfitted()
    progress(f"scoring on {targets.H} human labels by cross-fitting")
    mixture = Auto.of(chain.fused.climb())
    tuned = tuning.tuned(chain, encoder, given, progress)
    probabilities, held_out = tuned.probabilities, tuned.held_out
    never = negative_labels(
        probabilities,
        mean_probs(given.signals),
        targets,
        held_out,
        config.negative_precision,
        rule=config.negative_rule,
    )
    progress("picking the next batch")
    entries = next_batch(chain, probabilities, classifier, given.open)
    losses = log_losses(held_out, targets.label)
    advice = advise(chain, probabilities, entries, given, losses)
    state = {"mixture": mixture.state()} | tuning.state_of(tuned, chain)
    if classifier is not None and chain.reading is not None:
        state["classifier"] = marked(chain.head().state(), encoder)
        state[READING] = chain.reading.state()
    unread = encoder.unread(given.texts) if isinstance(encoder, Encoder) and chain.embeddings is not None else None
    return RoundOutcome(
        probabilities=probabilities,
        classifier_probabilities=classifier,
        negatives=never.mask,
        entries=entries,
        rows=chain.rows() if classifier is not None else (),
        state=state,
        scores=scores(held_out, targets),
        per_label_log_loss=losses,
        heard=Heard(
            targets, given.signals, held_out, chain.panel_ladder.climb().held_out,
            None if classifier is None else classifier[targets.index],
        ),
        notes=(
            mixture.explain(), never.explain(), *notes(chain), *cut(unread), *tuned.notes,
            *(gain.line() for gain in gains), advice.line(),
        ),
        unread=unread,
        unread_tuned=tuned.unread,
    )  # fmt: skip


def advise(
    chain: Chain, probabilities: FloatArray, entries: Sequence[BatchEntry], given: RoundInput, losses: FloatArray
) -> stopping.Advice:
    """Is the next batch expected to pay?"""
    place = {item: n for n, item in enumerate(chain.signals.items)}
    batch = [place[entry.item] for entry in entries[: chain.config.batch_size]]
    labelled = len(np.unique(given.targets.index))
    return stopping.advise(probabilities, given.open, batch, labelled, stopping.lesson(losses, given.earlier))


def predict(
    state: Mapping[str, FittedState], items: Sequence[Item], signals: Signals, encoder: Embeds | None
) -> FloatArray:
    """(N, C) calibrated probabilities of items that came after the round, from a RoundOutcome's `state`.

    Raises ModelFileError when the panel, the labels or the encoder are not those of the round, or the state is not
    one that this version writes.
    """
    if "mixture" not in state or state["mixture"].kind != Auto.name:
        raise ModelFileError("The saved mixture was not written by this version of mollm: train again.")
    embeddings, joined = None, signals
    if "classifier" in state:
        if encoder is None:
            raise ModelFileError("The encoder of this version's classifier is missing: restore it or train again.")
        if state["classifier"].facts.get(ENCODER, "") != name_of(encoder):
            raise ModelFileError(
                "This version's classifier was trained on another text encoder, or as another version of mollm reads "
                "texts: train again."
            )
        reading = Reading.from_state(state.get(READING))
        texts = [item.text or "" for item in items]
        embeddings = reading.read(encoder.embed(texts), texts)
        probs = Head.from_state(state["classifier"]).predict_proba(embeddings)
        probs[[not (item.text and item.text.strip()) for item in items]] = np.nan
        joined = signals.with_annotator(CLASSIFIER, probs)
    fused = from_state(state["mixture"]).predict_proba(joined, embeddings)
    if "tuned" not in state:
        return fused
    return tuning.predict_with(state, items, encoder, fused, from_state(state["offset"]).predict_proba(signals))


def marked(classifier: FittedState, encoder: Embeds | None) -> FittedState:
    """The classifier's state with the name of what embeds its texts: it fits no other embeddings."""
    return replace(classifier, facts={**classifier.facts, ENCODER: name_of(encoder)})


def name_of(encoder: Embeds | None) -> str:
    """The content address of an encoder and of how it reads; empty for what has none."""
    return encoder.fingerprint if isinstance(encoder, Encoder) else ""


def next_batch(
    chain: Chain, probabilities: FloatArray, classifier: FloatArray | None, open_items: BoolArray
) -> tuple[BatchEntry, ...]:
    """What humans should see next: `batch_size` items and the reserve, fewer where the pool ends.

    The first labels of a project that is refitted rarely follow the cold-start design: before the mixture has seen a
    label it is sure of the wrong things, and fifty at once by its own doubts teach less than fifty at random.
    """
    pool = candidates_of(chain, probabilities, classifier, open_items)
    config = chain.config
    picks = strategy(config.strategy)(pool, config.batch_size + config.reserve, chain.rng("picks"))
    if config.refit_every > COLD_STEP:
        picks = picks.after(ahead(chain.pool, probabilities, open_items, rng=chain.rng("cold start")))
    return Discrepancy(probabilities, pool.classifier, chain.signals).entries(picks, chain.signals.labels)


def candidates_of(
    chain: Chain, probabilities: FloatArray, classifier: FloatArray | None, open_items: BoolArray
) -> Candidates:
    """The pool that query strategies see; where the classifier has no text, the mixture speaks for it."""
    return Candidates(
        probabilities,
        np.flatnonzero(open_items),
        np.flatnonzero(chain.labelled),
        embed=None if chain.embeddings is None else partial(np.asarray, chain.embeddings),
        sample=None if chain.embeddings is None else partial(chain.sampled, probabilities),
        classifier=None if classifier is None else np.where(np.isnan(classifier), probabilities, classifier),
        panel=chain.signals.label_probs,
    )


def notes(chain: Chain) -> tuple[str, ...]:
    """What was trained on what, one line each."""
    if chain.embeddings is None:
        return ("No classifier: there is no text or no encoder.",)
    rows = chain.rows()
    human = sum(row.human for row in rows)
    mixed = f"{human} human and {len(rows) - human} mixture rows"
    return (f"Classifier: a head on frozen embeddings, trained on {mixed}.",)


def cut(unread: Unread | None) -> tuple[str, ...]:
    """What the encoder did not read, in a line; nothing where it read all."""
    return () if unread is None or not unread.longer else (unread.line(),)
