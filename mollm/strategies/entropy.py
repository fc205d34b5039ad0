"""Max Entropy: the items whose predicted distribution has the highest entropy."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from mollm.strategies import Picks, Pool, best


def entropy(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """Highest entropy first. The gain is the entropy in nats; 0 log 0 counts as 0, so that certain items come last."""
    return best(pool.open, entr(pool.probs[pool.open]).sum(axis=1), batch, rng)
