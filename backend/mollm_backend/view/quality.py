"""How right a project is, as jobs noted it: each figure with its n, its interval and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mollm.acceptance.doubt import between
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import Version, facts_of

Known = Mapping[str, Any]
HARD = "the labelled tasks, which were chosen for being hard: the rest differs"
GUESS = "its own guess, not measured"


def of_project(
    project: Project, published: Version | None, history: Sequence[Version], detail: Known, standing: Known
) -> dict[str, Any]:
    """`accuracy` on the rest, version by version; `decisions`, each with its classes, its calibration and its raters;
    `acceptance`, what an audit would certify. `detail`: of the published version; `standing`: what a job noted."""
    measured = [_decision(row, detail, standing) for row in project.decisions]
    curve = standing.get("acceptance")
    return {
        "accuracy": _accuracy(published, history, detail, standing, project),
        "decisions": [row | {"worst": row["worst"][1], "disagrees": row["disagrees"][1]} for row in measured],
        "acceptance": curve | {"old": curve.get("version") != project.published_version} if curve else None,
        "worst": _lowest([row["worst"] for row in measured]),
        "disagrees": _lowest([row["disagrees"] for row in measured]),
    }


def _lowest(found: Sequence[tuple[float, str]]) -> str:
    """The line of the lowest figure of several decisions; "" where none is known."""
    known = [row for row in found if row[1]]
    return min(known)[1] if known else ""


def _accuracy(
    published: Version | None, history: Sequence[Version], detail: Known, standing: Known, project: Project
) -> dict[str, Any]:
    """`points`, oldest first, each measured on tasks drawn at random, or the mixture's own guess; `now`: that of the
    published version; `labelled`: on the tasks that people labelled; `baseline`: always the most frequent label."""
    rest = standing.get("rest", {})
    points = [row for version in reversed(history) if (row := _point(version, rest)) is not None]
    now = None if published is None else _point(published, rest)
    baseline: dict[str, Any] | None = (standing.get("audited") or {}).get("baseline")
    if baseline is None and len(project.decisions) == 1:
        mine = facts_of(detail, project.decision.key).get("measured", {}).get("baseline")
        baseline = mine and {**mine, "of": HARD}
    labelled = None if published is None else published.accuracy.get("labelled")
    return {"points": points, "now": now, "baseline": baseline, "labelled": labelled,
            "line": _line(project.id, published, now, labelled)}  # fmt: skip


def _point(version: Version, rest: Known) -> dict[str, Any] | None:
    about = {"version": version.id, "at": version.created_at, "human_labels": version.human_labels}
    if version.id in rest:
        return {**about, **rest[version.id], "measured": True}
    guess = version.facts.get("guess") or {}
    if guess.get("value") is None:
        return None
    value, allowing = guess["value"], guess.get("allowing", guess["value"])  # an older version holds one end alone
    return about | {"value": value, "low": None, "high": None, "allowing": allowing, "n": guess["n"], "of": GUESS,
                    "measured": False}  # fmt: skip


def _line(number: int, published: Version | None, now: Known | None, labelled: Known | None) -> str:
    """How right is it, in one sentence that says what it rests on."""
    if published is None:
        return "Nothing is predicted yet."
    if now and now["measured"]:
        return f"Of the tasks that nobody has labelled {percent(now)} are right, by {now['n']} of them ({now['of']})."
    told = [] if now is None else [f"The mixture itself expects to be right on {_guessed(now)} of the open tasks."]
    if labelled:
        told.append(f"It is right on {percent(labelled)} of the {labelled['n']} labelled tasks; these are harder.")
    return " ".join([*told, f"Nobody has measured it on the rest: `mollm audit {number}` does."])


def _guessed(point: Known) -> str:
    """Both ends of the mixture's own guess."""
    return between(f"{point['value']:.0%}", f"{point['allowing']:.0%}")


def percent(share: Known) -> str:
    """A share with its 95 % interval, where it has one."""
    interval = "" if share["low"] is None else f" [{share['low']:.1%}, {share['high']:.1%}]"
    return f"{share['value']:.1%}{interval}"


def _decision(decision: Decision, detail: Known, standing: Known) -> dict[str, Any]:
    """One decision: by a decided audit where there is one, else by the labelled tasks, predicted without their own
    labels."""
    figures = (standing.get("figures") or {}).get("decisions", {}).get(decision.key, {})
    audited, measured = figures.get("classes"), facts_of(detail, decision.key).get("measured", {})
    names = [decision.labels.text_of(c) for c in range(decision.labels.C)]
    found = audited or measured.get("classes")
    if found and len(found["counts"]) != len(names):
        found = None  # the labels have changed since
    whole = standing.get("audited") or {}  # the audit that the classes are of too
    bins, audit = whole.get("reliability"), f"tasks drawn at random ({whole.get('of')} of {whole.get('version')})"
    raters = next((row for row in standing.get("raters", []) if row["key"] == decision.key), None)
    agreement = figures.get("agreement") or {"people": None, "llms": {}}
    classes = _classes(names, found["classes"]) if found else []
    return {
        "key": decision.key, "name": decision.name, "labels": names,
        "of": "" if found is None else audit if audited else HARD if measured else "",
        "confusion": found["counts"] if found else None, "classes": classes,
        "reliability": bins or measured.get("reliability", []),
        "reliability_of": audit if bins else HARD if measured else "",
        "raters": raters, "agreement": agreement,
        "worst": _worst(decision, classes), "disagrees": _disagrees(decision, agreement),
    }  # fmt: skip


def _classes(names: Sequence[str], classes: Sequence[Known]) -> list[dict[str, Any]]:
    """The classes, the lowest F1 first; what is not known of a class comes last."""
    rows = [{"label": name, **found} for name, found in zip(names, classes, strict=False)]
    return sorted(rows, key=lambda row: (row["f1"]["value"] is None, row["f1"]["value"] or 0.0))


def figure(found: Known) -> str:
    """A figure with its interval and its n, or why it is not known."""
    if found["value"] is None:
        return f"unknown: {found['reason']}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}], n = {found['n']}"


def _worst(decision: Decision, classes: Sequence[Known]) -> tuple[float, str]:
    """The lowest F1 of a label, and a line that says so; "" where none is known."""
    if not classes or classes[0]["f1"]["value"] is None:
        return 0.0, ""
    where, found = f"{decision.name}: " if decision.key else "", classes[0]["f1"]
    return found["value"], f"{where}the label with the lowest F1 is {classes[0]['label']}: {figure(found)}"


def _disagrees(decision: Decision, agreement: Known) -> tuple[float, str]:
    """The least share of equal labels of people and an LLM, or of people with each other, and a line that says so."""
    pairs = {f"people with {name}": found["raw"] for name, found in agreement["llms"].items()}
    if agreement["people"]:
        pairs["people with each other"] = agreement["people"]["raw"]
    known = {who: raw for who, raw in pairs.items() if raw["value"] is not None}
    if not known:
        return 0.0, ""
    who = min(known, key=lambda name: known[name]["value"])
    where = f"{decision.name}: " if decision.key else ""
    return known[who]["value"], f"{where}{who} agree least: the same label on {figure(known[who])} tasks"
