"""The gain of each part of the robust loss on this project: paired, cross-fitted, with an interval (method.md 3d).

For each part, the classifier is cross-fitted with the part on and off, over the same folds; this is repeated with other
folds. The gain of a human label is the fall of its log-loss, averaged over the repeats. The interval is over labels.
Here the log-odds pool labels the mixture's rows, because it refits in milliseconds. Its labels are a little worse than
those of the round itself. A part helps only if the lower end of its interval is above zero. It may be that none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from mollm.metrics import log_losses
from mollm.records import FloatArray
from mollm.round.chain import CHOSEN_FEW, Chain, Parts

REPEATS = 3  # with new folds (chosen by hand: more removes more of the folds' chance; each costs four cross-fits)
PARTS = ("discrepancy_weights", "negatives", "confidence_weights")  # the fields of `Parts` and of the configuration


@dataclass(frozen=True)
class Gain:
    """A part's mean gain in nats a human label, with its 95 % interval."""

    part: str
    mean: float
    low: float
    high: float

    @property
    def helps(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    def line(self) -> str:
        verdict = "it helps here" if self.helps else "it does not help for certain"
        name = self.part.replace("_", " ")
        return f"{name}: {self.mean:+.4f} nats a label [{self.low:+.4f}, {self.high:+.4f}]: {verdict}."


def measure(chain: Chain, repeats: int = REPEATS) -> tuple[Gain, ...]:
    """The gain of each part over the plain loss. Empty without classifier, or below `CHOSEN_FEW` labelled texts."""
    if chain.embeddings is None or int(chain.has_text[chain.targets.index].sum()) < CHOSEN_FEW:
        return ()
    plain = Parts(False, False, False)
    folded = [chain.refolded(repeat) for repeat in range(repeats)]
    base = [losses(fold, plain) for fold in folded]

    def gains(part: str) -> list[FloatArray]:
        on = replace(plain, **{part: True})
        return [before - losses(fold, on) for before, fold in zip(base, folded, strict=True)]

    return tuple(gain_of(part, gains(part)) for part in PARTS)


def losses(chain: Chain, parts: Parts) -> FloatArray:
    """(H,) log-loss in nats of the cross-fitted classifier on the human labels of items with a text."""
    kept = chain.targets.take(chain.has_text[chain.targets.index])
    probs = chain.crossfitted(parts=parts, items=kept.index)
    assert probs is not None
    return log_losses(probs, kept.label)


def gain_of(part: str, differences: Sequence[FloatArray]) -> Gain:
    """The Gain from `differences` (H,) of each repeat: their mean over repeats, then a t interval over labels."""
    by_label = np.mean(differences, axis=0)
    half = float(student.ppf(0.975, len(by_label) - 1) * by_label.std(ddof=1) / np.sqrt(len(by_label)))
    mean = float(by_label.mean())
    return Gain(part, mean, mean - half, mean + half)


def decided(chain: Chain, gains: Sequence[Gain]) -> Parts:
    """The parts to use: `on` and `off` as configured; `auto` is on only if the part was measured to help."""
    helps = {gain.part: gain.helps for gain in gains}
    asked = {part: getattr(chain.config, part) for part in PARTS}
    return Parts(**{part: mode == "on" or (mode == "auto" and helps.get(part, False)) for part, mode in asked.items()})
