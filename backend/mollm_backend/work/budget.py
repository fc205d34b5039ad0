"""A project's budget: tokens, or seconds of the annotators' time, a day (UTC). What is spent stands in the ledger.

The panel asks before each chunk, so a day ends at most one chunk a worker above its limit. A paused project keeps its
labels, its trainings and its batches; only the LLMs rest, until midnight UTC or until the budget is raised.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mollm.errors import ConfigError
from mollm_backend.store import Store, events, now, signals
from mollm_backend.store.projects import Project

KEYS = ("tokens_a_day", "seconds_a_day")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a project may spend a day (0: no limit), and what it has spent today."""

    project_id: int
    tokens_a_day: int = 0
    seconds_a_day: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def paused(self) -> str:
        """Why the panel rests until midnight UTC, in words; "" where it does not."""
        spent = []
        if self.tokens_a_day and self.tokens >= self.tokens_a_day:
            spent.append(f"{self.tokens:,} of {self.tokens_a_day:,} tokens")
        if self.seconds_a_day and self.seconds >= self.seconds_a_day:
            spent.append(f"{self.seconds:,.0f} of {self.seconds_a_day:,.0f} seconds")
        if not spent:
            return ""
        return (
            f"the panel rests: today's budget is spent ({' and '.join(spent)}); it goes on at 00:00 UTC, "
            f"or when `mollm options {self.project_id} --tokens-a-day N --seconds-a-day S` raises it"
        )

    def as_json(self) -> dict[str, Any]:
        """For the status page and `--json`; `line` is for people, "" where there is no limit."""
        limits = ((self.tokens, self.tokens_a_day, "tokens"), (self.seconds, self.seconds_a_day, "seconds"))
        amounts = [f"{spent:,.0f} of {limit:,.0f} {what}" for spent, limit, what in limits if limit]
        line = self.paused or (f"{' and '.join(amounts)} spent today (UTC)" if amounts else "")
        return asdict(self) | {"paused": bool(self.paused), "line": line}


def of(store: Store, project: Project) -> Budget:
    """The project's budget as of now. Reads the ledger only where there is a limit."""
    limits = limits_of(project.options)
    if not any(limits.values()):
        return Budget(project.id)
    today = signals.costs(store, project.id, day=now()[:10]).values()
    tokens = sum(cost.prompt_tokens + cost.completion_tokens for cost in today)
    seconds = sum(cost.seconds for cost in today)
    return Budget(project.id, int(limits["tokens_a_day"]), limits["seconds_a_day"], tokens, seconds)


def state(store: Store, project: Project) -> dict[str, Any]:
    """`Budget.as_json` for a page of several projects: limits that cannot be used are a line, not an error."""
    try:
        return of(store, project).as_json()
    except ConfigError as error:
        return {"paused": False, "line": str(error)}


def limits_of(options: dict[str, Any]) -> dict[str, float]:
    """The two limits of a project's options. Raises ConfigError for one that is not a number of at least 0."""
    limits = {}
    for key in KEYS:
        value = options.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ConfigError(f"{key} is {value!r}: give a number of at least 0 (0: no limit) with `mollm options`.")
        limits[key] = float(value)
    return limits


def rests(store: Store, project: Project) -> bool:
    """Whether the panel must not ask now. The events say so once for each amount that is spent."""
    line = of(store, project).paused
    if line:
        events.add_once(store, "problem", line, project.id)
    return bool(line)
