"""A project in one line: its state in a word, how far it is, what waits, and one warning, the most urgent one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

State = Mapping[str, Any]  # what `mollm_backend.view.project.state` has found


def of(found: State) -> dict[str, Any]:
    """`state`, `progress`, `waits` and `warning`, each in words, and all of them in one `line`."""
    word, warning, waits = state_of(found), warning_of(found), waits_of(found)
    parts = [word, progress_of(found), f"waits: {waits}", *([f"warning: {warning}"] if warning else [])]
    return {"state": word, "progress": parts[1], "waits": waits, "warning": warning, "line": "; ".join(parts)}


def state_of(found: State) -> str:
    """One word or two."""
    if not found["connected"]:
        return "disconnected"
    if not found["tasks"]:
        return "empty"
    if found["tasks"] == found["unreadable"]:
        return "unreadable"
    if any(row["what"].startswith("training") for row in found["jobs"]["running"]):
        return "training"
    if found["version"] is None or (any(found["jobs"]["left"].values()) and not found["human_labels"]):
        return "reading"
    return "labelling" if found["open"] else "finished"


def progress_of(found: State) -> str:
    """Labels given, and what is expected until the end."""
    readable = found["tasks"] - found["unreadable"]
    done = f"{readable - found['open']:,} of {readable:,} tasks are done"
    plan = (found["finish"] or {}).get("plan")
    if not plan or not found["open"] or not found["finish"].get("within_reach", True):
        return done
    return f"{done}, some {plan['expected']:,.0f} labels to go{in_hours(plan['hours'])}"


def in_hours(hours: float | None) -> str:
    """Such as ", 1.5 hours of one person"; "" where the pace is not known."""
    if hours is None:
        return ""
    if hours >= 1:
        return f", {hours:,.1f} hours of one person"
    minutes = max(1, round(60 * hours))
    return f", {minutes} {'minute' if minutes == 1 else 'minutes'} of one person"


def waits_of(found: State) -> str:
    """For whom what waits: people, the panel, the worker."""
    batch, jobs = found["batch"], found["jobs"]
    parts = []
    if found["connected"] and batch["waiting"]:
        more = f" ({batch['reserve']:,} more in reserve)" if batch["reserve"] else ""
        count = batch["waiting"]
        parts.append(f"{count:,} {'task waits' if count == 1 else 'tasks wait'} for people{more}")
    left = max(jobs["left"].values(), default=0)
    if found["connected"] and left:
        parts.append(f"{left:,} {'answer' if left == 1 else 'answers'} of an LLM still to come")
    if jobs["asked"]:
        parts.append("a training was asked for")
    if jobs["waiting"]:
        count = len(jobs["waiting"])
        parts.append(f"{count} {'job waits' if count == 1 else 'jobs wait'} for the worker")
    return ", ".join(parts) or "nothing"


def warning_of(found: State) -> str:
    """The most urgent of what somebody should know; "" where all is well."""
    away = [f"{name} is away: {why}" for name, why in found["away"].items()]
    paused = [found["budget"]["line"]] if found["budget"]["paused"] else []
    lost = [] if found["jobs"]["reachable"] else ["the queue is not reachable: start `mollm up`"]
    unreadable = [f"{found['unreadable']:,} tasks cannot be read (`mollm doctor {found['id']}` says why)"]
    pinned = [found["pinned"]["line"]] if found["pinned"] else []
    failing = [row["line"] for row in found["jobs"]["failing"]]
    every = [found["attention"], *lost, *failing, *paused, *away, *(unreadable if found["unreadable"] else []), *pinned]
    return next((line for line in every if line), "")


def advice(found: State) -> str:
    """What to do, or what to wait for."""
    number = found["id"]
    return {
        "disconnected": "The project is disconnected: nothing is read or learned. "
        f"`mollm connect {number}` connects it again; what is known of it is kept.",
        "empty": "There are no tasks yet: import some in Label Studio. The LLMs then read them by themselves.",
        "unreadable": f"None of the tasks can be read: `mollm doctor {number}` says why.",
        "reading": "The LLMs are reading the tasks. The first version comes by itself, before all are read: people can "
        "begin then.",
        "labelling": "People label in Label Studio, the tasks below first; a training follows by itself.",
        "training": "A training runs. What this page shows is of the version before; the new one comes by itself.",
        "finished": "No task is open: people have labelled all of them, or they are accepted.",
    }[found["summary"]["state"]]
