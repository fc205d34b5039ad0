"""Annotators: one LLM runtime a file, each turning texts into the paper's signals (label distribution, votes).

The file's name is `runtime` in the panel file; a new runtime is one new file with one subclass of `Annotator`, or an
entry point `mollm.runtimes` (files that start with `_` are no runtimes). This module is free of torch: fingerprints
and keys are computed by processes that never load a model.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError
from mollm.pieces import parted, shortened
from mollm.plugins import Room, a_class
from mollm.prompts import Shot, load_template, pick_shots
from mollm.records import FloatArray, LabelSet, digest
from mollm.signals import signal_key

__all__ = [
    "EXAMPLES", "Annotator", "AnnotatorError", "AnnotatorUnavailable", "Answer", "Needs", "abstention", "examples",
    "fingerprint", "needs", "open_annotator", "runtimes", "signal_key",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Needs:
    """What an annotator holds while it is open: `bytes` of memory on `device` ("": it holds no model of ours).

    Annotators of one `model` on one device (other labels, other prompts) share its weights.
    """

    device: str = ""
    bytes: int = 0
    model: str = ""

    @property
    def takes_turns(self) -> bool:
        """A card holds one model at a time."""
        return self.device not in ("", "cpu")


# Raised when a change of this code changes answers: the annotators of that runtime are then asked again.
RULES = {"openai": "4"}
FIRST_RULES = "2"
EXAMPLES = 0.5  # share of the window that few shots may take (chosen by hand: the rest is the text's, mostly)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one annotator said of one text.

    `label_probs` (C,): the paper's z, summing to 1 for an answer from one pass, all zeros for an abstention.
    `votes` (C,): the paper's c, the (expected) share of T samples; `votes` and `abstained` sum to 1.
    `mass`: the probability of any label at all in the LLM's unconstrained distribution (NaN: not known).
    `error`: why a text was abstained on, empty where nothing went wrong. Tokens are what the LLM read and wrote for
    this text, whether or not a prefix cache spared the work; `seconds` is this text's share of the wall time.
    """

    label_probs: FloatArray
    votes: FloatArray
    abstained: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: bool = False
    seconds: float = 0.0
    calls: int = 1
    mass: float = float("nan")
    error: str = ""


def abstention(C: int, error: str, prompt_tokens: int = 0, truncated: bool = False) -> Answer:
    """A recorded abstention: zeros for every label, and why."""
    return Answer(np.zeros(C), np.zeros(C), 1.0, prompt_tokens, truncated=truncated, error=error)


def pooled(whole: Answer | None, parts: Sequence[Answer]) -> Answer:
    """The answer to a text from those to its `parts`: their mean. `whole`, what was said of as much of it as fitted, if
    that was tried, stays where no part can be answered. The cost is that of all.
    """
    heard, everything = [part for part in parts if not part.error], (*([] if whole is None else [whole]), *parts)
    found = everything[0]
    if heard:
        probs, votes = (np.mean(rows, axis=0) for rows in ([p.label_probs for p in heard], [p.votes for p in parts]))
        silent, mass = (float(np.mean(row)) for row in ([p.abstained for p in parts], [p.mass for p in heard]))
        found = Answer(probs, votes, silent, truncated=any(part.truncated for part in parts), mass=mass)
    return replace(
        found, prompt_tokens=sum(one.prompt_tokens for one in everything),
        completion_tokens=sum(one.completion_tokens for one in everything),
        seconds=sum(one.seconds for one in everything), calls=sum(one.calls for one in everything),
    )  # fmt: skip


