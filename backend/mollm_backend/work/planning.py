"""What reading so many tasks will take: hours, tokens, money and storage, each from a figure that was measured here.

Nothing is guessed. What was not measured stays unknown, and the line says which command measures it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mollm.config import AnnotatorConfig
from mollm.metrics import Estimate, ratio, total
from mollm_backend.store import Store, notes, now, signals
from mollm_backend.store.projects import Project
from mollm_backend.store.signals import Cost
from mollm_backend.work import measured

HOUR, MILLION, GB = 3600.0, 1e6, 1e9


@dataclass(frozen=True)
class Speed:
    """Of one annotator, measured on `texts`: `seconds` a text of one reader, and `tokens` a text (0: not counted).

    `source`: who measured it and when, in words; `characters` a text (None: those of the project itself).
    """

    seconds: Estimate
    tokens: float
    texts: int
    source: str
    characters: float | None = None


@dataclass(frozen=True)
class Bookkeeping:
    """Of the store: bytes of a task with its prediction, bytes of an answer, seconds of writing an answer."""

    text_bytes: float
    answer_bytes: float
    seconds: Estimate
    source: str


@dataclass(frozen=True)
class Given:
    """What the planner is told: prices in any one currency (None: not told), and what people do."""

    tasks: int
    decisions: int = 1
    gpus: int = 1
    gpu_hour: float | None = None
    million_tokens: float | None = None
    people_seconds: float | None = None
    people_hour: float | None = None
    labels: int = 0


@dataclass(frozen=True)
class Way:
    """One way to label all tasks; None is not known. `hours` pass, with `machine` hours of GPUs (or CPU hosts) and
    `people` hours in them."""

    name: str
    hours: Estimate | None = None
    machine: Estimate | None = None
    tokens: float | None = None
    people: float | None = None
    money: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "tokens": self.tokens, "people_hours": self.people, "hours": _plain(self.hours),
            "machine_hours": _plain(self.machine), "money": _plain(self.money),
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The ways beside each other, what they rest on, and what is missing, in lines."""

    given: Given
    ways: tuple[Way, ...]
    speeds: Mapping[str, Speed]
    lines: tuple[str, ...]
    database_bytes: float | None = None
    missing: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return {
            "tasks": self.given.tasks, "decisions": self.given.decisions, "ways": [way.as_json() for way in self.ways],
            "database_bytes": self.database_bytes, "lines": list(self.lines), "missing": list(self.missing),
            "speeds": {
                name: {"seconds": _plain(one.seconds), "tokens": one.tokens, "texts": one.texts, "source": one.source}
                for name, one in self.speeds.items()
            },
        }  # fmt: skip


def speeds_of(
    panel: Sequence[AnnotatorConfig], figures: Mapping[str, Mapping[str, Any]], ledger: Mapping[str, Sequence[Cost]]
) -> dict[str, Speed]:
    """What is known of each annotator, by name: from the project's own ledger, else from the bench."""
    found = {}
    for config in panel:
        days = [cost for cost in ledger.get(config.name, ()) if cost.texts and cost.seconds]
        row = figures.get(measured.key_of(config))
        if days:
            found[config.name] = _from_ledger(days)
        elif row is not None:
            seconds, texts = np.array(row["seconds"], float), np.array(row["texts"], float)
            source = f"`mollm bench annotate`, {measured.when(row)}"
            speed = Speed(ratio(seconds, texts), row["tokens"], int(texts.sum()), source, row["characters"])
            found[config.name] = speed
    return found


def bookkeeping_of(figures: Mapping[str, Mapping[str, Any]]) -> Bookkeeping | None:
    """What `mollm bench store` measured; None where it was not run."""
    row = figures.get(measured.STORE)
    if row is None:
        return None
    seconds = ratio(np.array(row["seconds"], float), np.array(row["answers"], float))
    source = f"`mollm bench store` on {row['rows']:,} rows in {row['database']}, {measured.when(row)}"
    return Bookkeeping(row["text_bytes"], row["answer_bytes"], seconds, source)


