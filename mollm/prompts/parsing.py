"""Reading a sampled answer: one label, or an abstention. Never the nearest string."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

NEGATION = re.compile(r"\b(?:not|no|neither|nor|never|cannot)\b|n['’]t\b")
DECORATION = re.compile(r"^[\W_]+|[\W_]+$")


def parse_answer(answer: str, labels: Sequence[str]) -> int | None:
    """The index of the one label that `answer` names, None for an abstention (no label, two labels, or "not x").

    Quotes, case, punctuation, markdown, "Label: x" and words around the label are accepted. A label inside a longer
    label of the set does not count as named when the longer one is ("York" in "New York").
    """
    exact = answer.strip()
    if exact in labels:
        return list(labels).index(exact)
    matcher, places = _matcher(tuple(labels))
    said = _folded(answer)
    whole = places.get(DECORATION.sub("", said))
    if whole is not None:
        return whole[0] if len(whole) == 1 else None
    named = {match.group() for match in matcher.finditer(said)}
    if len(named) != 1:
        return None
    found = places[named.pop()]
    return found[0] if len(found) == 1 and not NEGATION.search(_before_label(said, matcher)) else None


def parse_code(answer: str, codes: Sequence[str]) -> int | None:
    """The index of the code that opens `answer` ("B", "(B)", "B. sports", "Answer: B"), None for an abstention."""
    said = re.sub(r"^\W*(?:answer|label|output|code|category)\W+", "", answer, flags=re.IGNORECASE)
    first = re.match(r"[\W_]*([^\W_]+)(?!\w)", said)
    return list(codes).index(first.group(1)) if first and first.group(1) in codes else None


def _before_label(said: str, matcher: re.Pattern[str]) -> str:
    match = matcher.search(said)
    return said[: match.start()] if match else said


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("️", "").casefold()
    return " ".join(plain.split())


@functools.lru_cache(maxsize=64)
def _matcher(labels: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, list[int]]]:
    """A pattern that finds labels, the longest first, and which indices each folded label may mean."""
    places: dict[str, list[int]] = {}
    for c, label in enumerate(labels):
        places.setdefault(_folded(label), []).append(c)
    bare: dict[str, list[int]] = {}
    for c, label in enumerate(labels):  # a label's own decoration may be left out, unless that is another label
        bare.setdefault(DECORATION.sub("", _folded(label)), []).append(c)
    places = bare | places
    forms = sorted(filter(None, places), key=len, reverse=True)
    edges = (("(?<!\\w)" if f[0].isalnum() else "", "(?!\\w)" if f[-1].isalnum() else "") for f in forms)
    pattern = "|".join(left + re.escape(form) + right for form, (left, right) in zip(forms, edges, strict=True))
    return re.compile(pattern or r"(?!)"), places
