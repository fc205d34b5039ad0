"""Labels as tokens: which next token leads to which label, and how to get a distribution over labels from tokens.

A label can be written with many token sequences ("entity", "ent|ity", "e|nt|ity"), and constrained sampling may take
any of them. So the tree allows, at each place, every token that continues some label. If only one label is left after
a token, the token decides. If a likely token leaves several labels (an empty or shared first token, method.md 3a),
the place after it is asked too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mollm.errors import ConfigError
from mollm.records import FloatArray

WORTH_ASKING = 0.05  # probability; below it a place is not asked, its labels share it (chosen by hand: lower asks more)
EASY_BRANCHES = 4  # up to so many places codes are not tried (chosen by hand: higher keeps names, lower saves reads)
PIECES_AT_MOST = 600  # beginnings of labels to look up, a server request each (chosen by hand); above: own tokens only

Path = tuple[int, ...]
Single = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Place:
    """After a path: the labels still possible (`alive`), the `tokens` (K,) that may follow, the `text` so far and the
    `texts` (K,) after each token. A text is None if only a label's own tokens lead there: their text is not known."""

    alive: tuple[int, ...]
    tokens: Path
    text: str | None
    texts: tuple[str | None, ...]


class TokenTree:
    """C labels as tokens. `paths` (C,) are the labels' own tokens: as the tokenizer splits them. `single(piece)` is
    the token whose text is `piece`, or None. `end` is the token after a label that begins another ("sport", "sports").

    Places are computed when first needed. Raises ConfigError if two labels are equal or one is empty.
    """

    def __init__(self, answers: Sequence[str], paths: Sequence[Sequence[int]], single: Single, end: int) -> None:
        self.answers = tuple(answers)
        self.paths = tuple(tuple(path) for path in paths)
        if not all(self.paths) or len(set(self.paths)) < len(self.paths) or len(set(answers)) < len(self.answers):
            raise ConfigError(
                "Two labels read the same to this LLM, or one is empty: give them other texts, or coding = 'codes'."
            )
        self.single: Single = single if sum(map(len, answers)) <= PIECES_AT_MOST else (lambda _piece: None)
        self.end = end
        self._places: dict[Path, Place] = {}

    @property
    def C(self) -> int:
        return len(self.paths)

    def place(self, at: Path) -> Place:
        """The place after the path `at`. Each token of `at` must be one of the `tokens` of the place before it."""
        if at not in self._places:
            if not at:
                self._places[at] = self._place(at, tuple(range(self.C)), "")
            else:
                before = self.place(at[:-1])
                text = before.texts[before.tokens.index(at[-1])]
                self._places[at] = self._place(at, self._alive(before, at, text), text)
        return self._places[at]

    def _alive(self, before: Place, at: Path, text: str | None) -> tuple[int, ...]:
        if at[-1] == self.end and text == before.text:
            return tuple(c for c in before.alive if self._finished(c, at[:-1], before.text))
        return tuple(
            c for c in before.alive
            if (text is not None and self.answers[c].startswith(text)) or self.paths[c][: len(at)] == at
        )  # fmt: skip

    def _place(self, at: Path, alive: tuple[int, ...], text: str | None) -> Place:
        found: dict[int, str | None] = {}
        for c in alive if len(alive) > 1 else ():
            if self._finished(c, at, text):
                found[self.end] = text
            rest = "" if text is None else self.answers[c][len(text) :]
            for length in range(1, len(rest) + 1):
                token = self.single(rest[:length])
                if token is not None:
                    found[token] = (text or "") + rest[:length]
            if self.paths[c][: len(at)] == at and len(self.paths[c]) > len(at):
                found.setdefault(self.paths[c][len(at)], None)
        return Place(alive, tuple(found), text, tuple(found.values()))

    def _finished(self, c: int, at: Path, text: str | None) -> bool:
        return self.answers[c] == text or self.paths[c] == at

    def worth_asking(self, known: Mapping[Path, FloatArray]) -> list[Path]:
        """The places to ask next for one text: not in `known`, and reached with at least WORTH_ASKING."""
        return [at for at, mass in self._open(known, (), 1.0) if mass >= WORTH_ASKING]

    def _open(self, known: Mapping[Path, FloatArray], at: Path, mass: float) -> list[tuple[Path, float]]:
        place = self.place(at)
        if len(place.alive) == 1 or mass < WORTH_ASKING or not place.tokens:
            return []
        if len(place.tokens) == 1:
            return self._open(known, (*at, place.tokens[0]), mass)
        if at not in known:
            return [(at, mass)]
        further = zip(place.tokens, known[at], strict=True)
        return [found for token, share in further for found in self._open(known, (*at, token), mass * float(share))]

    def distribution(self, known: Mapping[Path, FloatArray]) -> FloatArray:
        """(C,) summing to 1: the product of the shares along each path to a label, summed over the label's paths."""
        probs = np.zeros(self.C)
        self._spread(known, (), 1.0, probs)
        return np.asarray(probs / probs.sum())

    def _spread(self, known: Mapping[Path, FloatArray], at: Path, mass: float, probs: FloatArray) -> None:
        place = self.place(at)
        if len(place.tokens) == 1:
            self._spread(known, (*at, place.tokens[0]), mass, probs)
        elif len(place.alive) == 1 or at not in known:
            probs[list(place.alive)] += mass / len(place.alive)
        else:
            for token, share in zip(place.tokens, known[at], strict=True):
                if share > 0:
                    self._spread(known, (*at, token), mass * float(share), probs)

    def own(self) -> TokenTree:
        """The tree of the labels' own tokens alone. The paper's z is read from it."""
        return TokenTree(self.answers, self.paths, lambda _piece: None, self.end)

    def seen_from(self, wide: TokenTree, known: Mapping[Path, FloatArray]) -> dict[Path, FloatArray]:
        """The shares `known` in a wider tree of the same labels, normalised over the tokens of this tree."""
        found: dict[Path, FloatArray] = {}
        for at, row in known.items():
            if sum(path[: len(at)] == at for path in self.paths) > 1:
                wider = wide.place(at).tokens
                mine = row[[wider.index(token) for token in self.place(at).tokens]]
                found[at] = mine / mine.sum() if mine.sum() > 0 else np.full(len(mine), 1.0 / len(mine))
        return found


def branches(trees: Sequence[TokenTree]) -> int:
    """The number of places at which the labels' own tokens part. The largest over the trees."""
    return max(_partings(tree.paths) for tree in trees)


def _partings(paths: Sequence[Path]) -> int:
    follow: dict[Path, set[int]] = {}
    for path in paths:
        for depth, token in enumerate(path):
            follow.setdefault(path[:depth], set()).add(token)
    return sum(len(tokens) > 1 for tokens in follow.values())


def easy(trees: Sequence[TokenTree]) -> bool:
    """Whether the labels' own tokens part at so few places that codes need not be tried."""
    return branches(trees) <= EASY_BRANCHES


def shares(logprobs: FloatArray) -> FloatArray:
    """(K,) probabilities among the allowed tokens from their log-probabilities (nats); 1 / K each if all are -inf."""
    finite = np.where(np.isfinite(logprobs), logprobs, -np.inf)
    top = finite.max()
    if not np.isfinite(top):
        return np.full(len(finite), 1.0 / len(finite))
    weights = np.exp(finite - top)
    return np.asarray(weights / weights.sum())
