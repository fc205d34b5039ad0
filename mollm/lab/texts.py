"""Replay of the text classifier alone: from a few human labels and no LLM, how often is it right on the other texts?

It is the service's own round (`mollm.round`) with a panel of one annotator that never answers, or, beside it, of the
first encoder as an annotator (`mollm.annotators.encoder`). Each encoder is replayed on the same labels; the first is
the one that the others are compared with. The human labels of seed s are the first of
`default_rng([s, 1]).permutation(N)`; gold is shown for these alone, and scores all the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from mollm.annotators.encoder import nearness, places, sentences
from mollm.classifier.encoder import MAX_TOKENS, MOST, OVERLAP, Encoder, token_ids
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab.fuse import STREAM, KnownTexts, Part, replayed
from mollm.lab.scores import Score, paired_gain
from mollm.recording import Recording
from mollm.records import Item, LabelSet, Signals

SILENT = "nobody"
NAMES = "names"  # the encoder as an annotator


@dataclass(frozen=True)
class Plan:
    """`human` labels a seed, which seeds; `classifier` as in a project: `head`, or `auto`, which may tune layers.

    `names`: beside it, the first encoder is an annotator by the labels' names.
    """

    human: int = 100
    seeds: int = 10
    first_seed: int = 0
    classifier: Literal["auto", "head", "top"] = "head"
    names: bool = False


def recording_of(name: str, texts: Sequence[str], gold: Sequence[str], labels: Sequence[str]) -> Recording:
    """Texts with their labels, as a recording whose only annotator is silent."""
    items = tuple(Item(str(n), text) for n, text in enumerate(texts))
    column = {label: c for c, label in enumerate(labels)}
    nothing = np.full((len(items), 1, len(labels)), np.nan)
    ids = tuple(item.id for item in items)
    signals = Signals(ids, (SILENT,), tuple(labels), nothing, nothing)
    known = np.array([column[label] for label in gold], dtype=np.int64)
    return Recording(name, LabelSet(tuple(labels)), items, signals, known, 1, 1.0, 1.0)


def replay(
    recording: Recording, plan: Plan, encoders: Mapping[str, Encoder], progress: Callable[[str], None] = lambda _: None
) -> dict[str, object]:
    """Run the plan with each of the `encoders` by name; the answer is JSON-able. Raises InputError for a plan that
    leaves nothing to score on."""
    if not 0 <= plan.human < len(recording.items):
        raise InputError(
            f"--human {plan.human}, but there are {len(recording.items)} texts: some must be left to score."
        )
    began, texts = time.monotonic(), [item.text or "" for item in recording.items]
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    results: dict[str, dict[str, object]] = {}
    accuracy: dict[str, list[float]] = {}
    first, *_ = encoders
    ways = {name: (encoder, recording) for name, encoder in encoders.items()}
    if plan.names:
        ways[NAMES] = (encoders[first], with_names(recording, encoders[first]))
    for name, (encoder, spoken) in ways.items():
        progress(f"{name}: embedding {len(texts)} texts")
        read = first_windows(encoder, texts) if encoder.most == 1 else texts
        items = tuple(replace(item, text=text) for item, text in zip(recording.items, read, strict=True))
        part = Part(replace(spoken, items=items), encoder.embed(read, progress))
        scores = [_score(part, plan, encoder, seed) for seed in seeds]
        accuracy[name] = [score.accuracy for score in scores]
        progress(f"{name}: accuracy {np.mean(accuracy[name]):.4f} over {plan.seeds} seeds")
        results[name] = {
            "accuracy": accuracy[name], "mean": float(np.mean(accuracy[name])),
            "ece": float(np.mean([score.ece for score in scores])),
            "log_loss": float(np.mean([score.log_loss for score in scores])),
            "unread": asdict(encoder.beyond(texts, encoder.windows(MAX_TOKENS, OVERLAP, MOST)[1])),
        }  # fmt: skip
    pairs = [(first, name) if name in encoders else (name, first) for name in ways if name != first]
    return {
        "texts": recording.name, "n": len(texts), "human": plan.human, "classifier": plan.classifier,
        "seeds": list(seeds), "results": results,
        "paired_gain": {f"{one}-{other}": paired_gain(accuracy[one], accuracy[other]) for one, other in pairs},
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def with_names(recording: Recording, encoder: Encoder) -> Recording:
    """The same texts, with this encoder as the only annotator."""
    texts = [item.text or "" for item in recording.items]
    said = nearness(encoder, texts, places(encoder, sentences(recording.labels)))[:, None]
    signals = Signals(recording.signals.items, (NAMES,), recording.labels.names, said, said)
    return replace(recording, signals=signals)


def first_windows(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """The texts, cut at the end of their first window: then nobody reads more of them, word by word or otherwise."""
    tokenizer, size = encoder.load()[0], encoder.windows(MAX_TOKENS, OVERLAP, 1)[1].size
    read = zip(texts, token_ids(tokenizer, texts), strict=True)
    return [text if len(ids) <= size else tokenizer.decode(ids[:size]) for text, ids in read]


def _score(part: Part, plan: Plan, encoder: Encoder, seed: int) -> Score:
    """Of one round on the labels of one seed. One BLAS thread: sums are then the same in any process."""
    recording = part.recording
    asked = np.random.default_rng([seed, STREAM]).permutation(len(recording.items))[: plan.human]
    rest = np.ones(len(recording.items), dtype=np.bool_)
    rest[asked] = False
    known = KnownTexts.of(part) if plan.classifier == "head" else encoder
    rng = np.random.default_rng([seed, STREAM, 1])
    with threadpool_limits(1, user_api="blas"):
        outcome = replayed(part, asked, LoopConfig(classifier=plan.classifier), known, rng)
    return Score.of(outcome.probabilities, recording.gold, rest)
