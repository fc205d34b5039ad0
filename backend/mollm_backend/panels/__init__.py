"""Panels by name: a TOML file here, or one in `panels` of the home, is a panel that `mollm panel` and MOLLM_PANEL know.

The file's name is the panel's name; a panel of the home outranks one of the same name here.
"""

from __future__ import annotations

from pathlib import Path

from mollm.config import PanelConfig
from mollm.errors import ConfigError

DEFAULT = "tiny"
FOLDER = Path(__file__).parent


def files(home: Path) -> dict[str, Path]:
    """The file of each panel, by name."""
    return {path.stem: path for folder in (FOLDER, home / "panels") for path in sorted(folder.glob("*.toml"))}


def load(given: str, home: Path) -> PanelConfig:
    """The panel of that name, or in the file at that path; "" is the default one. Raises ConfigError."""
    known = files(home)
    named = given or DEFAULT
    if named in known:
        return PanelConfig.load(known[named])
    path = Path(named).expanduser()
    if not path.exists() and path.suffix != ".toml":
        raise ConfigError(
            f"There is no panel {named!r}: choose one of {', '.join(sorted(known))}, or give the path of a TOML file."
        )
    return PanelConfig.load(path)
