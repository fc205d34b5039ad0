"""The demo's Label Studio project: it is created once, and found again at the next start."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from mollm_backend.demo.texts import Texts
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioError, LabelStudioNotFound

TITLE = "mollm demo"  # in front of the texts' source, to know the project in Label Studio's list


def label_config(labels: tuple[str, ...]) -> str:
    """A label config with one `Text` and, below it, one `Choices`."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        '<View>\n  <Text name="text" value="$text"/>\n'
        f'  <Choices name="topic" toName="text" choice="single" showInLine="true">\n{choices}\n  </Choices>\n</View>'
    )


@dataclass
class DemoProject:
    """Makes or finds the project for `texts`; `home/demo` remembers which one it is, and the gold."""

    home: Path
    client: LabelStudioClient
    texts: Texts

    def ensure(self) -> int:
        """The project's id; after this its tasks are all there. Raises LabelStudioError."""
        self._keep_gold()
        state = self.home / "demo" / f"project-{self.texts.key}.json"
        number = self._known(state) or self.client.find_project(self._marker()) or self._make()
        write_private(state, {"project": number})
        if not self.client.project(number).tasks:
            made = self.client.import_tasks(number, [{"text": text} for text in self.texts.texts])
            if len(made) != len(self.texts.texts):
                raise LabelStudioError(f"Label Studio took {len(made)} of {len(self.texts.texts)} tasks", "see its log")
        return number

    def _keep_gold(self) -> None:
        """Add this demo's gold to the home's gold file, which all its demo projects share."""
        path = self.home / "demo" / "gold.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["gold"]
        except (OSError, ValueError, KeyError):
            known = {}
        write_private(path, {"gold": known | self.texts.gold})

    def _known(self, state: Path) -> int | None:
        """The project that an earlier start noted, if it is still there (a kill may have come before the note)."""
        try:
            return self.client.project(int(json.loads(state.read_text(encoding="utf-8"))["project"])).id
        except (OSError, ValueError, KeyError, LabelStudioNotFound):
            return None

    def _make(self) -> int:
        title, config = f"{TITLE}: {self.texts.source}"[:50], label_config(self.texts.labels)
        return self.client.create_project(title, config, description=self._marker(), maximum_annotations=1)

    def _marker(self) -> str:
        return f"Made by `mollm up --demo` ({self.texts.key})."


def write_private(path: Path, content: object) -> None:
    """Write JSON that only the user can read (0600). The file is complete, or it is not changed."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
