"""A message reaches people by webhook and by mail, waits when it cannot, and takes no secret with it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import AlertError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.sensors.alert_outbox import AlertOutbox
from emaps_dagster.monitoring.alert_delivery import channels, send_alert
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.daemon_harness import Chat

NOW = utc(2024, 5, 4, 10)


class Mailbox:
    """A mail server that keeps what it is given."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        box = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 here")
                to: list[str] = []
                while line := self.rfile.readline().strip().decode():
                    word = line.split()[0].upper()
                    if word == "RCPT":
                        to.append(line.split(":", 1)[1].strip("<>"))
                    if word == "DATA":
                        self._say("354 go on")
                        content = b""
                        while (part := self.rfile.readline()) != b".\r\n":
                            content += part
                        box.mails.append((to, content))
                    self._say("221 bye" if word == "QUIT" else "250 ok")

            def _say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"smtp://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Mailbox:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat() -> Iterator[Chat]:
    with Chat() as one:
        yield one


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as one:
        yield one


def settings(**given: object) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]  # settings of any type


def test_a_message_comes_by_webhook_in_slacks_format_and_by_mail(chat: Chat, mailbox: Mailbox) -> None:
    both = settings(
        alert_webhook=chat.url,
        alert_email="a@example.org, b@example.org",
        alert_smtp=mailbox.address,
        api_token="t0ken",
    )
    assert channels(both) == ["webhook", "email"]
    for way in channels(both):
        send_alert(both, way, "hourly failed for GR", "Zones: GR\nthey repeat t0ken")
    assert chat.messages == ["*hourly failed for GR*\nZones: GR\nthey repeat [secret]"]
    ((to, content),) = mailbox.mails
    mail = message_from_bytes(content, policy=policy.default)
    assert to == ["a@example.org", "b@example.org"]
    assert (mail["Subject"], mail["From"], mail["To"]) == (
        "hourly failed for GR",
        "a@example.org",
        "a@example.org, b@example.org",
    )
    assert mail.get_content().splitlines() == ["Zones: GR", "they repeat [secret]"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/s3cret", "https://127.0.0.1:9/s3cret"])
def test_a_webhook_that_does_not_answer_is_reported_without_its_address(address: str) -> None:
    with pytest.raises(AlertError) as caught:
        send_alert(settings(alert_webhook=address), "webhook", "x", "y")
    assert str(caught.value).startswith("EMAPS_ALERT_WEBHOOK gave no answer (")
    assert "s3cret" not in str(caught.value)


def test_a_mail_server_that_is_not_there_is_reported_without_its_password() -> None:
    with pytest.raises(AlertError) as caught:
        send_alert(settings(alert_email="a@example.org", alert_smtp="smtp://me:s3cret@127.0.0.1:9"), "email", "x", "y")
    assert str(caught.value) == (
        "EMAPS_ALERT_SMTP did not take the message (ConnectionRefusedError): check host, port and password."
    )


def test_what_cannot_be_sent_waits_and_each_way_gets_it_once(chat: Chat, mailbox: Mailbox) -> None:
    both = settings(alert_webhook=chat.url, alert_email="a@example.org", alert_smtp=mailbox.address)
    inbox = AlertOutbox.loads(None, NOW)
    inbox.queue("hourly failed", "text", channels(both))
    chat.down = True
    assert inbox.send(both) == (
        1,
        ["EMAPS_ALERT_WEBHOOK answered HTTP 500: check the address; the webhook may be revoked."],
    )
    inbox = AlertOutbox.loads(inbox.dumps(), NOW)
    chat.down = False
    assert inbox.send(both) == (1, [])
    assert inbox.send(both) == (0, [])
    assert (len(chat.messages), len(mailbox.mails)) == (1, 1)


def test_without_a_channel_nothing_is_kept() -> None:
    inbox = AlertOutbox.loads("of another release", NOW)
    inbox.queue("hourly failed", "text", channels(settings()))
    assert inbox.waiting == []


def test_no_address_is_shown() -> None:
    hidden = settings(alert_webhook="https://hooks.example.org/s3cret", alert_smtp=SecretStr("smtp://me:s3cret@host"))
    assert "s3cret" not in repr(hidden) + hidden.model_dump_json()
