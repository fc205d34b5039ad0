"""Read the log-probabilities of chosen tokens (`logprob_token_ids`) from vLLM's replies, and check every field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mollm.annotators._one_pass import Question, Read
from mollm.prompts.coding import shares
from mollm.records import FloatArray
from mollm.signals import total_variation

ARITHMETIC = 0.05  # total variation (chosen by hand): half precision changes a read by less, a mask by more


def numbers(known: dict[int, float], place: Question) -> FloatArray:
    return np.array([known[token] for token in place.tokens])


def second(known: dict[int, float], place: Question) -> Read | None:
    """The read of the further place; None if it is not complete: the place is then asked in a request of its own."""
    if not known or place.further is None:
        return None
    found = numbers(known, place.further)
    return None if np.isnan(found).any() else Read(found)


def alike(one: FloatArray, other: FloatArray) -> bool:
    """Whether two reads of a place (K,), in nats, are equal up to rounding. A masked read holds -inf: never alike."""
    finite = bool(np.isfinite(one).all() and np.isfinite(other).all())
    return finite and float(total_variation(shares(one), shares(other))) < ARITHMETIC


def said_first(choice: Any, token: int) -> bool:
    """Whether the server generated the forced `token` first (a server may ignore a parameter that it does not know)."""
    try:
        return bool(choice["logprobs"]["tokens"][0] == f"token_id:{token}")
    except (KeyError, IndexError, TypeError):
        return False


def logprob(choice: Any, token: int, step: int) -> float:
    """The log-probability (nats) of a token id: NaN if the server did not give it, -inf if masked (vLLM: -9999)."""
    try:
        value = choice["logprobs"]["top_logprobs"][step].get(f"token_id:{token}")
    except (KeyError, IndexError, TypeError, AttributeError):
        return math.nan
    if not isinstance(value, int | float):
        return math.nan
    return -math.inf if value <= -9999 else float(value)
