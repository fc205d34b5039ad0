"""What a way tells: one message for all that is new, with a title for a subject line and the same facts as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mollm_backend.store.alerts import OVER, Alert

SECONDS = 5.0  # for the receiver to answer: work waits for it


@dataclass(frozen=True)
class Message:
    """Alerts with their projects' titles, and the address of the backend ("" is not known)."""

    alerts: Sequence[Alert]
    titles: Mapping[int, str]
    backend: str = ""

    @property
    def title(self) -> str:
        first = self.alerts[0]
        more = f" (and {len(self.alerts) - 1} more)" if len(self.alerts) > 1 else ""
        return f"mollm: {self._where(first)}: {first.line}"[:150] + more

    @property
    def text(self) -> str:
        """A paragraph an alert: where, what, since when, and the page."""
        return "\n\n".join(self._paragraph(alert) for alert in self.alerts)

    def as_json(self) -> dict[str, Any]:
        """`text` is what chat servers show; `alerts` are for programs, each with an id that never changes."""
        return {
            "text": self.text,
            "alerts": [
                {
                    "id": alert.id, "state": alert.state, "kind": alert.kind, "project": alert.project_id,
                    "title": self.titles.get(alert.project_id, ""), "line": alert.line, "since": alert.since,
                    "over": alert.over_at or None, "page": self._page(alert) or None,
                }
                for alert in self.alerts
            ],
        }  # fmt: skip

    def _paragraph(self, alert: Alert) -> str:
        begun = f"{self._where(alert)}: {alert.line}"
        line = f"Over: {begun}" if alert.state == OVER else begun
        when = f"from {_minute(alert.since)} to {_minute(alert.over_at)}" if alert.over_at else _minute(alert.since)
        return "\n".join([line, f"{when} UTC", *([self._page(alert)] if self.backend else [])])

    def _where(self, alert: Alert) -> str:
        title = self.titles.get(alert.project_id, "")
        return f"project {alert.project_id}" + (f" ({title})" if title else "")

    def _page(self, alert: Alert) -> str:
        return f"{self.backend.rstrip('/')}/projects/{alert.project_id}" if self.backend else ""


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


class Way(Protocol):
    """How alerts reach somebody."""

    @property
    def name(self) -> str:
        """One word for it, such as `mail`."""

    def line(self) -> str:
        """Where it sends to, without secrets."""

    def send(self, message: Message) -> None:
        """Send it. Raises AlertError: it did not arrive."""
