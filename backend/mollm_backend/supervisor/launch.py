"""The first moments of every child, run as a script: record who I am, then become the program.

Only the standard library, so that it starts in milliseconds: `python -I -S launch.py RECORD NICE PARENT PROGRAM ...`.
The pid and the start time outlive `exec`, so the record is true for the program's whole life, and it is there
before the program can do anything: no `kill -9` of the supervisor leaves a child that nobody knows.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def start_mark(pid: int) -> str | None:
    """What tells this process from an earlier or later one with the same pid; None where it is gone or a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
        return None if fields[0] in "ZX" else f"ticks {fields[19]} of boot {_boot()}"
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return None if not told or told.startswith("Z") else told.partition(" ")[2].strip()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def die_with(parent: int) -> None:
    """Ask for SIGTERM when the supervisor dies (Linux); leave at once if it is already gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def main(record: str, nice: str, parent: str, *program: str) -> None:
    die_with(int(parent))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    facts = {"pid": os.getpid(), "started": start_mark(os.getpid()), "program": list(program)}
    part = Path(f"{record}.part")
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.replace(record)
    os.nice(int(nice))
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
