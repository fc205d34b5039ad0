"""The mean of the label distributions z (the paper's LLMs-L)."""

from __future__ import annotations

from typing import ClassVar

from mollm.mixture.evidence import normalised, panel_order
from mollm.mixture.unlearned import Unlearned
from mollm.records import FloatArray, Signals


class MeanProbs(Unlearned):
    name: ClassVar[str] = "mean_probs"

    @staticmethod
    def rule(signals: Signals) -> FloatArray:
        return mean_probs(signals)


def mean_probs(signals: Signals) -> FloatArray:
    """(N, C) the mean of z over the annotators that answered; uniform where none did."""
    answered = ~signals.missing
    order = panel_order(signals)
    total = (normalised(signals.label_probs) * answered[..., None])[:, order].sum(axis=1)
    return normalised(total)
