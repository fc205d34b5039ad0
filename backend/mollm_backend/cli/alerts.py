"""`mollm alerts`: where alerts go, what was told, and a test."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from mollm.errors import AlertError
from mollm_backend.cli.terminal import AsJson, open_store, say
from mollm_backend.jobs import alerting
from mollm_backend.store import alerts as stored
from mollm_backend.store.alerts import Alert
from mollm_backend.work.alerts import facts, ways

HELP = (
    "No alerts are sent. Set MOLLM_ALERT_WEBHOOK, or MOLLM_ALERT_MAIL_TO and MOLLM_SMTP_HOST, in mollm.env in the "
    "home or in the environment, and start `mollm up` again."
)


def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a test by each way that is set.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show where alerts are sent and which are open; with --test, send one and say whether it arrived."""
    loaded, store = open_store()
    found = ways(loaded)
    failed = {}
    if test:
        trial = Alert("test", 0, "test", "this is a test of mollm's alerts. Nothing is to be done.")
        for way in found:
            try:
                way.send(alerting.message(loaded, store, [trial]))
            except AlertError as error:
                failed[way.name] = str(error)
    there = stored.every(store, lasting=True)
    lasting = [alert for alert in there if alert.kind in facts.LASTING]
    if json_output:
        print(
            json.dumps({"ways": [way.line() for way in found], "failed": failed, "open": [asdict(a) for a in lasting]})
        )
    else:
        for way in found:
            told = f": {failed[way.name]}" if way.name in failed else ": the test was taken" if test else ""
            say(f"{way.line()}{told}")
        for alert in lasting:
            say(f"since {alert.since[:16]}: project {alert.project_id}: {alert.line}")
        if not found:
            say(HELP)
        elif not lasting:
            say("Nothing is wrong now.")
    if failed or (test and not found):
        raise typer.Exit(1)
