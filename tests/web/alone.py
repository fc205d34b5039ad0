"""The web part as its image has it: a process that can import the packages of web.txt and no others asks every route.

python -m tests.web.alone PROJECT    # settings come from the environment; prints {"GET /health": 200, ...}
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import sys
from base64 import b64encode
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "backend" / "mollm_backend" / "locks" / "web.txt"
HOOK = {"X-Mollm-Secret": "hook"}
BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode()}


def plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class OnlyLocked:
    """Refuses every installed distribution that the lock does not name; the standard library goes through."""

    def __init__(self) -> None:
        locked = {plain(name) for name in re.findall(r"^([a-z0-9._-]+)==", LOCK.read_text(), flags=re.MULTILINE)}
        self.refused = {
            module
            for module, owners in importlib.metadata.packages_distributions().items()
            if not {plain(owner) for owner in owners} & (locked | {"mollm"})
        } - {"tests"}  # several distributions leave one beside their package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self.refused:
            raise ModuleNotFoundError(f"No module named {name!r}: it is not in web.txt", name=name)
        return None


def main(project: int) -> None:
    sys.meta_path.insert(0, OnlyLocked())
    for module in ("gunicorn.workers.gthread", "mollm_backend.cli.web", "mollm_backend.cli.migrate"):
        importlib.import_module(module)  # its command, and what gunicorn loads
    from mollm_backend import settings
    from mollm_backend.web.app import create_app

    client = create_app(settings.load()).test_client()
    described = client.get("/openapi.json", headers=BASIC).get_json()["paths"]
    bodies: dict[str, object] = {
        "/predict": {"tasks": [{"id": 1, "data": {"text": "meow"}}], "project": f"{project}.1"},
        "/setup": {"project": f"{project}.1", "schema": "<View/>"},
        "/webhook": {"action": "ANNOTATION_CREATED", "project": {"id": project}, "task": {"id": 1}},
    }
    said = {}
    page = client.get(f"/projects/{project}", headers=BASIC | {"Accept": "text/html"}).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf is not None
    form = {"csrf": csrf[1]}
    for path, methods in described.items():
        for method in methods:
            asked = path.format(project_id=project, action="train", name="mollm.css")
            body = {"json": bodies[path]} if path in bodies else {"data": form} if method == "post" else {}
            headers = (HOOK if path == "/webhook" else BASIC) | {"Accept": "text/html"}
            answer = client.open(asked, method=method.upper(), headers=headers, **body)
            said[f"{method.upper()} {path}"] = answer.status_code
    print(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]))
