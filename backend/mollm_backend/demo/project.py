"""The demo's Label Studio project: it is created once, and found again at the next start."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import httpx

from mollm.errors import MollmError
from mollm_backend.demo.texts import Texts

TITLE = "mollm demo"  # in front of the texts' source, to know the project in Label Studio's list


class DemoError(MollmError):
    """Label Studio refused a call of the demo, or did not answer it."""


def label_config(labels: tuple[str, ...]) -> str:
    """A label config with one `Text` and, below it, one `Choices`."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        '<View>\n  <Text name="text" value="$text"/>\n'
        f'  <Choices name="topic" toName="text" choice="single" showInLine="true">\n{choices}\n  </Choices>\n</View>'
    )


@dataclass
class DemoProject:
    """Creates or finds the project for `texts` at `url`. Its id and the gold are stored in `home/demo`."""

    home: Path
    url: str
    token: str
    texts: Texts

    def ensure(self) -> int:
        """Create the project and its tasks if they do not exist; returns the project's id. Raises DemoError."""
        self._keep_gold()
        state = self.home / "demo" / f"project-{self.texts.key}.json"
        project = self._known(state) or self._make()
        write_private(state, {"project": project["id"]})
        if not project.get("task_number"):
            tasks = [{"text": text} for text in self.texts.texts]
            made = self._ask("POST", f"/api/projects/{project['id']}/import", tasks)
            if made.get("task_count") != len(tasks):
                raise DemoError(f"Label Studio took {made.get('task_count')} of {len(tasks)} tasks: see its log.")
        return int(project["id"])

    def _keep_gold(self) -> None:
        """Add this demo's gold to the home's gold file, which all its demo projects share."""
        path = self.home / "demo" / "gold.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["gold"]
        except (OSError, ValueError, KeyError):
            known = {}
        write_private(path, {"gold": known | self.texts.gold})

    def _known(self, state: Path) -> dict[str, Any] | None:
        """The project that an earlier start created, even if that was killed before it stored the id; else None."""
        marker = self._marker()
        try:
            number = json.loads(state.read_text(encoding="utf-8"))["project"]
            return self._ask("GET", f"/api/projects/{number}")
        except (OSError, ValueError, KeyError, DemoError):
            found = self._ask("GET", "/api/projects?page_size=1000")["results"]
            mine = [project for project in found if marker in (project.get("description") or "")]
            return mine[0] if mine else None

    def _make(self) -> dict[str, Any]:
        body = {
            "title": f"{TITLE}: {self.texts.source}"[:50],
            "description": self._marker(),
            "label_config": label_config(self.texts.labels),
            "maximum_annotations": 1,
        }
        return self._ask("POST", "/api/projects", body)

    def _marker(self) -> str:
        return f"Made by `mollm up --demo` ({self.texts.key})."

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Token {self.token}"}
        try:
            answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=120.0, trust_env=False)
            answer.raise_for_status()
            told: dict[str, Any] = answer.json()
        except httpx.HTTPStatusError as error:
            raise DemoError(f"Label Studio refused {method} {path}: {error.response.text[:300]}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise DemoError(f"Label Studio did not answer {method} {path}: {error}") from None
        return told


def write_private(path: Path, content: object) -> None:
    """Write JSON that only the user can read (0600). The file is complete, or it is not changed."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
