"""The default: climbs from the log-odds pool to learned fusion as far as the human labels carry it.

A rung is chosen by cross-fitted log-loss on the human labels alone; the same cross-fitted rows give the
temperature. The learned rung begins at the pool and leaves it only as far as labels pull it, so it is left for the
pool only where that is clearly better: a plainly lower loss on fifty labels is often chance. Below `FIRST_RUNG`
labels there is nothing to cross-validate with, and the pool stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np

from mollm.errors import ModelFileError
from mollm.mixture import Mixture, calibration
from mollm.mixture.crossfit import clearly_lower, log_loss, out_of_fold
from mollm.mixture.logpool import LogPool
from mollm.mixture.stacked import Stacked, in_item_order
from mollm.mixture.text_view import Gram
from mollm.records import FittedState, FloatArray, Signals, Targets

FIRST_RUNG = 10
"""Human labels, in at least two classes, below which no learned rung is tried."""
CLEARLY = 2.0
"""Standard errors of the paired difference in log-loss by which the pool must be better to be stood on."""
LADDER: tuple[type[Mixture], ...] = (LogPool, Stacked)


def _ladder(embeddings: FloatArray | None) -> dict[str, Callable[[], Mixture]]:
    """The rungs by name; all their fits on one pool share what its embeddings alone decide."""
    gram = None if embeddings is None else Gram.of(embeddings)
    return {LogPool.name: LogPool, Stacked.name: lambda: Stacked(gram)}


class Auto(Mixture):
    name: ClassVar[str] = "auto"

    chosen_: Mixture
    temperature_: float = 1.0
    losses_: dict[str, float]
    human_: int = 0

    def fit(
        self,
        signals: Signals,
        targets: Targets,
        *,
        rng: np.random.Generator,
        embeddings: FloatArray | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> Self:
        self._remember(signals, targets)
        targets = in_item_order(signals, targets)
        self.human_, self.losses_, self.temperature_ = targets.H, {}, 1.0
        seed = int(rng.integers(2**31))
        ladder = _ladder(embeddings)
        rung = LogPool.name
        if targets.H >= FIRST_RUNG and len(np.unique(targets.label)) > 1:
            held_out = {
                name: out_of_fold(
                    make, signals, targets, rng=np.random.default_rng(seed), embeddings=embeddings, groups=groups
                )
                for name, make in ladder.items()
            }
            self.losses_ = {name: log_loss(probs, targets) for name, probs in held_out.items()}
            step_down = clearly_lower(held_out[LogPool.name], held_out[Stacked.name], targets, CLEARLY)
            rung = LogPool.name if step_down else Stacked.name
            self.temperature_ = calibration.temperature(held_out[rung], targets)
        self.chosen_ = ladder[rung]().fit(
            signals, targets, rng=np.random.default_rng(seed), embeddings=embeddings, groups=groups
        )
        return self

    def predict_proba(self, signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
        self._check_panel(signals)
        return calibration.at_temperature(self.chosen_.predict_proba(signals, embeddings), self.temperature_)

    def state(self) -> FittedState:
        below = self.chosen_.state()
        facts = {
            **self._facts(),
            "human": self.human_,
            "temperature": self.temperature_,
            "losses": self.losses_,
            "rung": below.kind,
            "rung_facts": dict(below.facts),
        }
        return FittedState(self.name, below.arrays, facts)

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        kinds = {kind.name: kind for kind in LADDER}
        rung, facts, losses = state.facts["rung"], state.facts["rung_facts"], state.facts["losses"]
        if rung not in kinds or not isinstance(facts, dict) or not isinstance(losses, dict):
            raise ModelFileError(f"The state of `auto` stands on an unknown rung {rung!r}: refit the mixture.")
        found.chosen_ = kinds[str(rung)].from_state(FittedState(str(rung), state.arrays, facts))
        found.temperature_ = float(str(state.facts["temperature"]))
        found.human_ = int(str(state.facts["human"]))
        found.losses_ = {str(name): float(loss) for name, loss in losses.items()}
        return found

    def explain(self) -> str:
        if not self.losses_:
            why = f"{self.human_} human labels are too few (or of one class) to compare rungs"
        else:
            scores = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses_.items())
            how = "clearly the lowest" if self.chosen_.name == LogPool.name else "no clearly higher"
            why = f"{how} cross-fitted log-loss on {self.human_} human labels ({scores})"
        return f"auto stands on `{self.chosen_.name}`: {why}; temperature {self.temperature_:.2f}"
