"""All samples of all annotators in one urn (the paper's LLMs-V, with the consistency scores c as votes)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mollm.mixture.evidence import normalised, panel_order
from mollm.mixture.unlearned import Unlearned
from mollm.records import FloatArray, Signals


class PooledVotes(Unlearned):
    name: ClassVar[str] = "pooled_votes"

    @staticmethod
    def rule(signals: Signals) -> FloatArray:
        return normalised(np.nan_to_num(signals.votes)[:, panel_order(signals)].sum(axis=1))
