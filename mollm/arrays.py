"""Arrays that users hand in, checked and turned into records; each fault is one InputError that says what to do.

Axes: N items, M annotators, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mollm.errors import InputError
from mollm.records import FloatArray, IntArray, Signals, Targets
from mollm.signals import expected_votes

AXES = {"N": "items", "M": "annotators", "C": "classes", "D": "dimensions"}


def floats(values: ArrayLike, name: str, axes: Mapping[str, int | None], *, finite: bool = False) -> FloatArray:
    """`values` as float64 with these axes, each as long as given (None: of any length but 0)."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"`{name}` must be an array of numbers ({', '.join(axes)}).") from None
    wanted = ", ".join(str(size or axis) for axis, size in axes.items())
    sizes = list(zip(axes, array.shape, strict=False))
    if array.ndim != len(axes) or any(axes[axis] not in (None, size) for axis, size in sizes):
        raise InputError(f"`{name}` has shape {array.shape}, but must have ({wanted}): {', '.join(axes)}.")
    empty = [AXES[axis] for axis, size in sizes if not size]
    if empty:
        raise InputError(f"`{name}` has shape {array.shape}: there are no {empty[0]}.")
    if finite and not np.isfinite(array).all():
        raise InputError(f"`{name}` must be finite numbers.")
    return array


def signals(
    label_probs: ArrayLike, votes: ArrayLike | None, annotators: Sequence[str] | None, labels: Sequence[str] | None,
    shape: tuple[int | None, int | None, int | None] = (None, None, None),
) -> Signals:  # fmt: skip
    """(N, M, C) as the record. Without `votes` (N, M, C) the expected ones of ten samples stand in; names are numbers
    where there are none. A row of NaN is an annotator who is silent on an item.
    """
    z = floats(label_probs, "label_probs", dict(zip("NMC", shape, strict=True)))
    N, M, C = z.shape
    names = tuple(map(str, range(M)) if annotators is None else annotators)
    classes = tuple(map(str, range(C)) if labels is None else labels)
    for what, given, size in (("annotators", names, M), ("classes", classes, C)):
        if len(given) != size or len(set(given)) != size or not all(isinstance(one, str) and one for one in given):
            raise InputError(f"`{what}` must be {size} different names (str), as `label_probs` has shape {z.shape}.")
    items = tuple(map(str, range(N)))
    if votes is not None:
        return Signals(items, names, classes, z, floats(votes, "votes", {"N": N, "M": M, "C": C}))
    checked = Signals(items, names, classes, z, np.where(np.isnan(z), np.nan, 0.0))
    return replace(checked, votes=np.where(checked.missing[..., None], z, expected_votes(z)))


def targets(y: ArrayLike, N: int, C: int, classes: Sequence[str] | None) -> Targets:
    """y (N,) as the record: class numbers with -1, or names of `classes` with None or "", where no human has said."""
    given = np.asarray(y, dtype=object)
    if given.shape != (N,):
        raise InputError(f"`y` must have one label for each of the {N} items, but its shape is {given.shape}.")
    label = np.full(N, -1, dtype=np.int64)
    place = {} if classes is None else {name: c for c, name in enumerate(classes)}
    for n, one in enumerate(given):
        if isinstance(one, str) or one is None:
            if classes is None:
                raise InputError(f"y[{n}] is {one!r}: give class numbers (-1: no human has said), or `classes=` names.")
            if one and one not in place:
                raise InputError(f"y[{n}] is {one!r}, which is not one of the classes {list(classes)}.")
            label[n] = place[one] if one else -1
        elif not isinstance(one, int | np.integer | float | np.floating) or one not in range(-1, C):
            raise InputError(f"y[{n}] is {one!r}: it must be one of 0..{C - 1}, or -1 where no human has said.")
        else:
            label[n] = int(one)
    index = np.flatnonzero(label >= 0)
    return Targets.of(index, label[index])


def distributions(values: ArrayLike, name: str, N: int | None = None, C: int | None = None) -> FloatArray:
    """(N, C) probabilities whose rows sum to 1."""
    rows = floats(values, name, {"N": N, "C": C}, finite=True)
    if (rows < 0).any() or (np.abs(rows.sum(axis=1) - 1) > 0.01).any():
        raise InputError(f"Each row of `{name}` must be probabilities that sum to 1, none below 0.")
    return rows


def indices(values: ArrayLike, name: str, N: int) -> IntArray:
    """Different items, given as indices or as a mask (N,)."""
    array: NDArray[np.generic] = np.asarray(values)
    if array.dtype == np.bool_ and array.shape == (N,):
        return np.flatnonzero(array)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"`{name}` must be indices or a mask of the {N} items.")
    found = np.unique(array.astype(np.int64))
    if found.size and (found[0] < 0 or found[-1] >= N):
        raise InputError(f"`{name}` names item {found[0] if found[0] < 0 else found[-1]}, but there are {N} items.")
    return found


def one_an_item(values: Sequence[object], name: str, N: int) -> list[object]:
    """`values` as a list of N. Raises InputError for another length."""
    if isinstance(values, str) or len(values) != N:
        raise InputError(f"`{name}` must have one entry for each of the {N} items.")
    return list(values)


def texts(values: Sequence[str | None] | None, N: int) -> list[str] | None:
    """The N texts, "" where there is nothing to read; None where there is no text at all."""
    if values is None:
        return None
    given = one_an_item(values, "texts", N)
    for n, text in enumerate(given):
        if not (text is None or isinstance(text, str)):
            raise InputError(f"texts[{n}] is {text!r}: give a str, or None where there is no text.")
    read = [str(text or "") if str(text or "").strip() else "" for text in given]
    return read if any(read) else None
