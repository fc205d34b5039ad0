"""The votes of T constrained samples in closed form, computed from one label distribution (method.md 3a)."""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mollm.errors import InputError
from mollm.records import FloatArray, digest

ROWS_AT_ONCE = 262_144  # bounds memory: about 20 MB for each work array at ten classes
CUT_TOLERANCE = 1e-6  # a row stored as float32 must be cut at the same label as its float64 original


def expected_votes(label_probs: ArrayLike, temperature: float = 0.7, top_p: float = 0.9) -> FloatArray:
    """The exact vote distribution of sampling one label at `temperature` with nucleus `top_p`.

    `label_probs` (..., C): weights >= 0 whose rows need not sum to 1. Returns (..., C) float64, rows summing to 1.
    Each row is raised to the power 1/temperature, cut to its nucleus and normalised. The nucleus is the smallest set
    of most probable labels that reaches `top_p`. Labels tied with the last one in it are kept, so the result does not
    depend on the order of the labels. A zero stays zero; an all-zero row becomes uniform (no information); a row of
    NaN (missing) stays NaN. Raises InputError for a negative or infinite weight, NaN in a part of a row,
    temperature <= 0, or top_p outside (0, 1].
    """
    probs = np.asarray(label_probs, dtype=np.float64)
    if not temperature > 0 or not 0 < top_p <= 1:
        raise InputError(f"temperature must be > 0 and top_p in (0, 1], not {temperature} and {top_p}.")
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise InputError("label_probs needs at least one label on its last axis.")
    rows = probs.reshape(-1, probs.shape[-1])
    out = np.empty_like(rows)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        out[start : start + ROWS_AT_ONCE] = _votes_of_rows(rows[start : start + ROWS_AT_ONCE], temperature, top_p)
    return np.asarray(out.reshape(probs.shape))


def _votes_of_rows(rows: FloatArray, temperature: float, top_p: float) -> FloatArray:
    top = rows.max(axis=1, keepdims=True)  # NaN anywhere in a row makes its maximum NaN
    if (rows < 0).any() or np.isinf(rows).any():
        raise InputError("label_probs holds a negative or infinite weight: the annotator's answer is broken.")
    missing = np.isnan(top[:, 0])
    if missing.any() and not np.isnan(rows[missing]).all():
        raise InputError("label_probs holds NaN in a part of a row: give the whole row as NaN where it is missing.")
    powered = np.divide(rows, top, out=np.ones_like(rows), where=top > 0)
    powered **= 1.0 / temperature
    powered /= powered.sum(axis=1, keepdims=True)
    if top_p < 1:
        powered *= powered >= _smallest_kept(powered, top_p)
        powered /= powered.sum(axis=1, keepdims=True)
    powered[missing] = np.nan
    return np.asarray(powered)


def _smallest_kept(probs: FloatArray, top_p: float) -> FloatArray:
    """(n, 1): the probability of the last label in the nucleus: those before it sum to less than `top_p`."""
    falling = -np.sort(-probs, axis=1)
    above = np.cumsum(falling, axis=1) - falling
    inside = (above < top_p - CUT_TOLERANCE).sum(axis=1, keepdims=True)
    return np.asarray(np.take_along_axis(falling, np.maximum(inside, 1) - 1, axis=1))


def total_variation(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """(...,): half the L1 distance between distributions on the last axis."""
    difference: NDArray[np.float64] = np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64))
    return np.asarray(0.5 * difference.sum(axis=-1))


def normalised(weights: ArrayLike) -> FloatArray:
    """(..., C) weights >= 0 as distributions; an all-zero row is uniform."""
    rows = np.asarray(weights, dtype=np.float64)
    total = rows.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, total, out=np.full_like(rows, 1.0 / rows.shape[-1]), where=total > 0))


def without_prior(probs: ArrayLike, prior: ArrayLike, floor: float = 1e-6) -> FloatArray:
    """(..., C): `probs` divided by the content-free `prior` (C,), normalised. Both are floored against zeros."""
    corrected = np.maximum(np.asarray(probs, dtype=np.float64), floor**2) / np.maximum(normalised(prior), floor)
    return normalised(corrected)


def yes_or_no(probs: ArrayLike, label: int) -> FloatArray:
    """(..., 2): what `probs` (..., C) over a list give to one label of it, and to all others. NaN and zeros stay.

    Asked "does this label apply?", small LLMs hardly tell one label from another. So they choose among all labels of
    the list and "none of these", and the share of a label stands for yes.
    """
    rows = np.asarray(probs, dtype=np.float64)
    yes = rows[..., label]
    return np.stack([yes, np.maximum(rows.sum(axis=-1) - yes, 0.0)], axis=-1)


def signal_key(text: str, fingerprint: str, labels: tuple[str, ...]) -> str:
    """The content address of one annotator's answer for one text: the key of the store's signal cache."""
    return digest(*chain(("signal/1", text, fingerprint), labels))
