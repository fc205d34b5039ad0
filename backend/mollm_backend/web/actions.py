"""The buttons of the pages: a POST is checked and queued, and the browser goes back to the page, which says so."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Flask, redirect, request
from werkzeug.wrappers import Response

from mollm_backend.web import security
from mollm_backend.web.shared import Web
from mollm_backend.work import actions, workers
from mollm_backend.work.actions import Asked

# By the key that the address of the page carries after an action: what the page then says.
SAID = {
    "asked": "Asked for. A worker does it when it is free; a line under “What happened” then says how it went.",
    "again": "This was asked for already and still waits for a worker.",
    "waits": "Asked for, but no worker is running: start `mollm up` within the hour, or ask again then.",
}


def said(key: str | None) -> str:
    """What a page says after an action; "" for no key, or for one that is none of ours."""
    return SAID.get(key or "", "")


def install(app: Flask, web: Web) -> None:
    """POST /projects/N/ACTION for all actions."""

    @app.post("/projects/<int:project_id>/<action>")
    def act(project_id: int, action: str) -> Response:
        user = (request.authorization.username if request.authorization else "") or ""
        security.check_action(web.settings, request, user, security.today())
        web.project(project_id)
        subject = request.form.get(actions.SUBJECTS.get(action, ""), "").strip()
        asked = Asked(project_id, action, subject, user)
        actions.check(web.store, web.connection, asked)
        fresh = actions.queue(web.connection, asked)
        key = "waits" if not workers.every(web.connection) else "asked" if fresh else "again"
        return redirect(f"/projects/{project_id}?{urlencode({'said': key})}", 303)
