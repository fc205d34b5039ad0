"""Label codes as tokens: which tokens decide between the labels, and how one pass (or two) reads a distribution.

A token tree has one path of tokens a label. Where the first tokens differ, its only branching is the root and
one next-token distribution says all; where a first token is empty or shared, the tree branches further down
and that place is asked as well (method.md 3a: there the first token says nothing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mollm.errors import ConfigError
from mollm.records import FloatArray

WORTH_ASKING = 0.005
EASY_BRANCHES = 4

Path = tuple[int, ...]


@dataclass(frozen=True)
class TokenTree:
    """C token paths. `branches` maps each path after which labels part to the tokens that may follow there."""

    paths: tuple[Path, ...]
    branches: Mapping[Path, Path]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], end: int) -> TokenTree:
        """Build from each label's tokens; `end` closes a label that begins another ("sport", "sports").

        Raises ConfigError where two labels have the same tokens, or one has none.
        """
        paths = [tuple(sequence) for sequence in sequences]
        if not all(paths) or len(set(paths)) < len(paths):
            raise ConfigError(
                "Two labels read the same to this LLM, or one is empty: give them other texts, or coding = 'codes'."
            )
        inner = {path[:depth] for path in paths for depth in range(1, len(path))}
        closed = tuple((*path, end) if path in inner else path for path in paths)
        children: dict[Path, dict[int, None]] = {}
        for path in closed:
            for depth, token in enumerate(path):
                children.setdefault(path[:depth], {})[token] = None
        parting = {at: tuple(tokens) for at, tokens in sorted(children.items(), key=_depth) if len(tokens) > 1}
        return cls(closed, parting)

    def reach(self, known: Mapping[Path, FloatArray], at: Path) -> float:
        """The probability that constrained sampling passes `at`, from the branches known so far."""
        reached = 1.0
        for depth, token in enumerate(at):
            place = at[:depth]
            if place in self.branches:
                reached *= known[place][self.branches[place].index(token)] if place in known else 0.0
        return float(reached)

    def worth_asking(self, known: Mapping[Path, FloatArray]) -> list[Path]:
        """The next places to ask for one text: all of the shallowest unknown depth that are likely enough."""
        open_places = [at for at in self.branches if at not in known and self.reach(known, at) >= WORTH_ASKING]
        nearest = min((len(at) for at in open_places), default=0)
        return [at for at in open_places if len(at) == nearest]

    def distribution(self, known: Mapping[Path, FloatArray]) -> FloatArray:
        """(C,) summing to 1: the product along each path; a place that was not asked splits evenly."""
        probs = np.ones(len(self.paths))
        for at, tokens in self.branches.items():
            share = known.get(at, np.full(len(tokens), 1.0 / len(tokens)))
            for c, path in enumerate(self.paths):
                if len(path) > len(at) and path[: len(at)] == at:
                    probs[c] *= share[tokens.index(path[len(at)])]
        return np.asarray(probs / probs.sum())


def branches(trees: Sequence[TokenTree]) -> int:
    """How many places the trees of all label orders have at most."""
    return max(len(tree.branches) for tree in trees)


def easy(trees: Sequence[TokenTree]) -> bool:
    """Whether so few places decide that codes would spare nothing."""
    return branches(trees) <= EASY_BRANCHES


def shares(logprobs: FloatArray) -> FloatArray:
    """(K,) probabilities among the allowed tokens from their log-probabilities (nats); -inf is 0."""
    finite = np.where(np.isfinite(logprobs), logprobs, -np.inf)
    top = finite.max()
    if not np.isfinite(top):
        return np.full(len(finite), 1.0 / len(finite))
    weights = np.exp(finite - top)
    return np.asarray(weights / weights.sum())


def _depth(entry: tuple[Path, dict[int, None]]) -> int:
    return len(entry[0])
