"""Alerts as a POST of JSON: for chat servers (they show `text`) and for programs (they read `alerts`)."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from mollm.errors import AlertError, ConfigError
from mollm_backend.settings import Settings
from mollm_backend.work.alerts.message import SECONDS, Message

SIGNATURE = "X-Mollm-Signature"  # sha256=<hex HMAC of the body>, where a secret is set


@dataclass(frozen=True)
class Webhook:
    """The address is a secret: with many chat servers whoever knows it may post."""

    url: SecretStr
    secret: SecretStr
    name: str = "webhook"

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        url = settings.alert_webhook.get_secret_value()
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("MOLLM_ALERT_WEBHOOK is no address of http or https: correct it, or leave it empty.")
        return cls(settings.alert_webhook, settings.alert_webhook_secret)

    def line(self) -> str:
        parts = urlsplit(self.url.get_secret_value())
        signed = "signed" if self.secret.get_secret_value() else "not signed"
        return f"webhook to {parts.scheme}://{parts.hostname}, {signed}"

    def send(self, message: Message) -> None:
        body = json.dumps(message.as_json()).encode()
        headers = {"Content-Type": "application/json"}
        if secret := self.secret.get_secret_value():
            headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        try:
            answer = httpx.post(self.url.get_secret_value(), content=body, headers=headers, timeout=SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AlertError(
                f"The webhook's receiver did not answer ({type(error).__name__}): is it running?"
            ) from None
        if not answer.is_success:
            raise AlertError(
                f"The webhook's receiver answered {answer.status_code}: see its log, or correct the address."
            )