def plan(
    panel: Sequence[AnnotatorConfig], speeds: Mapping[str, Speed], kept: Bookkeeping | None, given: Given, named: str
) -> Plan:
    """The panel (`named` so: a name or a file), a decision endpoint alone and people alone, for the same tasks."""
    unknown = [config.name for config in panel if config.name not in speeds]
    lines = [
        f"{name}: {_seconds(one.seconds)} a text, {_amount(one.tokens)} tokens a text; "
        f"{one.texts:,} texts{_long(one)}, {one.source}"
        for name, one in speeds.items()
    ]
    missing = [f"{name} was not measured: `mollm bench annotate --panel {named}` measures it" for name in unknown]
    ways = [_panel(panel, speeds, given)]
    if given.million_tokens is not None:
        ways.append(_endpoint(panel, speeds, given))
        if ways[-1].tokens is None:
            missing.append("the tokens that an endpoint would read were not measured: no annotator's were counted")
    ways.append(_people(given))
    missing += _untold(panel, given)
    size = None
    if kept is None:
        missing.append("the store was not measured: `mollm bench store` measures it")
    else:
        size = given.tasks * (kept.text_bytes + len(panel) * given.decisions * kept.answer_bytes)
        lines += _written(kept, size, len(panel) * given.tasks * given.decisions, ways[0])
    return Plan(given, tuple(ways), speeds, tuple(lines), size, tuple(missing))


def remember(store: Store, project: Project, made: Plan) -> None:
    """Keep a plan of a project with what was spent until now, for the report to compare."""
    spent = {
        name: {"texts": cost.texts, "seconds": cost.seconds, "tokens": cost.prompt_tokens + cost.completion_tokens}
        for name, cost in signals.costs(store, project.id).items()
    }
    notes.write(store, project.id, **{notes.PLAN: made.as_json() | {"at": now(), "spent": spent}})


def compare(store: Store, project: Project) -> dict[str, Any]:
    """How far off the last plan of a project was so far: figures by annotator, and `lines`; empty without a plan."""
    note = notes.read(store, project.id, [notes.PLAN]).get(notes.PLAN)
    if note is None:
        return {}
    body, lines, by_name = note.body, list[str](), dict[str, Any]()
    day = body["at"][:10]
    for name, cost in signals.costs(store, project.id).items():
        promised, before = body["speeds"].get(name), body["spent"].get(name, {"texts": 0, "seconds": 0.0, "tokens": 0})
        texts = cost.texts - before["texts"]
        if promised is None or texts <= 0:
            continue
        seconds = (cost.seconds - before["seconds"]) / texts
        tokens = (cost.prompt_tokens + cost.completion_tokens - before["tokens"]) / texts
        by_name[name] = {
            "texts": texts, "seconds": seconds, "tokens": tokens,
            "seconds_off": _off(seconds, promised["seconds"]["value"]), "tokens_off": _off(tokens, promised["tokens"]),
        }  # fmt: skip
        was = _seconds(_estimate(promised["seconds"]))
        lines.append(
            f"plan of {day}: {name} was to take {was} a text; over {texts:,} texts since it "
            f"took {seconds:.3g} ({_percent(by_name[name]['seconds_off'])}), and {tokens:.3g} tokens for "
            f"{promised['tokens']:.3g} ({_percent(by_name[name]['tokens_off'])})"
        )
    if not lines:
        lines.append(f"plan of {day}: nothing has been read since, so there is nothing to compare")
    return {"at": body["at"], "annotators": by_name, "lines": lines}


def _from_ledger(days: Sequence[Cost]) -> Speed:
    seconds = ratio(np.array([day.seconds for day in days]), np.array([day.texts for day in days], float))
    texts = sum(day.texts for day in days)
    tokens = sum(day.prompt_tokens + day.completion_tokens for day in days) / texts
    return Speed(
        seconds, tokens, texts, f"this project's own ledger, {len(days)} {'day' if len(days) == 1 else 'days'}"
    )


def _panel(panel: Sequence[AnnotatorConfig], speeds: Mapping[str, Speed], given: Given) -> Way:
    """What is paid by the token runs elsewhere, beside what runs on the machines."""
    labels = f" and {given.labels:,} labels" if given.labels else ""
    name = f"the panel ({len(panel)} LLMs){labels}"
    people = _people_hours(given, given.labels)
    if any(config.name not in speeds for config in panel):
        return Way(name, people=people)
    asked = given.tasks * given.decisions
    here = [config for config in panel if not config.price_per_mtok]
    paid = [config for config in panel if config.price_per_mtok]
    machine = total(*(speeds[config.name].seconds.times(asked / HOUR) for config in here))
    apart = [speeds[config.name].seconds.times(asked / HOUR) for config in paid]
    hours = max([machine.times(1 / given.gpus), *apart], key=lambda one: one.value)
    tokens = sum(speeds[config.name].tokens for config in panel) * asked
    bills = [speeds[config.name].tokens * asked * config.price_per_mtok / MILLION for config in paid]
    money = None
    if (not here or given.gpu_hour is not None) and (not given.labels or _paid(given)):
        fixed = sum(bills) + (people or 0.0) * (given.people_hour or 0.0)
        money = total(machine.times(given.gpu_hour or 0.0), Estimate(fixed, fixed, fixed))
    return Way(name, hours, machine if here else None, tokens, people, money)


