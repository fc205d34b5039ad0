"""On how many of the open tasks the mixture expects to be wrong: its own guess, which nobody has measured.

The mixture learned from people's labels how sure to be. Where the loop chose these for being hard, it is right on more
of the tasks that are left than its confidence says. `doubt_of` allows for that, mostly by too much. So the guess is
said with both ends (`expected_right`): as it stands, and with the allowance.
"""

from __future__ import annotations

import numpy as np

from mollm.records import FloatArray

# From `SETTLED` labels on the log-odds of an error are lowered, at last by `CHOSEN`: at 500 labels by 1.4; it should
# have been .7 to 1.1 on TREC (seeds 0 and 1), .4 to .8 on IMDB (0 to 5). With 1.8 to 2 people labelled least on both.
CHOSEN, SETTLED = 2.0, 150
_SURE = 1e-4  # no probability is nearer to 0 or 1, as in the outlook


def doubt_of(confidence: FloatArray, given: int, *, chosen: bool = True) -> FloatArray:
    """(K,) with which probability the mixture is wrong of each open task, rising, from its `confidence` (K,) in any
    order after `given` labels, which the loop has `chosen`."""
    return shifted(np.sort(1 - confidence), -CHOSEN * max(0.0, 1 - SETTLED / max(given, 1)) if chosen else 0.0)


def expected_right(confidence: FloatArray, given: int, *, chosen: bool = True) -> tuple[float, float]:
    """The share of the open tasks on which the mixture expects to be right, by its `confidence` (K,), K > 0: as it
    stands, and with the allowance for `given` labels that were `chosen`. Equal up to `SETTLED` labels."""
    mean = float(np.mean(confidence))
    return mean, max(mean, float(1 - doubt_of(confidence, given, chosen=chosen).mean()))


def between(low: str, high: str) -> str:
    """Both ends of a guess in words; one where they read alike.

    >>> between("91%", "96%"), between("91%", "91%")
    ('91% to 96%', '91%')
    """
    return low if low == high else f"{low} to {high}"


def shifted(doubt: FloatArray, odds: float) -> FloatArray:
    """The doubt (K,) with its log-odds moved by `odds`."""
    if not odds:
        return doubt
    bounded = np.clip(doubt, _SURE, 1 - _SURE)
    ratio = bounded / (1 - bounded) * np.exp(odds)
    return np.asarray(np.where(doubt >= 1, 1.0, ratio / (1 + ratio)))
