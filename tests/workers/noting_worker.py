"""A real worker whose recorded LLM takes its time for each text and writes down what it was asked.

Run as a script: the directory to write to, the seconds of a text, the host's name or "", what `mollm worker` takes.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from mollm.annotators import Answer, recording
from mollm.records import digest
from mollm_backend.cli.worker import worker
from mollm_backend.work import workers

answer = recording.RecordedAnnotator.annotate_batch
DIRECTORY, SECONDS, HOST = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]


def slowly(annotator: recording.RecordedAnnotator, texts: Sequence[str]) -> list[Answer]:
    file = os.open(DIRECTORY / f"asked-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    name = annotator.config.name
    os.write(file, "".join(f"{name} {digest(text)}\n" for text in texts).encode())
    os.close(file)
    time.sleep(SECONDS * len(texts))
    return answer(annotator, texts)


if __name__ == "__main__":
    recording.RecordedAnnotator.annotate_batch = slowly  # type: ignore[method-assign]
    if dead_after := int(os.environ.get("TEST_DEAD_AFTER", 0)):
        workers.DEAD_AFTER, workers.BEAT = dead_after, 1
    if HOST:
        socket.gethostname = lambda: HOST
    app = typer.Typer(add_completion=False)
    app.command()(worker)
    app(sys.argv[4:])
