"""Alert delivery: a webhook in Slack's format, and e-mail. `incidents` decides which alerts are sent, and when.

The addresses hold secrets: no error of this module repeats one.
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
from emaps_dagster.monitoring.alert_texts import without_secrets

_TIMEOUT_SECONDS = 10.0


def channels(settings: Settings) -> list[str]:
    """The configured delivery channels: webhook, email."""
    return [*(["webhook"] if settings.alert_webhook else []), *(["email"] if settings.alert_email else [])]


def send_alert(settings: Settings, channel: str, subject: str, text: str) -> None:
    """Send a message through one channel.

    Raises:
        AlertError: the delivery failed; the message names the setting to check.
    """
    smtp = settings.alert_smtp.get_secret_value() if settings.alert_smtp else ""
    secrets = [s.get_secret_value() for s in (settings.api_token, settings.alert_webhook) if s]
    secrets += [unquote(urlsplit(smtp).password or "")]
    subject, text = without_secrets(subject, secrets), without_secrets(text, secrets)
    problem = None
    if channel == "webhook" and settings.alert_webhook:
        problem = _webhook(settings.alert_webhook, f"*{subject}*\n{text}")
    elif channel == "email" and settings.alert_email:
        problem = _email(smtp, settings.alert_email, settings.alert_from, subject, text)
    if problem:
        raise AlertError(problem)


def _webhook(url: SecretStr, text: str) -> str | None:
    """Post the text; returns the failure, without the address, which is a secret."""
    try:
        response = requests.post(
            url.get_secret_value(), json={"text": text}, timeout=_TIMEOUT_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        return f"EMAPS_ALERT_WEBHOOK gave no answer ({type(error).__name__}): check the address and the network."
    if not response.ok or response.is_redirect:
        return (
            f"EMAPS_ALERT_WEBHOOK answered HTTP {response.status_code}: check the address; the webhook may be revoked."
        )
    return None


def _email(smtp: str, to: tuple[str, ...], sender: str | None, subject: str, text: str) -> str | None:
    """Send the mail; returns the failure, without the address of the server."""
    server = urlsplit(smtp)
    message = EmailMessage()
    message["Subject"], message["To"] = subject, ", ".join(to)
    message["From"] = sender or to[0]
    message.set_content(text)
    host = server.hostname or ""
    tls = ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(host, server.port or 465, timeout=_TIMEOUT_SECONDS, context=tls)
            if server.scheme == "smtps"
            else smtplib.SMTP(host, server.port or 25, timeout=_TIMEOUT_SECONDS)
        ) as mail:
            if server.scheme == "smtp" and mail.has_extn("starttls"):
                mail.starttls(context=tls)
            if server.username:
                mail.login(unquote(server.username), unquote(server.password or ""))
            mail.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        return f"EMAPS_ALERT_SMTP did not take the message ({type(error).__name__}): check host, port and password."
    return None
