"""One annotator, one vote: the majority of the argmaxes; ties go to the larger mean probability."""

from __future__ import annotations

from typing import ClassVar

from mollm.mixture.evidence import normalised, one_hot
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.unlearned import Unlearned
from mollm.records import FloatArray, Signals

TIE = 1e-3
"""The mean's share of the result: far less than the one vote that it must not outweigh."""


class Majority(Unlearned):
    name: ClassVar[str] = "majority"

    @staticmethod
    def rule(signals: Signals) -> FloatArray:
        votes = one_hot(normalised(signals.label_probs).argmax(axis=2), signals.C) * ~signals.missing[..., None]
        return normalised(votes.sum(axis=1) + TIE * mean_probs(signals))
