"""Windows over a text's tokens: what an encoder reads of a text that is longer than it takes at once.

A text of up to `size` tokens is one window, and that is the whole text. A longer one is read in as few windows of
`size` tokens as overlap by at least `overlap`, evenly spread from its first token to its last. At most `most` windows
are read: the windows of a still longer text have tokens between them that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Windows:
    """In a text's own tokens: those that a tokenizer puts around it do not count."""

    size: int
    overlap: int
    most: int

    def starts(self, tokens: int) -> list[int]:
        """Where the windows begin over a text of so many tokens.

        >>> Windows(100, 20, 4).starts(100)
        [0]
        >>> Windows(100, 20, 4).starts(200)
        [0, 50, 100]
        >>> Windows(100, 20, 4).starts(1000)
        [0, 300, 600, 900]
        """
        beyond = tokens - self.size
        if beyond <= 0 or self.most == 1:
            return [0]
        count = min(self.most, 1 + -(-beyond // (self.size - self.overlap)))
        return [round(beyond * k / (count - 1)) for k in range(count)]

    def unread(self, tokens: int) -> int:
        """How many tokens of such a text lie in no window."""
        return max(0, tokens - self.most * self.size)


@dataclass(frozen=True, slots=True)
class Framed:
    """A tokenizer's token ids `before` and `after` a text (such as [CLS] and [SEP])."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def by(cls, tokenizer: Any) -> Self:
        """As this tokenizer does it."""
        inner = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        at = next(k for k in range(len(whole)) if whole[k : k + len(inner)] == inner)
        return cls(tuple(whole[:at]), tuple(whole[at + len(inner) :]))

    def windows(self, ids: Sequence[int], rule: Windows) -> list[list[int]]:
        """The windows of a text with the token ids `ids`, each as a tokenizer gives a whole text."""
        return [[*self.before, *ids[start : start + rule.size], *self.after] for start in rule.starts(len(ids))]


@dataclass(frozen=True, slots=True)
class Unread:
    """Of N `texts`, `longer` ones are longer than all their windows; `tokens` tokens of these lie in no window."""

    texts: int
    longer: int
    tokens: int

    @classmethod
    def of(cls, unread: Iterable[int]) -> Self:
        """From the unread tokens of each text."""
        each = list(unread)
        return cls(len(each), sum(tokens > 0 for tokens in each), sum(each))

    def line(self, reader: str = "the text encoder") -> str:
        """In a sentence."""
        return (
            f"{self.longer:,} of {self.texts:,} texts are longer than {reader} reads: {self.tokens:,} tokens of them "
            "were not read."
        )
