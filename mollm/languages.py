"""What can be said of texts' languages without a model: are they English, and how many tokens are they about.

Neither needs to know which other language it is. A text is counted as not English where most of its letters are of
another script, or where more of its words are function words of another language in Latin script than of English.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

# Scripts that write no blanks between words: a token of an LLM or encoder is about one letter.
_BLANKLESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
BLANKLESS = f"[{_BLANKLESS}\U00020000-\U0003ffff]"  # a regular expression of one such letter
_WORD = re.compile(r"[^\W\d_]+")
LETTERS = 4  # characters a token where words have blanks between them, in English: a common rule of thumb
FEW = 3  # words: a shorter text says too little of its language

Verdict = Literal["English", "other", "unknown"]


def language(text: str) -> Verdict:
    """Whether a text is English, by its script and its function words.

    >>> [language(text) for text in ("Where is the nearest bank?", "Wo ist die nächste Bank?", "Где банк?", "ok")]
    ['English', 'other', 'other', 'unknown']
    """
    script = _latin(text)
    if script is None:
        return "unknown"
    if not script:
        return "other"
    words = [word.casefold() for word in _WORD.findall(text)]
    english, *others = (sum(word in known for word in words) for known in _function_words())
    other = max(others)
    if len(words) < FEW or english == other:
        return "unknown"
    return "English" if english > other else "other"


def share_not_english(texts: Iterable[str]) -> float:
    """Of the texts of which it can be said, the share that is not English; 0 where it can be said of none."""
    found = Counter(language(text) for text in texts)
    return found["other"] / max(found["other"] + found["English"], 1)


def share_not_latin(texts: Iterable[str]) -> float:
    """Of the texts with letters, the share of those that are mostly of another script than Latin; 0 if none has any.

    >>> share_not_latin(["Где банк?", "Wo ist die Bank?", "..."])
    0.5
    """
    found = Counter(_latin(text) for text in texts)
    return found[False] / max(found[False] + found[True], 1)


def tokens_about(text: str) -> float:
    """About how many tokens a text has: one a letter in scripts without blanks, one for four letters elsewhere.

    >>> tokens_about("Where is it?"), tokens_about("它在哪里？")
    (3.0, 4.25)
    """
    alone = len(re.findall(BLANKLESS, text))
    return alone + (len(text) - alone) / LETTERS


@cache
def _function_words() -> tuple[frozenset[str], ...]:
    """English's first, then each other language's. A word that two languages share speaks for both."""
    path = Path(__file__).with_name("function_words.toml")
    known = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(frozenset(words.split()) for words in known.values())


def _latin(text: str) -> bool | None:
    """Whether most letters are Latin; None without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(not _is_latin(letter) for letter in letters) <= len(letters) if letters else None


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff"
