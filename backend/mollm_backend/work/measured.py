"""What was measured on this installation, in a small file of the home: the newest figures, with their date and load.

`mollm bench annotate --panel` and `mollm bench store` write it; `mollm plan` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError
from mollm.records import digest
from mollm_backend.store import now

FILE = "measured.json"
STORE = "store"
NOT_MEASURED = {
    "name",
    "price_per_mtok",
    "api_key_env",
}  # of an annotator: they change neither its speed nor its tokens


def key_of(config: AnnotatorConfig) -> str:
    """An annotator as it was measured: with another model, prompt or address, it is another one. A setting that a later
    release brings changes nothing where it is not used."""
    return digest(json.dumps(config.model_dump(exclude=NOT_MEASURED, exclude_defaults=True), sort_keys=True))


def remember(home: Path, key: str, figures: Mapping[str, Any]) -> None:
    """Keep figures under a key, in place of those before, with the date, the load of the last minute and the cores."""
    found = every(home)
    about = {"at": now()[:10], "load": round(os.getloadavg()[0], 2), "cores": os.cpu_count() or 1}
    found[key] = {**figures, **about}
    written = home / f"{FILE}.new"
    written.write_text(json.dumps(found, indent=1), encoding="utf-8")
    written.replace(home / FILE)


def every(home: Path) -> dict[str, dict[str, Any]]:
    """All figures by key; none where nothing was measured. Raises ConfigError for a file that cannot be read."""
    path = home / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): delete it, and measure anew.") from None
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise ConfigError(f"{path} holds no figures: delete it, and measure anew.")
    return found


def when(figures: Mapping[str, Any]) -> str:
    """In words: the day, and how busy the machine was."""
    return f"{figures['at']}, load {figures['load']:g} on {figures['cores']} cores"
