"""Alerts: each fact is told once a way (webhook, mail), and once more when it is over.

What was told is noted after it was sent: a process that is killed in between tells it again, under the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mollm_backend.store import Store, now
from mollm_backend.store.schema import alerts

BEGUN, OVER = "begun", "over"


@dataclass(frozen=True, slots=True)
class Alert:
    """A fact worth telling. `id` is the same whenever it is told; `over_at` is "" while it lasts.

    `told`: by way, the last thing that was told of it.
    """

    id: str
    project_id: int
    kind: str
    line: str
    since: str = ""
    over_at: str = ""
    told: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return OVER if self.over_at else BEGUN


def keep(store: Store, facts: Sequence[Alert], lasting: Iterable[str]) -> None:
    """Store what is so now. What was so and is no longer, of the kinds that last, is over; a fact may come back."""
    here, lasting = {fact.id: fact for fact in facts}, set(lasting)
    with store.write() as connection:
        known = {row.id: row for row in map(_alert, connection.execute(sa.select(alerts)))}
        for fact in here.values():
            row = known.get(fact.id)
            if row is None:
                connection.execute(alerts.insert().values(_values(fact, since=fact.since or now(), told={})))
            elif row.over_at:
                told = {way: BEGUN for way, state in row.told.items() if state == BEGUN}  # it is told as never over
                connection.execute(_one(row.id).values(over_at="", line=fact.line, since=now(), told=told))
            elif row.line != fact.line:
                connection.execute(_one(row.id).values(line=fact.line))
        for row in known.values():
            if row.id not in here and row.kind in lasting and not row.over_at:
                connection.execute(_one(row.id).values(over_at=now()))


def untold(store: Store, way: str) -> list[Alert]:
    """What this way has not told yet, oldest first. What began and ended untold is told once, as over; what ended more
    than a day ago is not: the way was set later, or nobody could be reached for so long."""
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    with store.read() as connection:
        rows = [_alert(row) for row in connection.execute(sa.select(alerts).order_by(alerts.c.since, alerts.c.id))]
    past = {row.id for row in rows if row.over_at and way not in row.told and row.over_at < long_ago}
    return [row for row in rows if row.told.get(way) != row.state and row.id not in past]


def note_told(store: Store, way: str, told: Sequence[Alert]) -> None:
    """Note that this way has told these, as they were."""
    with store.write() as connection:
        for alert in told:
            row = connection.execute(sa.select(alerts).where(alerts.c.id == alert.id)).first()
            if row is not None:
                connection.execute(_one(alert.id).values(told=dict(row.told) | {way: alert.state}))


def every(store: Store, *, lasting: bool = False) -> list[Alert]:
    """All of them, newest first; `lasting`: those that are not over."""
    with store.read() as connection:
        rows = [_alert(row) for row in connection.execute(sa.select(alerts).order_by(alerts.c.since.desc()))]
    return [row for row in rows if not (lasting and row.over_at)]


def _one(identity: str) -> sa.Update:
    return alerts.update().where(alerts.c.id == identity)


def _values(alert: Alert, **values: Any) -> dict[str, Any]:
    return {"id": alert.id, "project_id": alert.project_id, "kind": alert.kind, "line": alert.line} | values


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(row.id, row.project_id, row.kind, row.line, row.since, row.over_at, dict(row.told))
