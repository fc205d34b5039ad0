"""Virtual environments of their own for programs that cannot share ours: installed once, from a lock, whole or not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mollm.errors import ConfigError
from mollm_backend.supervisor.processes import Program

LOCKS = Path(__file__).parents[1] / "locks"
STAMP = ".mollm-installed"


@dataclass(frozen=True)
class Environment:
    """The environment at `directory` (or a link to one) for a `package` at a `version`.

    `installs`: the name of each step and what its `pip install` is given behind the options.
    """

    directory: Path
    package: str
    version: str
    installs: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    def is_installed(self) -> bool:
        """Whether it is finished and has the right version; one that somebody else made is asked."""
        stamp = self.directory / STAMP
        if stamp.exists():
            return stamp.read_text(encoding="utf-8").strip() == self.version
        if not self.python.exists() or self._part.exists():
            return False
        asked = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        told = subprocess.run([self.python, "-c", asked], capture_output=True, text=True, check=False)
        return told.stdout.strip() == self.version

    def steps(self) -> list[Program]:
        """What to run, one after the other, to install it. Empty where it is there.

        Raises ConfigError where `directory` is something that we did not make.
        """
        if self.is_installed():
            return []
        there = self.directory
        if there.is_symlink() or (there.exists() and not (self._part.exists() or (there / STAMP).exists())):
            raise ConfigError(
                f"{there} holds no {self.package} {self.version} and was not made by mollm: move it away."
            )
        # A killed pip leaves half a package that looks whole: what is not stamped is made anew (pip's cache is kept).
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir(parents=True)
        self._part.touch()
        install = (
            str(self.python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", "--no-deps",
            "--require-hashes",
        )  # fmt: skip
        made = Program(f"{there.name}-venv", (sys.executable, "-m", "venv", str(there)))
        return [made, *(Program(name, (*install, *given), niceness=5) for name, given in self.installs)]

    def mark_installed(self) -> None:
        (self.directory / STAMP).write_text(self.version, encoding="utf-8")
        self._part.unlink(missing_ok=True)

    @property
    def _part(self) -> Path:
        return self.directory / f"{STAMP}.part"
