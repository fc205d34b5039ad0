"""Alerts: told once a way, again when over, never lost, never in the way of work; on real receivers."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from mollm.errors import AlertError, ConfigError
from mollm_backend.cli import app
from mollm_backend.doctor import alerts as findings
from mollm_backend.jobs import alerting
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, alerts, certificates, events, projects, signals, versions
from mollm_backend.store.alerts import Alert
from mollm_backend.work import queues
from mollm_backend.work.alerts import facts, message, ways

from ..backend.conftest import PANEL
from .receivers import Mails, Posts, mail_receiver, web_receiver


@pytest.fixture
def posts() -> Iterator[Posts]:
    with web_receiver() as kept:
        yield kept


@pytest.fixture
def mails() -> Iterator[Mails]:
    with mail_receiver() as kept:
        yield kept


def runtime(settings: Settings, store: Store, connection: redis.Redis, **values: Any) -> Runtime:
    return Runtime(settings.model_copy(update=values), store, connection)


def by_web(posts: Posts) -> dict[str, Any]:
    return {"alert_webhook": SecretStr(posts.url)}


def by_mail(mails: Mails) -> dict[str, Any]:
    return {
        "alert_mail_to": "lead@example.org, other@example.org", "smtp_host": "127.0.0.1", "smtp_port": mails.port,
        "smtp_security": "none",
    }  # fmt: skip


def back(store: Store) -> None:
    """The LLM `tiny` has answered."""
    signals.save(store, PANEL[0], 7, [], signals.Cost())


def later(connection: redis.Redis) -> None:
    """As if the pause between two messages, and each wait after a failure, had passed."""
    for key in connection.scan_iter("mollm:told:*"):
        connection.delete(key)
    for key in connection.scan_iter("mollm:hold:*"):
        connection.delete(key)


def test_nothing_is_looked_at_where_nothing_is_set(settings: Settings, store: Store, connection: redis.Redis) -> None:
    signals.mark_absent(store, "f-tiny", "down")
    alerting.check(runtime(settings, store, connection))
    assert alerts.every(store) == []


def test_an_llm_that_is_away_is_told_once_and_again_when_it_is_back(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts
) -> None:
    here = runtime(settings, store, connection, backend_url="http://mollm:9090", **by_web(posts))
    signals.mark_absent(store, "f-tiny", "the server at :8000 does not answer.")
    for _ in range(3):
        alerting.check(here)
        later(connection)
    (alert,) = posts.alerts
    assert (alert["id"], alert["state"], alert["project"]) == ("project-7-away-tiny", "begun", 7)
    assert (alert["title"], alert["page"]) == ("Pets", "http://mollm:9090/projects/7")
    assert alert["line"].startswith("tiny is away: the server at :8000 does not answer. The others go on without it")
    assert "project 7 (Pets): tiny is away" in json.loads(posts.bodies[0])["text"]
    back(store)
    for _ in range(2):
        alerting.check(here)
        later(connection)
    assert [row["state"] for row in posts.alerts] == ["begun", "over"]
    assert posts.alerts[1]["over"] >= posts.alerts[1]["since"]
    signals.mark_absent(store, "f-tiny", "down again")
    alerting.check(here)
    assert [row["state"] for row in posts.alerts] == ["begun", "over", "begun"]


def test_what_comes_together_is_told_together_and_at_most_once_a_minute(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts
) -> None:
    here = runtime(settings, store, connection, **by_web(posts))
    for fingerprint in ("f-tiny", "f-small"):
        signals.mark_absent(store, fingerprint, "down")
    alerting.check(here)
    assert len(posts.bodies) == 1
    assert len(posts.alerts) == 2
    back(store)
    alerting.check(here)
    assert len(posts.bodies) == 1
    later(connection)
    alerting.check(here)
    assert len(posts.bodies) == 2


def test_each_kind_of_fact(settings: Settings, store: Store, connection: redis.Redis, posts: Posts) -> None:
    here = runtime(settings, store, connection, **by_web(posts))
    identity = queues.job_id("train", 7)
    for _ in range(facts.KEEPS_FAILING - 1):
        queues.hold(connection, identity)
    alerting.check(here)
    assert posts.alerts == []
    queues.hold(connection, identity)
    queues.hold(connection, "train-70")
    projects.change(store, 7, options={"tokens_a_day": 1})
    spent = signals.Cost(texts=1, calls=1, prompt_tokens=5, completion_tokens=1, seconds=1.0)
    signals.save(store, PANEL[0], 7, [], spent)
    facts_then = {"gate": "refused (log-loss .5 against .4)"}
    versions.save(store, 7, versions.Version("mollm-1-a", 1, "refused", 60, facts_then), [])
    row = certificates.Certificate(
        "audit-1", 1, 900, 100, 2, 800, 0.95, 0.95, [{"label": "", "of": 900, "tasks": 900}], certificates.GRANTED
    )
    certificates.save(store, 7, row, [], last=True)
    alerting.check(here)
    lines = {alert["kind"]: alert["line"] for alert in posts.alerts}
    assert lines["failing"] == "the job train has failed 3 times in a row: `mollm doctor 7` says why."
    assert "today's budget is spent" in lines["budget"]
    assert lines["refused"].startswith("the new version mollm-1-a was refused (log-loss .5 against .4).")
    assert "with 95% confidence at least 95% of 800 tasks are right" in lines["certified"]
    certificates.withdraw(store, 7, "certificate-1", "certificate-1 is withdrawn: 9 of 20 are wrong.")
    later(connection)
    alerting.check(here)
    assert posts.alerts[-1]["kind"] == "withdrawn"
    assert posts.alerts[-1]["line"] == "certificate-1 is withdrawn: 9 of 20 are wrong."
    assert len({alert["id"] for alert in posts.alerts}) == len(posts.alerts) == 5


def test_a_disconnected_project_tells_nothing(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts
) -> None:
    signals.mark_absent(store, "f-tiny", "down")
    projects.change(store, 7, connected=False)
    alerting.check(runtime(settings, store, connection, **by_web(posts)))
    assert posts.bodies == []


def test_a_signature_proves_the_sender(settings: Settings, store: Store, connection: redis.Redis, posts: Posts) -> None:
    signals.mark_absent(store, "f-tiny", "down")
    secret = {"alert_webhook_secret": SecretStr("key")}
    alerting.check(runtime(settings, store, connection, **by_web(posts), **secret))
    expected = hmac.new(b"key", posts.bodies[0], hashlib.sha256).hexdigest()
    assert posts.headers[0]["X-Mollm-Signature"] == f"sha256={expected}"


@pytest.mark.parametrize("trouble", ["down", "refuses", "slow"])
def test_a_receiver_in_trouble_gets_it_later_and_stops_nothing(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts, trouble: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    good = posts.url
    monkeypatch.setattr("mollm_backend.work.alerts.webhook.SECONDS", 0.2)
    if trouble == "down":
        posts.url = "http://127.0.0.1:9/hook?token=secret"
    posts.status, posts.delay = (500 if trouble == "refuses" else 200), (0.5 if trouble == "slow" else 0.0)
    here = runtime(settings, store, connection, **by_web(posts))
    signals.mark_absent(store, "f-tiny", "down")
    alerting.check(here)
    alerting.check(here)  # it waits: no second try at once
    (line,) = [event.line for event in events.newest(store) if event.line.startswith("alerts: ")]
    assert ("answered 500" if trouble == "refuses" else "did not answer") in line
    assert "secret" not in line
    (finding,) = findings.examine(here.settings)
    assert (finding.kind, finding.name) == ("problem", "alerts")
    time.sleep(0.6 if trouble == "slow" else 0)
    posts.status, posts.delay, posts.url = 200, 0.0, good
    posts.bodies.clear()
    later(connection)
    well = runtime(settings, store, connection, **by_web(posts))
    alerting.check(well)
    assert [alert["id"] for alert in posts.alerts] == ["project-7-away-tiny"]
    assert [row.kind for row in findings.examine(well.settings)] == ["fine"]


def test_a_death_between_sending_and_noting_tells_again_under_the_same_id(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = runtime(settings, store, connection, **by_web(posts))
    signals.mark_absent(store, "f-tiny", "down")

    def die(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(alerts, "note_told", die)
        with pytest.raises(KeyboardInterrupt):
            alerting.check(here)
    later(connection)
    alerting.check(here)
    assert [alert["id"] for alert in posts.alerts] == ["project-7-away-tiny"] * 2
    later(connection)
    alerting.check(here)
    assert len(posts.bodies) == 2


def test_what_ends_while_its_receiver_is_down_is_told_as_over(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts
) -> None:
    here = runtime(settings, store, connection, **by_web(posts))
    posts.status = 503
    signals.mark_absent(store, "f-tiny", "down")
    alerting.check(here)
    back(store)
    later(connection)
    alerting.check(here)
    posts.bodies.clear()
    posts.status = 200
    later(connection)
    alerting.check(here)
    assert [(row["id"], row["state"]) for row in posts.alerts] == [("project-7-away-tiny", "over")]


def test_an_address_that_no_mail_can_have_stops_no_sweep(
    settings: Settings, store: Store, connection: redis.Redis, mails: Mails
) -> None:
    signals.mark_absent(store, "f-tiny", "down")
    alerting.check(runtime(settings, store, connection, **by_mail(mails), alert_mail_from="a\nb@example.org"))
    (line,) = [event.line for event in events.newest(store) if event.line.startswith("alerts: ")]
    assert "unexpected ValueError" in line
    assert mails.texts == []


def test_two_workers_tell_once(settings: Settings, store: Store, connection: redis.Redis, posts: Posts) -> None:
    here = runtime(settings, store, connection, **by_web(posts))
    signals.mark_absent(store, "f-tiny", "down")
    connection.set(alerting.LOCK, "1")
    alerting.check(here)
    assert posts.bodies == []
    connection.delete(alerting.LOCK)
    alerting.check(here)
    assert len(posts.bodies) == 1


def test_mail(settings: Settings, store: Store, connection: redis.Redis, mails: Mails) -> None:
    projects.change(store, 7, title="Pets\nBcc: all@example.org é")
    signals.mark_absent(store, "f-tiny", "down")
    user = {"smtp_user": "me", "smtp_password": SecretStr("hush")}
    alerting.check(runtime(settings, store, connection, **by_mail(mails), **user))
    (mail,) = mails.parsed()
    assert mail["To"] == "lead@example.org, other@example.org"
    assert mail["From"] == "mollm@127.0.0.1"
    assert mail["Bcc"] is None
    assert mail["Subject"]
    assert "tiny is away: down." in mail.get_payload(decode=True).decode()
    assert len(mails.logins) == 1


def test_a_mail_server_that_refuses_is_said_without_the_password(
    settings: Settings, store: Store, connection: redis.Redis, mails: Mails, caplog: pytest.LogCaptureFixture
) -> None:
    mails.refuse = True
    caplog.set_level(logging.DEBUG)
    signals.mark_absent(store, "f-tiny", "down")
    user = {"smtp_user": "me", "smtp_password": SecretStr("hush")}
    here = runtime(settings, store, connection, **by_mail(mails), **user)
    alerting.check(here)
    (line,) = [event.line for event in events.newest(store) if event.line.startswith("alerts: ")]
    assert "did not take the mail (SMTPRecipientsRefused)" in line
    assert "hush" not in line + caplog.text
    mails.refuse = False
    later(connection)
    alerting.check(here)
    assert len(mails.texts) == 1


def test_a_server_without_tls_is_not_given_the_mail_where_tls_is_asked_for(settings: Settings, mails: Mails) -> None:
    (way,) = ways(settings.model_copy(update=by_mail(mails) | {"smtp_security": "starttls"}))
    with pytest.raises(AlertError, match="did not take the mail"):
        way.send(message.Message([Alert("a", 7, "test", "line", "2026-01-01T00:00")], {}))
    assert mails.texts == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A new key and a certificate of 127.0.0.1 that it has signed itself, in one file."""
    path = tmp_path / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1",
               "-keyout", str(tmp_path / "key.pem"), "-out", str(path)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "key.pem").read_bytes())
    return path


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_mail_over_tls_goes_to_a_server_whose_certificate_is_trusted_and_to_no_other(
    settings: Settings, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    one = message.Message([Alert("a", 7, "test", "line", "2026-01-01T00:00")], {})
    with mail_receiver(context) as mails:
        (way,) = ways(settings.model_copy(update=by_mail(mails) | {"smtp_security": "tls"}))
        with pytest.raises(AlertError, match="CERTIFICATE_VERIFY_FAILED"):
            way.send(one)
        assert mails.texts == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        way.send(one)
        assert len(mails.texts) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"alert_webhook": SecretStr("ftp://host/x")}, "MOLLM_ALERT_WEBHOOK is no address of http or https"),
        ({"alert_webhook": SecretStr("hooks.example.org")}, "MOLLM_ALERT_WEBHOOK is no address"),
        ({"alert_mail_to": "a@b.org"}, "MOLLM_SMTP_HOST is not"),
    ],
)
def test_wrong_settings(settings: Settings, values: dict[str, Any], said: str) -> None:
    wrong = settings.model_copy(update=values)
    with pytest.raises(ConfigError, match=said):
        ways(wrong)
    (finding,) = findings.examine(wrong)
    assert finding.kind == "problem"


