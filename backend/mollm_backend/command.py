"""The command `mollm`, as it is installed: without the server's packages it says in one line what to install."""

import sys


def main() -> None:
    """Run the command line. Exits 1 where the extra `backend` is not installed."""
    try:
        from mollm_backend.cli import main as run
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith("mollm"):
            raise
        sys.exit(f"The command `mollm` needs the server's packages ({missing.name}): pip install 'mollm[backend]'")
    run()
