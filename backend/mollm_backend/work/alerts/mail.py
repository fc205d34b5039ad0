"""Alerts by mail, over the SMTP server that is set."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Self

from mollm.errors import AlertError, ConfigError
from mollm_backend.settings import Settings
from mollm_backend.work.alerts.message import SECONDS, Message


@dataclass(frozen=True)
class Mail:
    settings: Settings
    name: str = "mail"

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        if not settings.alert_mail_to:
            return None
        if not settings.smtp_host:
            raise ConfigError("MOLLM_ALERT_MAIL_TO is set and MOLLM_SMTP_HOST is not: name the mail server.")
        return cls(settings)

    @property
    def sender(self) -> str:
        return self.settings.alert_mail_from or f"mollm@{self.settings.smtp_host}"

    def line(self) -> str:
        given = self.settings
        return f"mail to {given.alert_mail_to}, by {given.smtp_host}:{given.smtp_port} ({given.smtp_security})"

    def send(self, message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"] = " ".join(message.title.split())
        mail["From"], mail["To"] = self.sender, self.settings.alert_mail_to
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain="mollm.invalid")
        mail.set_content(message.text)
        try:
            with self._server() as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            what = f"{type(error).__name__}: {error}" if isinstance(error, ssl.SSLError) else type(error).__name__
            code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
            raise AlertError(
                f"The mail server {self.settings.smtp_host}:{self.settings.smtp_port} did not take the mail "
                f"({what}{code}): check MOLLM_SMTP_* and its log."
            ) from None

    def _server(self) -> smtplib.SMTP:
        given = self.settings
        if given.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                given.smtp_host, given.smtp_port, timeout=SECONDS, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(given.smtp_host, given.smtp_port, timeout=SECONDS)
        try:
            if given.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if given.smtp_user:
                server.login(given.smtp_user, given.smtp_password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server
