"""The one annotator that agrees most with the human labels, alone (ties and no labels: with the pooled votes)."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from mollm.mixture import Mixture
from mollm.mixture.evidence import normalised
from mollm.mixture.mean_probs import mean_probs
from mollm.mixture.pooled_votes import PooledVotes
from mollm.records import FittedState, FloatArray, Pool, Signals


class BestAnnotatorPicked(Mixture):
    name: ClassVar[str] = "best_annotator_picked"

    picked_: str

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        signals, targets = pool.signals, pool.targets
        answers = answers_of(signals)
        with_panel = (answers.argmax(axis=2) == PooledVotes.rule(signals).argmax(axis=1)[:, None]).mean(axis=0)
        right = answers[targets.index].argmax(axis=2) == targets.label[:, None]
        with_humans = (targets.weight[:, None] * right).sum(axis=0)
        merit = [(with_humans[m], with_panel[m], name) for m, name in enumerate(signals.annotators)]
        self.picked_ = max(merit)[2]

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        m = signals.annotators.index(self.picked_)
        out = answers_of(signals)[:, m]
        silent = signals.missing[:, m]
        out[silent] = mean_probs(signals)[silent]
        return out

    def state(self) -> FittedState:
        return FittedState(self.name, {}, {**self._facts(), "picked": self.picked_})

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        found.picked_ = str(state.facts["picked"])
        return found

    def explain(self) -> str:
        return f"best_annotator_picked: {self.picked_} alone"


def answers_of(signals: Signals) -> FloatArray:
    """(N, M, C) each annotator's answer: its votes, and where they tie or abstain its label probabilities."""
    probs = normalised(signals.label_probs)
    votes = np.nan_to_num(signals.votes)
    return np.where(votes.sum(axis=2, keepdims=True) > 0, normalised(votes + 0.01 * probs), probs)
