"""A label of a list that may hold several: the list is read out once, as in a single choice.

Asked "does this label apply?", small LLMs hardly tell one label from another. So the LLM chooses among all labels of
the list and "none of these", and the probability that it gives to a label stands for yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from mollm.annotators import Annotator, Answer, fingerprint, open_annotator
from mollm.config import AnnotatorConfig
from mollm.prompts import Shot
from mollm.records import FloatArray, LabelSet, digest


@dataclass(frozen=True, slots=True)
class Part:
    """One label, by its name, of the `listed` ones: what an LLM is asked about, instead of yes or no."""

    listed: LabelSet
    name: str

    def fingerprint(self, config: AnnotatorConfig, instruction: str) -> str:
        """As `mollm.annotators.fingerprint`, and each label of the list has its own."""
        return digest(fingerprint(config, self.listed, instruction, ()), self.name)

    def open(self, config: AnnotatorConfig, labels: LabelSet, instruction: str, models_dir: Path) -> Annotator:
        """The annotator of this label; its two `labels` are yes and no. Raises as `open_annotator`."""
        return OfAList(open_annotator(config, self.listed, instruction, (), models_dir), self, labels)


@dataclass(frozen=True, slots=True)
class Question:
    """What every annotator of a panel is asked: to choose one of `labels`, or of the list that `part` belongs to."""

    labels: LabelSet
    instruction: str
    shots: tuple[Shot, ...] = ()
    part: Part | None = None

    def fingerprint(self, config: AnnotatorConfig) -> str:
        """Its content address for this annotator (see `mollm.annotators.fingerprint`)."""
        if self.part is not None:
            return self.part.fingerprint(config, self.instruction)
        return fingerprint(config, self.labels, self.instruction, self.shots)

    def open(self, config: AnnotatorConfig, models_dir: Path) -> Annotator:
        """The annotator that is asked it. Raises as `open_annotator`."""
        if self.part is not None:
            return self.part.open(config, self.labels, self.instruction, models_dir)
        return open_annotator(config, self.labels, self.instruction, self.shots, models_dir)


class OfAList(Annotator):
    """Answers of an annotator of the whole list, as yes or no to one of its labels."""

    runtime: ClassVar[str] = "list"

    def __init__(self, whole: Annotator, part: Part, labels: LabelSet) -> None:
        super().__init__(whole.config, labels, whole.instruction, (), whole.models_dir)
        self.whole, self.place = whole, part.listed.index(part.name)
        self.fingerprint = part.fingerprint(whole.config, whole.instruction)

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        return [
            replace(answer, label_probs=self._yes_or_no(answer.label_probs), votes=self._yes_or_no(answer.votes))
            for answer in self.whole.annotate(texts)
        ]

    def describe(self) -> str:
        return self.whole.describe()

    @property
    def asked(self) -> Annotator:
        return self.whole

    def close(self) -> None:
        self.whole.close()

    def _yes_or_no(self, row: FloatArray) -> FloatArray:
        """(2,) what a row (C,) over the list gives to this label and to all others; zeros stay zeros."""
        return np.array([row[self.place], max(0.0, float(row.sum() - row[self.place]))])
