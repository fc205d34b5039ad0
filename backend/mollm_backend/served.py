"""The llama.cpp servers of this home: which models of a panel need one, and where each answers.

Whoever starts them (`mollm up`, or a command for as long as it runs) notes their addresses in the home; whoever asks
their models reads them there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mollm.config import AnnotatorConfig
from mollm_backend import packages

RUNTIME = "llama_cpp"
SLOTS = 2  # texts that a server reads at once: each keeps its prompt's beginning, and more are no faster on a CPU


@dataclass(frozen=True, slots=True)
class Served:
    """A GGUF model with a server of ours: its name in the panel, for `packages`, and the longest prompt in tokens."""

    model: str
    source: str
    window: int


def wanted(panel: Iterable[AnnotatorConfig]) -> tuple[Served, ...]:
    """One for each model: members that share a model share its server."""
    found: dict[str, Served] = {}
    for config in panel:
        if config.runtime == RUNTIME and not config.url:
            source = packages.model_of(config)
            before = found.get(source)
            window = max(config.max_tokens, before.window if before else 0)
            found[source] = Served(config.model, source, window)
    return tuple(found.values())


def reached(config: AnnotatorConfig, home: Path) -> AnnotatorConfig:
    """The annotator with its server's address, where it has a server of ours and that runs; else as it is."""
    if config.runtime != RUNTIME or config.url:
        return config
    url = addresses(home).get(packages.model_of(config))
    if url is None:
        return config
    return config.model_copy(update={"url": url, "concurrency": min(config.concurrency, SLOTS)})


def addresses(home: Path) -> dict[str, str]:
    """What is noted: a model's `source` to its address. Whether it still answers is not known."""
    try:
        found: dict[str, str] = json.loads(_note(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def note(home: Path, urls: Mapping[str, str]) -> None:
    """Replace what is noted, at once."""
    path = _note(home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(dict(urls)), encoding="utf-8")
    part.replace(path)


def _note(home: Path) -> Path:
    return home / "run" / "llama-cpp.json"
