"""A real worker whose recorded LLM answers any text alike. Run as a script: the seconds that a text takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from mollm.annotators import Answer, recording
from mollm_backend.cli.worker import worker

SECONDS = float(sys.argv[1])


def alike(_annotator: recording.RecordedAnnotator, texts: Sequence[str]) -> list[Answer]:
    time.sleep(SECONDS * len(texts))
    return [Answer(np.array([0.4, 0.6]), np.array([0.4, 0.6]))] * len(texts)


if __name__ == "__main__":
    recording.RecordedAnnotator.annotate_batch = alike  # type: ignore[method-assign]
    worker()
