"""Compare two label configs: which decisions are kept, new, renamed or gone, as lines for people and as keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mollm_backend.labelstudio.label_config import general_question
from mollm_backend.store.decisions import Decision

Pair = tuple[Decision | None, Decision | None]  # (before, after); None: it is new, or it is gone


@dataclass(frozen=True)
class Change:
    """The decisions after the change, the lines for people, and (old key, new key) of each changed key."""

    decisions: tuple[Decision, ...]
    lines: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()


def change_between(before: Sequence[Decision], after: Sequence[Decision]) -> Change:
    """The change. A decision that asks the same keeps its old general question, so that no LLM is asked again."""
    pairs = _pairs(before, after)
    pairs = [(old, _worded_as(old, new) if old and new else new) for old, new in pairs]
    lines = ["the label config has changed", *(line for old, new in pairs for line in _lines(old, new))]
    moved = tuple((old.key, new.key) for old, new in pairs if old and new and old.key != new.key)
    return Change(tuple(new for _, new in pairs if new), tuple(lines), moved)


def _pairs(before: Sequence[Decision], after: Sequence[Decision]) -> list[Pair]:
    """Each decision with its earlier one: the one of the same name, or else the only one that asks the same."""
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    by_name = {row.name: row for row in before}
    left = [row for row in before if row.name not in {new.name for new in after}]
    fresh = [row for row in after if row.name not in by_name]
    pairs: list[Pair] = []
    for new in after:
        old = by_name.get(new.name)
        if old is None:
            same = [row for row in left if _asked(row) == _asked(new)]
            alone = len(same) == 1 and sum(_asked(row) == _asked(new) for row in fresh) == 1
            old = same[0] if alone else None
        pairs.append((old, new))
    kept = {old.name for old, _ in pairs if old}
    return pairs + [(row, None) for row in before if row.name not in kept]


def _asked(decision: Decision) -> tuple[str, str, str]:
    return decision.kind, decision.part, decision.labels.key()


def _prompted(decision: Decision) -> tuple[str, ...]:
    """What the LLMs are told of a decision."""
    listed = decision.listed.key() if decision.listed is not None else ""
    return decision.labels.key(), decision.question, decision.kind, listed


def _worded_as(old: Decision, new: Decision) -> Decision:
    general = [row.question in ("", general_question(row.control)) for row in (old, new)]
    return replace(new, question=old.question) if all(general) and _asked(old) == _asked(new) else new


def _lines(old: Decision | None, new: Decision | None) -> list[str]:
    if old is None and new is not None:
        return [f"new: {new.name}; the LLMs are asked about it"]
    if new is None and old is not None:
        return [f"gone: {old.name}; what people said of it is left out of training"]
    assert old is not None
    assert new is not None
    of = f"{new.name}: " if new.key else ""
    lines = [f"{old.name} is now called {new.name}"] if old.name != new.name else []
    lines += [of + line for line in _label_lines(old, new)]
    if _prompted(old) != _prompted(new):
        lines.append(f"{of}the LLMs are asked again, because the labels are part of their prompt")
    if old.conditions != new.conditions:
        lines.append(f"{of}it is asked under other conditions (visibleWhen); annotations are read again")
    if old.sources != new.sources:
        read = " and ".join(f"{source.field!r} ({source.tag})" for source in new.sources)
        lines.append(f"{of}the text is now read from the field {read}")
    return lines


def _label_lines(old: Decision, new: Decision) -> list[str]:
    """Lines about labels that were added, removed, renamed, or are shown with other words."""
    before, after = old.labels, new.labels
    went = [name for name in before.names if name not in after.names]
    came = [name for name in after.names if name not in before.names]
    swapped = zip(before.names, after.names, strict=False) if before.C == after.C else ()
    renamed = {one: two for one, two in swapped if one in went and two in came}
    left_out = "annotations with them are left out of training"
    lines = []
    if renamed:
        pairs = ", ".join(f"{one} to {two}" for one, two in renamed.items())
        lines.append(f"renamed in their place: {pairs}; {left_out}, until they are changed in Label Studio")
    if fresh := [name for name in came if name not in renamed.values()]:
        lines.append(f"new labels: {', '.join(fresh)}")
    if gone := [name for name in went if name not in renamed]:
        lines.append(f"labels that are gone: {', '.join(gone)}; {left_out}")
    for c, name in enumerate(after.names):
        if name in before.names and (was := before.text_of(before.index(name))) != after.text_of(c):
            lines.append(f"{name} is now shown as {after.text_of(c)!r}, before as {was!r}")
    return lines
