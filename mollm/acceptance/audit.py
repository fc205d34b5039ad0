"""The audit: which tasks people label blind before a decision, and with which probability each was drawn.

The tasks are the open ones when a version was frozen, the most confident first. An audit of n labels draws from the
first `region` of them, where it helps: a task that no target can reach needs no audit.

- `simple`: n of the region at random. The order is random too, so that the first answers alone are such an audit.
- `spread`: one at random from each of n cells of equal size, along the order of confidence. Fewer chance
  fluctuations; better where the audit is a small part of the tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mollm.acceptance.tails import simple_tail, spread_tail
from mollm.errors import InputError
from mollm.records import FloatArray, IntArray

GRID = 400  # coverages that are tested: on TREC and IMDB 100 do as well (within .005), and 20 accept .02 less
Kind = Literal["simple", "spread"]


@dataclass(frozen=True, slots=True)
class Design:
    """How an audit is drawn, and where the test of coverages begins; all fixed before any answer is seen.

    `labels` of the `region` most confident of `tasks` are drawn; `start`: the smallest number of tasks that is tested.
    Raises InputError for a design that cannot be drawn.
    """

    kind: Kind
    labels: int
    region: int
    start: int
    tasks: int

    def __post_init__(self) -> None:
        if not 1 <= self.labels <= self.region <= self.tasks:
            raise InputError(f"An audit of {self.labels} labels needs as many open tasks: there are {self.region}.")
        if not 1 <= self.start <= self.region:
            raise InputError(
                f"The test of coverages begins at {self.start} of {self.region} tasks: choose one of them."
            )
        if self.kind == "spread" and self.region % self.labels:
            raise InputError(f"{self.region} tasks are not {self.labels} cells of equal size.")

    @property
    def cell(self) -> int:
        """Tasks a cell of a spread audit."""
        return self.region // self.labels

    @property
    def ends(self) -> IntArray:
        """The numbers of tasks that are tested, in this order: at most `GRID`, from `start` to the whole region."""
        if self.kind == "spread":
            return np.arange(-(-self.start // self.cell), self.labels + 1) * self.cell
        return np.unique(np.linspace(self.start, self.region, GRID).round().astype(np.int64))

    @property
    def probability(self) -> float:
        """The probability of each task of the region to be drawn."""
        return self.labels / self.region

    def draw(self, rng: np.random.Generator) -> IntArray:
        """(labels,) places in the order of confidence, in the order in which people see them (a random one)."""
        if self.kind == "simple":
            return rng.permutation(self.region)[: self.labels]
        inside = rng.integers(0, self.cell, self.labels)
        return rng.permutation(np.arange(self.labels) * self.cell + inside)

    def tail(self, errors: IntArray, audits: IntArray, tasks: IntArray, left: IntArray) -> FloatArray:
        """P-values of "of the first `tasks`, more than `left` of those not audited are wrong"; all of one shape."""
        wrong = np.asarray(left) + 1 + errors
        if self.kind == "simple":
            return simple_tail(errors, audits, tasks, wrong)
        return spread_tail(errors, audits, self.cell, wrong)
