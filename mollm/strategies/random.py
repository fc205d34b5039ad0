"""Random: every open item is as likely as any other (the baseline of every curve)."""

from __future__ import annotations

import numpy as np

from mollm.strategies import Picks, Pool


def random(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """`batch` open items without replacement; the gain is equal for all."""
    chosen = rng.permutation(pool.open)[: max(batch, 0)]
    return Picks(chosen, np.zeros(len(chosen)))
