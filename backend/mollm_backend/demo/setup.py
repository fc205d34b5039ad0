"""What must be installed before the demo starts: Label Studio's environment, the models, the texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mollm_backend import packages, served
from mollm_backend.demo import texts
from mollm_backend.settings import Settings
from mollm_backend.supervisor import label_studio, llama_cpp, parts
from mollm_backend.supervisor.processes import Family, Program
from mollm_backend.wheels import Tell

STILL_AT_IT = 20.0  # seconds without a new line, after which a step's running time is printed; a guess


@dataclass
class Setup:
    """Installs and downloads what is missing in `home` and `models`. Each step is a child of `family`."""

    home: Path
    models: Path
    family: Family
    tell: Tell
    names: tuple[str, ...]
    with_label_studio: bool
    with_llama_cpp: bool = False
    _told: dict[str, tuple[float, int]] = field(default_factory=dict)

    @classmethod
    def for_panel(cls, settings: Settings, family: Family, tell: Tell) -> Setup:
        """What the worker needs: the panel's models and the encoder, as far as they can be fetched."""
        panel = settings.panel_config().annotators
        names = dict.fromkeys(map(packages.to_fetch, panel)) | dict.fromkeys([settings.encoder])
        return cls(
            settings.home, settings.models_dir, family, tell, tuple(filter(packages.can_fetch, names)),
            with_label_studio=False, with_llama_cpp=bool(served.wanted(panel)),
        )  # fmt: skip

    @classmethod
    def for_demo(cls, settings: Settings, family: Family, tell: Tell) -> Setup:
        """The same, with Label Studio and the demo's texts."""
        panel = cls.for_panel(settings, family, tell)
        return replace(panel, names=(texts.CORPUS, *panel.names), with_label_studio=True)

    def is_done(self) -> bool:
        studio, llama = label_studio.environment(self.home), llama_cpp.environment(self.home)
        return (
            (not self.with_label_studio or studio.is_installed())
            and (not self.with_llama_cpp or llama.is_installed())
            and not self.missing()
        )

    def complete(self, then: Callable[[], None] = lambda: None) -> None:
        """Install Label Studio and the models at the same time; `then` is called when Label Studio is installed."""
        lanes = [self._models()] + ([self._label_studio(then)] if self.with_label_studio else [])
        lanes += [self._llama_cpp()] if self.with_llama_cpp else []
        self.family.complete(*lanes, meanwhile=self.still_at_it)

    def _label_studio(self, then: Callable[[], None]) -> Iterator[Program]:
        there = label_studio.environment(self.home)
        steps = there.steps()
        if steps:
            self.tell(f"installing Label Studio {label_studio.VERSION} (once; 1 GB, about 5 minutes)")
        yield from steps
        there.mark_installed()
        then()

    def _llama_cpp(self) -> Iterator[Program]:
        there = llama_cpp.environment(self.home)
        steps = there.steps()
        if steps:
            self.tell(f"installing llama.cpp {llama_cpp.VERSION} (once; 60 MB)")
            yield from steps
            there.mark_installed()

    def _models(self) -> Iterator[Program]:
        for name in self.missing():
            yield parts.fetch(name, str(self.models), needed=name == texts.CORPUS)

    def missing(self) -> list[str]:
        """The models and texts that are not there."""
        return [name for name in self.names if not packages.is_ready(name, self.models)]

    def still_at_it(self) -> None:
        """Print the new lines of downloads. For a step without new lines, print its running time every 20 s."""
        now = time.monotonic()
        for name, child in self.family.children.items():
            if not name.startswith((parts.FETCH, label_studio.NAME, *llama_cpp.INSTALLS)):
                continue
            told_at, read_to = self._told.get(name, (child.started_at, child.log_start))
            if name.startswith(parts.FETCH) and child.log.stat().st_size > read_to:
                with child.log.open("rb") as log:
                    log.seek(read_to)
                    lines = log.read()
                for line in lines.decode(errors="replace").splitlines():
                    self.tell(line)
                self._told[name] = (now, read_to + len(lines))
            elif now - told_at >= STILL_AT_IT:
                self.tell(f"{_in_words(name)}: {now - child.started_at:.0f} s so far")
                self._told[name] = (now, read_to)


def _in_words(child: str) -> str:
    """What a child does, for people."""
    if child.startswith(parts.FETCH):
        return f"fetching {child.removeprefix(parts.FETCH)}"
    if child.startswith(llama_cpp.INSTALLS):
        return "installing llama.cpp"
    return "Label Studio starts" if child == label_studio.NAME else "installing Label Studio"
