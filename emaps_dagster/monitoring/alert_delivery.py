"""Telling people: a webhook in Slack's format, and e-mail. What is told, and when, is upkeep/.

The addresses hold secrets: no error of here repeats one.
"""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import requests
from pydantic import SecretStr

from emaps_dagster.contracts.errors import AlertError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.monitoring.incident_messages import without_secrets

_SECONDS = 10.0


def channels(settings: Settings) -> list[str]:
    """By which ways people are told: webhook, email."""
    return [*(["webhook"] if settings.alert_webhook else []), *(["email"] if settings.alert_email else [])]


def send_alert(settings: Settings, way: str, subject: str, text: str) -> None:
    """Send a message by one way.

    Raises:
        AlertError: it did not work; what to look at is said.
    """
    smtp = settings.alert_smtp.get_secret_value() if settings.alert_smtp else ""
    secrets = [s.get_secret_value() for s in (settings.api_token, settings.alert_webhook) if s]
    secrets += [unquote(urlsplit(smtp).password or "")]
    subject, text = without_secrets(subject, secrets), without_secrets(text, secrets)
    problem = None
    if way == "webhook" and settings.alert_webhook:
        problem = _webhook(settings.alert_webhook, f"*{subject}*\n{text}")
    elif way == "email" and settings.alert_email:
        problem = _email(smtp, settings.alert_email, settings.alert_from, subject, text)
    if problem:
        raise AlertError(problem)


def _webhook(url: SecretStr, text: str) -> str | None:
    """What did not work, without the address: it is a secret."""
    try:
        answer = requests.post(url.get_secret_value(), json={"text": text}, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        return f"EMAPS_ALERT_WEBHOOK gave no answer ({type(error).__name__}): check the address and the network."
    if not answer.ok or answer.is_redirect:
        return f"EMAPS_ALERT_WEBHOOK answered HTTP {answer.status_code}: check the address; the webhook may be revoked."
    return None


def _email(smtp: str, to: tuple[str, ...], sender: str | None, subject: str, text: str) -> str | None:
    server = urlsplit(smtp)
    message = EmailMessage()
    message["Subject"], message["To"] = subject, ", ".join(to)
    message["From"] = sender or to[0]
    message.set_content(text)
    host = server.hostname or ""
    trusted = ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(host, server.port or 465, timeout=_SECONDS, context=trusted)
            if server.scheme == "smtps"
            else smtplib.SMTP(host, server.port or 25, timeout=_SECONDS)
        ) as mail:
            if server.scheme == "smtp" and mail.has_extn("starttls"):
                mail.starttls(context=trusted)
            if server.username:
                mail.login(unquote(server.username), unquote(server.password or ""))
            mail.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        return f"EMAPS_ALERT_SMTP did not take the message ({type(error).__name__}): check host, port and password."
    return None
