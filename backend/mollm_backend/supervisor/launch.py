"""The script that starts every child: it records its own process, and then replaces itself with the program.

It uses only the standard library, to start quickly: `python -I -S launch.py RECORD NICE PARENT PROGRAM ...`.
`exec` keeps the pid and the start time, so the record is true while the program runs. The record is written before
the program does anything: even after `kill -9` of the supervisor, every child has a record.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # from Linux's sys/prctl.h


def start_mark(pid: int) -> str | None:
    """A text that differs between processes that have the same pid one after another; None if gone or a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the program's name before it may contain blanks and brackets
        return None if fields[0] in "ZX" else f"ticks {fields[19]} of boot {_boot()}"
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return None if not told or told.startswith("Z") else told.partition(" ")[2].strip()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def die_with(parent: int) -> None:
    """On Linux, ask for a SIGTERM when the supervisor dies. Exit at once if it is dead already."""
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
        os.execvp(program[0], program)  # noqa: S606 - no shell on purpose
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
