"""What a choice of vLLM's says of the chosen tokens (`logprob_token_ids`), step by step; nothing in it is believed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mollm.annotators._one_pass import Question, Read
from mollm.prompts.coding import shares
from mollm.records import FloatArray
from mollm.signals import total_variation

ARITHMETIC = 0.05  # total variation of one place read in two ways: half precision is rough


def numbers(known: dict[int, float], place: Question) -> FloatArray:
    return np.array([known[token] for token in place.tokens])


def second(known: dict[int, float], place: Question) -> Read | None:
    """The further place, where it was read whole; else it is asked by itself."""
    if not known or place.further is None:
        return None
    found = numbers(known, place.further)
    return None if np.isnan(found).any() else Read(found)


def alike(one: FloatArray, other: FloatArray) -> bool:
    """Whether two reads of a place differ by no more than arithmetic does (a bent one holds what is masked)."""
    finite = bool(np.isfinite(one).all() and np.isfinite(other).all())
    return finite and float(total_variation(shares(one), shares(other))) < ARITHMETIC


def said_first(choice: Any, token: int) -> bool:
    """Whether the server began with the token that it was made to say (a server may ignore what it does not know)."""
    try:
        return bool(choice["logprobs"]["tokens"][0] == f"token_id:{token}")
    except (KeyError, IndexError, TypeError):
        return False


def logprob(choice: Any, token: int, step: int) -> float:
    """The log-probability of one token id, NaN where the server did not give it, -inf where it is masked."""
    try:
        value = choice["logprobs"]["top_logprobs"][step].get(f"token_id:{token}")
    except (KeyError, IndexError, TypeError, AttributeError):
        return math.nan
    if not isinstance(value, int | float):
        return math.nan
    return -math.inf if value <= -9999 else float(value)
