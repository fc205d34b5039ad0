"""Query strategies: one a file, each a function over a lazy pool; `strategies()` finds every one of them.

A strategy is named as its file is, and has the signature of `Strategy`. It asks the pool only for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mollm.errors import ConfigError, InputError
from mollm.plugins import Room, takes
from mollm.records import FloatArray, IntArray

MEMBERS = 10  # parameter draws for strategies that ask how firmly the model holds its opinion


@dataclass(frozen=True)
class Picks:
    """Items in acquisition order: `index` (B,) into the N items, `gain` (B,) what each is worth to the strategy."""

    index: IntArray
    gain: FloatArray

    def after(self, first: IntArray) -> Picks:
        """As many items, the `first` (F,) in front of the others; they are worth what the best of these is."""
        rest = ~np.isin(self.index, first)
        index = np.concatenate([first, self.index[rest]])[: len(self.index)]
        gain = np.concatenate([np.full(len(first), self.gain.max(initial=0.0)), self.gain[rest]])[: len(self.index)]
        return Picks(index, gain)


@dataclass
class Pool:
    """What strategies may ask of N items; the callables run at most once, and only when asked.

    `probs` (N, C) is the current prediction; `open` (K,) are the items that may be picked, `labelled` (L,) those
    that humans have labelled. `embed` gives (N, D); without it the square roots of the probabilities stand in.
    `sample(E, rng)` gives (E, N, C): predictions of E perturbed models (dropout, or noise on the weights); without
    it the log-odds are perturbed. `classifier` (N, C) and `panel` (N, M, C) are the opinions behind `probs`.
    """

    probs: FloatArray
    open: IntArray
    labelled: IntArray
    embed: Callable[[], NDArray[np.floating]] | None = None
    sample: Callable[[int, np.random.Generator], FloatArray] | None = None
    classifier: FloatArray | None = None
    panel: FloatArray | None = None
    _embeddings: NDArray[np.floating] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.probs.ndim != 2 or not np.isfinite(self.probs).all() or (self.probs < 0).any():
            raise InputError("A pool needs finite probabilities (N, C), none below zero.")
        for name, index in (("open", self.open), ("labelled", self.labelled)):
            if len(index) and (index.min() < 0 or index.max() >= len(self.probs)):
                raise InputError(f"The pool's `{name}` items do not all lie in its {len(self.probs)} items.")

    @property
    def N(self) -> int:
        return len(self.probs)

    def embeddings(self) -> NDArray[np.floating]:
        """(N, D)."""
        if self._embeddings is None:
            self._embeddings = np.sqrt(self.probs) if self.embed is None else self.embed()
        return self._embeddings

    def sampled(self, rng: np.random.Generator, members: int = MEMBERS) -> FloatArray:
        """(E, N, C): what `members` perturbed models say."""
        if self.sample is not None:
            return self.sample(members, rng)
        logits = np.log(self.probs + 1e-6)
        noisy = logits[None] + rng.normal(0.0, 0.5, (members, *logits.shape))
        odds = np.exp(noisy - noisy.max(axis=-1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=-1, keepdims=True), dtype=np.float64)


Strategy = Callable[[Pool, int, np.random.Generator], Picks]


def _fits(name: str, thing: object) -> Strategy:
    """A module's function of its own name, or a function; called with a pool, a batch's size and a generator."""
    function = getattr(thing, name, None) if isinstance(thing, ModuleType) else thing
    if not callable(function):
        raise ConfigError(f"it has no function `{name}`")
    takes(function, lambda pool, batch, rng: None)  # noqa: ARG005 (only their names and number count)
    found: Strategy = function
    return found


ROOM = Room(__name__, "mollm.strategies", "query strategy", _fits)


def strategies() -> dict[str, Strategy]:
    """Every strategy by name: one file here with a function of its name, or an entry point `mollm.strategies`."""
    return ROOM.found()


def strategy(name: str) -> Strategy:
    """A strategy by name. Raises ConfigError that lists what there is, or says why this one does not fit."""
    return ROOM.get(name)


def best(open_items: IntArray, score: FloatArray, batch: int, rng: np.random.Generator) -> Picks:
    """The `batch` open items of highest `score` (K,), ties in random order, in O(K + batch log batch)."""
    batch = min(batch, len(open_items))
    if batch <= 0:
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    shuffled = rng.permutation(len(open_items))
    keys = -score[shuffled]
    top = np.argpartition(keys, batch - 1)[:batch] if batch < len(keys) else np.arange(len(keys))
    chosen = shuffled[top[np.argsort(keys[top], kind="stable")]]
    return Picks(open_items[chosen], score[chosen])
