"""Random: every open item has the same chance (the baseline of every learning curve)."""

from __future__ import annotations

import numpy as np

from mollm.strategies import Picks, Pool


def random(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """`batch` open items, drawn without replacement. The gain is 0 for all."""
    chosen = rng.permutation(pool.open)[: max(batch, 0)]
    return Picks(chosen, np.zeros(len(chosen)))