class Annotator(ABC):
    """One LLM as an annotator. A runtime implements `annotate_batch`; everything else is derived.

    Used as a context manager; `close` frees the model's memory or the connections.
    """

    runtime: ClassVar[str]
    asks_along = False  # whether it can ask several questions about a text in one request
    room: int | None = None  # tokens of a text that are read at once; None: not known, or there is no limit

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot], models_dir: Path
    ) -> None:
        self.config = config
        self.name = config.name
        self.labels = labels
        self.instruction = instruction
        self.shots = examples(config, labels, shots)
        self.models_dir = models_dir
        self.fingerprint = fingerprint(config, labels, instruction, shots)

    @classmethod
    def needs(cls, config: AnnotatorConfig, models_dir: Path) -> Needs:  # noqa: ARG003 (what a server needs is its own)
        """What opening this annotator will take, known without opening it."""
        return Needs()

    @abstractmethod
    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        """One Answer a text, in order; a text that cannot be answered is an abstention with its `error`.

        Raises AnnotatorUnavailable when nothing can be asked now (ask again later), AnnotatorError when the same
        call would fail again.
        """

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        """`annotate_batch` with the contract held: each distinct text asked once, answers finite, time filled in.

        A text that did not fit into the window is asked about again in two parts, then in four, up to `windows`: until
        each part fits. Its answer is pooled from theirs. What has more words than the window has tokens is not tried.
        """
        if not texts:
            return []
        distinct = list(dict.fromkeys(texts))
        started = time.perf_counter()
        answers: list[Answer | None] = [None] * len(distinct)
        counts = [1 << k for k in range(self.config.windows.bit_length())]
        for count in counts:
            asked = [
                k for k, answer in enumerate(answers)
                if (count == counts[-1] or self._may_fit(distinct[k], count) if answer is None else answer.truncated)
            ]  # fmt: skip
            if not asked:
                continue
            parts = [parted(distinct[k], count) if count > 1 else [distinct[k]] for k in asked]
            heard = iter(self._answered([part for some in parts for part in some]))
            for k, some in zip(asked, parts, strict=True):
                found = [next(heard) for _ in some]
                answers[k] = pooled(answers[k], found) if count > 1 else found[0]
        share = (time.perf_counter() - started) / len(distinct)
        by_text = {
            text: answer if answer.seconds else replace(answer, seconds=share)
            for text, answer in zip(distinct, answers, strict=True)
            if answer is not None
        }
        return [by_text[text] for text in texts]

    def _may_fit(self, text: str, parts: int) -> bool:
        """Whether each of so many parts of a text may fit into the window: a word is at least a token."""
        return self.room is None or len(text.split()) <= parts * self.room

    def _answered(self, texts: Sequence[str]) -> list[Answer]:
        """`annotate_batch` of each distinct text, checked."""
        distinct = list(dict.fromkeys(texts))
        answers = self.annotate_batch(distinct)
        if len(answers) != len(distinct):
            raise AnnotatorError(f"{self.name} gave {len(answers)} answers to {len(distinct)} texts: report this bug.")
        by_text = dict(zip(distinct, map(self._checked, answers), strict=True))
        return [by_text[text] for text in texts]

    def write(self, request: str, tokens: int) -> str:  # noqa: ARG002
        """What the LLM writes to a request, in at most so many tokens, the most probable words; "" if it cannot write.

        Raises as `annotate_batch`.
        """
        return ""

    def describe(self) -> str:
        """One line: how this annotator is asked."""
        return f"{self.name}: {self.config.model} through {self.runtime}, mode {self.config.mode}"

    def ask_along(self, others: Sequence[Annotator]) -> None:  # noqa: B027 (most runtimes ask one question at a time)
        """The others that will be asked about the same texts: a runtime may ask for their answers in one request."""

    def close(self) -> None:  # noqa: B027 (nothing to free is a fine answer)
        """Free what the runtime holds. The annotator cannot be asked again."""

    def _checked(self, answer: Answer) -> Answer:
        both = np.concatenate([answer.label_probs, answer.votes])
        if len(both) != 2 * self.labels.C or not np.isfinite(both).all() or (both < 0).any():
            return abstention(self.labels.C, "the answer holds NaN, infinity or a negative", answer.prompt_tokens)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


NOT_IN_FINGERPRINT = {
    "name", "url", "api_key_env", "batch_size", "device", "concurrency", "timeout", "delay", "price_per_mtok",
}  # fmt: skip
# Settings that a later release has added. At their defaults they are not in the fingerprint, so that the answers of the
# release before stand (a migration of the store takes back those that the new default changes).
ADDED = ("windows",)


def fingerprint(config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot]) -> str:
    """The content address of everything that changes an annotator's answers, computed without loading the model.

    Model name and revision, mode, prompt template (its content), instruction, labels with descriptions, shots,
    coding, orders, prior, sampling settings, window. Where it runs and how fast is not in it. Raises ConfigError
    where the template cannot be read.
    """
    settings = config.model_dump(exclude=NOT_IN_FINGERPRINT)
    for name in ADDED:
        if settings[name] == AnnotatorConfig.model_fields[name].default:
            del settings[name]
    settings["prompt"] = load_template(config.prompt).key()
    shown = [part for shot in examples(config, labels, shots) for part in (shot.text, shot.label)]
    rules = RULES.get(config.runtime, FIRST_RULES)
    return digest(rules, json.dumps(settings, sort_keys=True), labels.key(), instruction.strip(), *shown)


def examples(config: AnnotatorConfig, labels: LabelSet, shots: Sequence[Shot]) -> tuple[Shot, ...]:
    """The few shots of the prompt: `config.shots` of each label, and the beginnings of the longest where all together
    are more than `EXAMPLES` of the window. Raises ConfigError for an unknown label."""
    picked = pick_shots(shots, labels, config.shots)
    texts = shortened([shot.text for shot in picked], EXAMPLES * config.max_tokens)
    return tuple(replace(shot, text=text) for shot, text in zip(picked, texts, strict=True))


ROOM: Room[type[Annotator]] = Room(
    __name__, "mollm.runtimes", "runtime", a_class(Annotator, "runtime", "__init__", "annotate_batch")
)


def runtimes() -> tuple[str, ...]:
    """The runtimes that can be used here, by name."""
    return tuple(ROOM.found())


def open_annotator(
    config: AnnotatorConfig,
    labels: LabelSet,
    instruction: str,
    shots: Sequence[Shot] = (),
    models_dir: Path = Path("models"),
) -> Annotator:
    """Load a model or probe a server: seconds. `model` names a directory in `models_dir`, a path, or a served model.

    Raises ConfigError (unknown runtime, broken template), ModelFileError (model missing or cut),
    AnnotatorUnavailable (server down), AnnotatorError (the server cannot do what is asked of it).
    """
    return _runtime(config)(config, labels, instruction, shots, models_dir)


def needs(config: AnnotatorConfig, models_dir: Path) -> Needs:
    """What opening this annotator will take (see `Needs`). Raises ConfigError for an unknown runtime."""
    return _runtime(config).needs(config, models_dir)


def _runtime(config: AnnotatorConfig) -> type[Annotator]:
    try:
        return ROOM.get(config.runtime)
    except ConfigError as refused:
        raise ConfigError(f"{config.name}: {refused}") from None
