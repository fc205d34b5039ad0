"""Annotation discrepancy: on which items mixture, classifier and LLMs disagree, as arrays and as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.records import BatchEntry, BoolArray, FloatArray, Signals
from mollm.strategies import Picks

LONGEST = 120  # characters of a reason: one line of the status page beside the task and its label (chosen by hand)
NEXT = 0.1  # a second label less probable than this tells people nothing (chosen by hand)


@dataclass(frozen=True)
class Discrepancy:
    """Predictions for N items: `mixture` (N, C) calibrated, `classifier` (N, C) or None, `panel` the LLMs' signals."""

    mixture: FloatArray
    classifier: FloatArray | None
    panel: Signals

    @property
    def with_classifier(self) -> BoolArray:
        """(N,): whether the classifier's label differs from the mixture's (the paper's annotation discrepancy)."""
        if self.classifier is None:
            return np.zeros(len(self.mixture), dtype=np.bool_)
        return np.asarray(self.classifier.argmax(axis=1) != self.mixture.argmax(axis=1), dtype=np.bool_)

    @property
    def against(self) -> BoolArray:
        """(N, M): whether the LLM has answered and its label differs from the mixture's."""
        own = np.nan_to_num(self.panel.label_probs).argmax(axis=2)
        return np.asarray((own != self.mixture.argmax(axis=1)[:, None]) & ~self.panel.missing, dtype=np.bool_)

    def entries(self, picks: Picks, shown: Sequence[str]) -> tuple[BatchEntry, ...]:
        """The batch with its reasons, in order. `shown` (C,) are the labels as people read them."""
        against, contradicted = self.against, self.with_classifier
        return tuple(
            BatchEntry(
                self.panel.items[n], rank, self._reason(n, shown, against[n], bool(contradicted[n])), float(gain)
            )
            for rank, (n, gain) in enumerate(zip(picks.index.tolist(), picks.gain, strict=True))
        )

    def _reason(self, n: int, shown: Sequence[str], against: BoolArray, contradicted: bool) -> str:
        """One line for people: the mixture's label, and by name who contradicts it and with what."""
        missing = self.panel.missing[n]
        if missing.all() and self.classifier is None:
            return "No model has said anything of this task yet."
        own = np.nan_to_num(self.panel.label_probs[n]).argmax(axis=1)  # (M,)
        voices = [f"{self.panel.annotators[m]} says {shown[own[m]]}" for m in np.flatnonzero(against)]
        if self.classifier is not None and contradicted:
            voices.append(f"classifier says {shown[int(self.classifier[n].argmax())]}")
        first, second = (*np.argsort(-self.mixture[n], kind="stable"), None)[:2]
        head, answered = f"The mixture says {shown[first]} ({self.mixture[n, first]:.0%})", int((~missing).sum())
        all_of_them = "both" if answered == 2 else f"all {answered}"
        after = f", and {all_of_them} LLMs agree" if answered > 1 and not against.any() else ""
        if second is not None and self.mixture[n, second] >= NEXT:
            whole = joined(f"{head}, next {shown[second]} ({self.mixture[n, second]:.0%}){after}", voices)
            if len(whole) <= LONGEST and all(voice in whole for voice in voices):
                return whole
        return joined(head + after, voices)


def joined(head: str, voices: Sequence[str]) -> str:
    """`head`, and as many whole voices as fit into a line of LONGEST characters; the others are counted.

    No label is cut: one that does not fit is left out with its voice.
    """
    for named in range(len(voices), 0, -1):
        left = len(voices) - named
        line = f"{head}; {', '.join(voices[:named])}{f' and {left} more' if left else ''}."
        if len(line) <= LONGEST:
            return line
    return f"{head}; {len(voices)} say otherwise." if voices else f"{head}."
