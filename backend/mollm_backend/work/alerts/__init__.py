"""Alerts: what somebody should know who looks at no page, told by a webhook or by mail. Off until a way is set."""

from __future__ import annotations

from mollm_backend.settings import Settings
from mollm_backend.work.alerts.mail import Mail
from mollm_backend.work.alerts.message import Way
from mollm_backend.work.alerts.webhook import Webhook


def ways(settings: Settings) -> list[Way]:
    """The ways that are set. Raises ConfigError for one that is set and cannot work."""
    found: list[Way | None] = [Webhook.of(settings), Mail.of(settings)]
    return [way for way in found if way is not None]
