"""A real worker whose recorded LLM takes its time for a chunk and writes down what it was asked.

Run as a script: the file to write to, the seconds of a chunk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mollm.annotators import Answer, recording
from mollm.records import digest
from mollm_backend.jobs import worker

answer = recording.RecordedAnnotator.annotate_batch


def slowly(annotator: recording.RecordedAnnotator, texts: Sequence[str]) -> list[Answer]:
    asked = os.open(Path(sys.argv[1]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(asked, "".join(f"{digest(text)}\n" for text in texts).encode())
    os.close(asked)
    time.sleep(float(sys.argv[2]))
    return answer(annotator, texts)


if __name__ == "__main__":
    recording.RecordedAnnotator.annotate_batch = slowly  # type: ignore[method-assign]
    worker.main()