def _endpoint(panel: Sequence[AnnotatorConfig], speeds: Mapping[str, Speed], given: Given) -> Way:
    """One decision endpoint alone: at the tokens that a decision server was seen to count, else an LLM of the panel."""
    known = sorted(
        (config for config in panel if config.name in speeds and speeds[config.name].tokens),
        key=lambda config: config.runtime != "decisions",
    )
    if not known:
        return Way(f"a decision endpoint at {given.million_tokens:g} a million tokens")
    config = known[0]
    asked, one = given.tasks * given.decisions, speeds[config.name]
    money = one.tokens * asked * (given.million_tokens or 0.0) / MILLION
    hours = one.seconds.times(asked / HOUR) if config.runtime == "decisions" else None
    name = f"a decision endpoint at {given.million_tokens:g} a million tokens, as many as {config.name} reads"
    return Way(name, hours, None, one.tokens * asked, None, Estimate(money, money, money))


def _people(given: Given) -> Way:
    hours = _people_hours(given, given.tasks)
    money = None if hours is None or given.people_hour is None else hours * given.people_hour
    return Way("people alone", people=hours, money=None if money is None else Estimate(money, money, money))


def _people_hours(given: Given, labels: int) -> float | None:
    return None if given.people_seconds is None else labels * given.people_seconds / HOUR


def _paid(given: Given) -> bool:
    return given.people_seconds is not None and given.people_hour is not None


def _untold(panel: Sequence[AnnotatorConfig], given: Given) -> list[str]:
    """Which options would fill a dash."""
    found = []
    if given.gpu_hour is None and any(not config.price_per_mtok for config in panel):
        found.append("what a machine costs was not said: --price-per-gpu-hour")
    if not _paid(given):
        found.append("what people cost was not said: --people-seconds a label, --people-price an hour")
    return found


def _written(kept: Bookkeeping, size: float, answers: int, reading: Way) -> list[str]:
    """How large the store becomes, and whether it keeps up with the reading."""
    writing = kept.seconds.times(answers / HOUR)
    rows = f"{1 / kept.seconds.value:,.0f} answers a second"
    lines = [
        f"the database grows to {size / GB:.3g} GB ({kept.text_bytes:,.0f} bytes a task with its prediction, "
        f"{kept.answer_bytes:,.0f} an answer; {kept.source})",
        f"writing {answers:,} answers takes {_hours(writing)} of one writer, at {rows}",
    ]
    if reading.hours is not None and reading.hours.value:
        needed = answers / reading.hours.value / HOUR
        bound = " : the store is what limits it" if writing.value > reading.hours.value else ""
        lines[1] += f"; the reading brings {needed:,.3g} a second{bound}"
    return lines


def _hours(one: Estimate) -> str:
    return f"{one.value:,.3g} h{interval(one)}"


def _seconds(one: Estimate) -> str:
    return f"{one.value:.3g} s{interval(one)}"


def interval(one: Estimate) -> str:
    """Such as " (1.2 to 1.4)"; "" where there is none, or nothing in it."""
    if not math.isfinite(one.low) or not one.high > one.low:
        return ""
    return f" ({one.low:,.3g} to {one.high:,.3g})"


def _long(one: Speed) -> str:
    return "" if one.characters is None else f" of {one.characters:.0f} characters"


def _amount(tokens: float) -> str:
    return f"{tokens:.3g}" if tokens else "no counted"


def _off(actual: float, promised: float) -> float | None:
    return actual / promised - 1 if promised else None


def _percent(off: float | None) -> str:
    return "not promised" if off is None else f"{off:+.0%}"


def _plain(one: Estimate | None) -> dict[str, float | None] | None:
    if one is None:
        return None
    return {
        "value": one.value,
        **{what: x if math.isfinite(x) else None for what, x in (("low", one.low), ("high", one.high))},
    }


def _estimate(row: Mapping[str, float | None]) -> Estimate:
    low, high = (float("nan") if row[what] is None else float(row[what] or 0.0) for what in ("low", "high"))
    return Estimate(float(row["value"] or 0.0), low, high)
