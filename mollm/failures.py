"""Why answers fail, in a few kinds, and what people can do about each."""

from __future__ import annotations

import re

UNNOTED = "no reason known"
OTHER = "other"

# The kind, what its messages hold (casefolded, the first that fits), whether it may pass by itself, and what helps.
KINDS: tuple[tuple[str, str, bool, str], ...] = (
    (
        "thinking", r"\bthink(s|ing)\b|\bthought\b", True,
        "start the server with thinking switched off, or serve the model's variant that does not think",
    ),
    (
        "window", r"\((400|413|422)\).*(context|too long|maximum|max_tokens must be)|overfill the window", True,
        "start the server with a longer window (vLLM: --max-model-len, llama.cpp: --ctx-size), set `max_tokens` in the "
        "panel file to its window, so that examples are shortened, or shorten the instruction and the labels' hints",
    ),
    ("refused", r"refused \(4\d\d\)", True, "read what the server says and correct its settings or the panel file"),
    ("server failed", r"^the server failed", True, "see the server's own log; the texts are tried again by themselves"),
    (
        "no decision", r"the decision server", True,
        "see the server's documentation and version: each label needs a probability, and they sum to 1",
    ),
    (
        "no label named", r"no label|names a label|no probability to any label|no word of a label", False,
        "use a server with logprobs (mode = 'score'), coding = 'codes', or a model that follows instructions better",
    ),
    (
        "broken numbers", r"\bnan\b|infinity", False,
        "give another dtype in the panel file (float32 or bfloat16), or another model",
    ),
)  # fmt: skip


def kind_of(error: str) -> str:
    """The kind of failure that an answer's error tells of."""
    folded = error.casefold()
    return next((kind for kind, words, _, _ in KINDS if re.search(words, folded, re.DOTALL)), OTHER)


def retried(kind: str) -> bool:
    """Whether the same question may succeed later, without another panel file."""
    return next((passes for name, _, passes, _ in KINDS if name == kind), False)


def remedy(kind: str) -> str:
    """What people can do about this kind of failure."""
    if kind == UNNOTED:
        return "an earlier release did not note why: ask again and see"
    return next((words for name, _, _, words in KINDS if name == kind), "read what is said")
