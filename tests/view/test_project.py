from __future__ import annotations

import json
import pathlib

import redis

from mollm_backend.store import Store, projects
from mollm_backend.view import project, render


def test_all(trained: Store, connection: redis.Redis) -> None:
    state = project.state(trained, connection, projects.get(trained, 7))
    for name, text in (
        ("state.json", json.dumps(state, indent=1)),
        ("page.html", render.project_page(state, actions=render.Actions("tok"))),
        ("report.html", render.report(state)),
    ):
        pathlib.Path("/tmp/" + name).write_text(text)
