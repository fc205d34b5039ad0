"""Read a sampled answer as one label or as an abstention. It is never matched to the nearest string."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

NEGATION = re.compile(r"\b(?:not|no|neither|nor|never|cannot)\b|n['’]t\b")  # before a label: it is not the answer
DECORATION = re.compile(r"^[\W_]+|[\W_]+$")  # quotes, punctuation and markdown around an answer


def parse_answer(answer: str, labels: Sequence[str]) -> int | None:
    """The index of the one label that `answer` names, None for an abstention (no label, two labels, or "not x").

    Quotes, case, punctuation, markdown, "Label: x" and words around the label are accepted. Only the longer of two
    labels counts if one contains the other ("New York", not "York").
    """
    exact = answer.strip()
    if exact in labels:
        return list(labels).index(exact)
    matcher, places = _matcher(tuple(labels))
    folded = _folded(answer)
    whole = places.get(DECORATION.sub("", folded))
    if whole is not None:
        return whole[0] if len(whole) == 1 else None
    named = {match.group() for match in matcher.finditer(folded)}
    if len(named) != 1:
        return None
    found = places[named.pop()]
    return found[0] if len(found) == 1 and not NEGATION.search(_before_label(folded, matcher)) else None


def parse_code(answer: str, codes: Sequence[str]) -> int | None:
    """The index of the code that `answer` starts with ("B", "(B)", "B. sports", "Answer: B"); None: abstention."""
    bare = re.sub(r"^\W*(?:answer|label|output|code|category)\W+", "", answer, flags=re.IGNORECASE)
    first = re.match(r"[\W_]*([^\W_]+)(?!\w)", bare)
    return list(codes).index(first.group(1)) if first and first.group(1) in codes else None


def _before_label(folded: str, matcher: re.Pattern[str]) -> str:
    match = matcher.search(folded)
    return folded[: match.start()] if match else folded


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("️", "").casefold()
    return " ".join(plain.split())


@functools.lru_cache(maxsize=64)
def _matcher(labels: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, list[int]]]:
    """(a pattern that finds labels, the longest first, the label indices that each folded text may mean)."""
    places: dict[str, list[int]] = {}
    for c, label in enumerate(labels):
        places.setdefault(_folded(label), []).append(c)
    bare: dict[str, list[int]] = {}
    for c, label in enumerate(labels):  # an answer may omit a label's own punctuation, unless it then is another label
        bare.setdefault(DECORATION.sub("", _folded(label)), []).append(c)
    places = bare | places
    forms = sorted(filter(None, places), key=len, reverse=True)
    edges = (("(?<!\\w)" if f[0].isalnum() else "", "(?!\\w)" if f[-1].isalnum() else "") for f in forms)
    pattern = "|".join(left + re.escape(form) + right for form, (left, right) in zip(forms, edges, strict=True))
    return re.compile(pattern or r"(?!)"), places
