"""A panel on trial: what each member costs, how much it says, and what is odd about it, from a few texts.

Some texts suffice to see a member that says the same of every text, abstains, or is too slow. They do not suffice to
rank two good ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.annotators import Answer
from mollm.records import FloatArray, IntArray, LabelSet
from mollm.signals import total_variation

ODD_SHARE = 0.8  # of the answers: one label that often is odd, unless people say it as often (chosen by hand)
FLAT = 0.05  # total variation: below it the answers hardly depend on the text (SmolLM2's yes or no: .04, .08 nats)
FEW = 5  # answers: with fewer nothing is called odd
LITTLE_MASS = 0.001  # of the LLM's own probability on all labels together; tiny LLMs that read well have .01 to .04


@dataclass(frozen=True, slots=True)
class Trial:
    """What one member did on N texts.

    `seconds`: for all texts, the opening apart. `tokens`: read and written, a text. `spread`: the mean total variation
    between what it says of a text and what it says on average (0: the same of every text). `agreement`: the share of
    the other members' labels that it shares (NaN: nobody to agree with). `right`, `known`: of the texts with a known
    label. `odd`: remarks, a line each.
    """

    name: str
    texts: int
    seconds: float
    tokens: float
    abstained: int
    spread: float
    agreement: float
    right: int
    known: int
    odd: tuple[str, ...]


def judge(
    answers: dict[str, tuple[Sequence[Answer], float]], labels: LabelSet, gold: Sequence[str | None]
) -> list[Trial]:
    """One Trial for each member of `answers` (name to N answers and their seconds); `gold`: N labels, None: unknown."""
    tops = {name: _tops(given) for name, (given, _) in answers.items()}
    truth = np.array([labels.names.index(one) if one in labels.names else -1 for one in gold])
    return [
        _trial(name, given, seconds, labels, truth, [top for other, top in tops.items() if other != name])
        for name, (given, seconds) in answers.items()
    ]


def _trial(
    name: str, given: Sequence[Answer], seconds: float, labels: LabelSet, truth: IntArray, others: list[IntArray]
) -> Trial:
    top, probs = _tops(given), np.stack([answer.label_probs for answer in given])
    said = top >= 0
    shared = [(top == other)[said & (other >= 0)] for other in others]
    together = np.concatenate(shared) if shared else np.zeros(0)
    spread = float(total_variation(probs[said], probs[said].mean(axis=0)).mean()) if said.any() else float("nan")
    known = truth >= 0
    return Trial(
        name, len(given), seconds,
        float(np.mean([answer.prompt_tokens + answer.completion_tokens for answer in given])),
        int((~said).sum()), spread, float(together.mean()) if len(together) else float("nan"),
        int((top == truth)[known].sum()), int(known.sum()), tuple(_odd(given, top, spread, labels, truth)),
    )  # fmt: skip


def _tops(given: Sequence[Answer]) -> IntArray:
    """(N,) each answer's most probable label; -1: it abstained."""
    return np.array([int(answer.label_probs.argmax()) if answer.label_probs.any() else -1 for answer in given])


def _odd(given: Sequence[Answer], top: IntArray, spread: float, labels: LabelSet, truth: IntArray) -> list[str]:
    found = []
    why = Counter(answer.error for answer in given if answer.error)
    if why:
        reason, count = why.most_common(1)[0]
        found.append(f"no answer to {count} of {len(given)}: {reason.rstrip('.')}")
    if cut := sum(answer.truncated for answer in given):
        found.append(f"{cut} of {len(given)} texts did not fit into its windows and were read only in part")
    said = top[top >= 0]
    if len(said) < FEW:
        return found
    label, count = Counter(said.tolist()).most_common(1)[0]
    people = truth[truth >= 0]
    often_true = len(people) > 0 and float((people == label).mean()) >= ODD_SHARE
    if count >= ODD_SHARE * len(said) and not often_true:
        found.append(f"says {labels.text_of(label)!r} of {count} of {len(said)} texts")
    if spread < FLAT:
        found.append(f"its answers hardly depend on the text (spread {spread:.2f})")
    mass: FloatArray = np.array([answer.mass for answer in given if np.isfinite(answer.mass)])
    if len(mass) and float(np.median(mass)) < LITTLE_MASS:
        found.append(f"would rather say something else (all labels together have {np.median(mass):.2%})")
    return found
