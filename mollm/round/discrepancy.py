"""Annotation discrepancy: on which items mixture, classifier and LLMs disagree, as arrays and as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.records import BatchEntry, BoolArray, FloatArray, Signals
from mollm.strategies import Picks


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
        against, missing, contradicted = self.against, self.panel.missing, self.with_classifier
        return tuple(
            BatchEntry(
                self.panel.items[n],
                rank,
                self._reason(n, shown, against[n], missing[n], bool(contradicted[n])),
                float(gain),
            )
            for rank, (n, gain) in enumerate(zip(picks.index.tolist(), picks.gain, strict=True))
        )

    def _reason(self, n: int, shown: Sequence[str], against: BoolArray, missing: BoolArray, contradicted: bool) -> str:
        """One sentence for people: the mixture's label, and who disagrees."""
        if missing.all() and self.classifier is None:
            return "No model has said anything of this task yet."
        order = np.argsort(-self.mixture[n], kind="stable")
        parts = [f"The mixture says {shown[order[0]]} ({self.mixture[n, order[0]]:.0%})"]
        if len(order) > 1 and self.mixture[n, order[1]] >= 0.1:
            parts[0] += f", next {shown[order[1]]} ({self.mixture[n, order[1]]:.0%})"
        if self.classifier is not None and contradicted:
            parts.append(f"the classifier says {shown[int(self.classifier[n].argmax())]}")
        answered = int((~missing).sum())
        if against.any():
            parts.append(f"{int(against.sum())} of {answered} LLMs disagree")
        elif answered > 1:
            parts.append(f"all {answered} LLMs agree")
        return "; ".join(parts) + "."
