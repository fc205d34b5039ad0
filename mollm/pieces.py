"""Pieces of texts that are too long for an LLM: beginnings, and parts of about one length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mollm.languages import LETTERS

LONGEST_WORD = 40  # characters behind the even place in which a blank is looked for (chosen by hand)


def parted(text: str, count: int) -> list[str]:
    """The text in at most so many parts of about one length, cut at blanks where there are some. None is empty.

    >>> parted("Where is the nearest bank?", 2), parted("Why?", 9)
    (['Where is the nearest', 'bank?'], ['W', 'h', 'y', '?'])
    """
    places = [0, *(_blank(text, round(k * len(text) / count)) for k in range(1, count)), len(text)]
    parts = (text[begin:end].strip() for begin, end in pairwise(places))
    return [part for part in parts if part]


def _blank(text: str, place: int) -> int:
    """The first blank from `place` on, or `place` where no word ends soon."""
    found = next((k for k in range(place, min(place + LONGEST_WORD, len(text))) if text[k].isspace()), None)
    return place if found is None else found


def shortened(texts: Sequence[str], tokens: float) -> list[str]:
    """The texts, of which the longest are cut to one length where all together are more than so many tokens.

    A cut text ends with "...". A character that is not ASCII counts as one token: so small LLMs read most scripts.

    >>> shortened(["Short.", "Where is the nearest bank?"], 100), shortened(["Short.", "Where is the nearest bank?"], 6)
    (['Short.', 'Where is the nearest bank?'], ['Short.', 'Where is the ...'])
    """
    lengths = [_tokens_at_most(text) for text in texts]
    kept, left = list(texts), tokens
    for rank, k in enumerate(sorted(range(len(texts)), key=lengths.__getitem__)):  # the shortest first
        share = left / (len(texts) - rank)
        if lengths[k] > share:
            kept[k] = _beginning(texts[k], share)
        left -= min(lengths[k], share)
    return kept


def _beginning(text: str, tokens: float) -> str:
    """The first words of a text that is longer than so many tokens; one word that alone is longer is cut."""
    start = text[: int(tokens * LETTERS) + 1]  # no more characters fit
    place = int(np.searchsorted(np.cumsum([_tokens_at_most(letter) for letter in start]), tokens, side="right"))
    words, blank, _ = text[: place + 1].rpartition(" ")
    return f"{words if blank else text[:place]} ..."


def _tokens_at_most(text: str) -> float:
    ascii_letters = len(text.encode("ascii", "ignore"))
    return len(text) - ascii_letters + ascii_letters / LETTERS