def test_the_command(
    settings: Settings, store: Store, connection: redis.Redis, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    done = CliRunner().invoke(app, ["alerts"])
    assert done.exit_code == 0
    assert "No alerts are sent." in done.output
    assert CliRunner().invoke(app, ["alerts", "--test"]).exit_code == 1
    monkeypatch.setenv("MOLLM_ALERT_WEBHOOK", f"{posts.url}?token=hush")
    signals.mark_absent(store, "f-tiny", "down")
    alerting.check(runtime(settings, store, connection, **by_web(posts)))
    done = CliRunner().invoke(app, ["alerts", "--test"])
    assert done.exit_code == 0, done.output
    assert "the test was taken" in done.output
    assert "tiny is away" in done.output
    assert "hush" not in done.output
    assert posts.alerts[-1]["kind"] == "test"
    posts.status = 404
    done = CliRunner().invoke(app, ["alerts", "--test", "--json"])
    assert done.exit_code == 1
    assert "answered 404" in json.loads(done.stdout)["failed"]["webhook"]


def test_thousands_of_old_alerts_cost_little(store: Store) -> None:
    rows = [Alert(f"project-7-refused-{n}", 7, "refused", "line", f"2026-01-{n % 28 + 1:02}") for n in range(2000)]
    alerts.keep(store, rows, facts.LASTING)
    alerts.note_told(store, "webhook", rows[:5])
    assert len(alerts.untold(store, "webhook")) == 1995
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alerts WHERE over_at = ''")).scalar() == 2000
