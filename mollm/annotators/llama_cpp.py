"""A GGUF file in llama.cpp's own server, on this machine: models at 4 bit, where `transformers` would need 16 or 32.

`mollm up` starts the server and knows its `url`; a panel file may name the `url` of a server of one's own. What is
asked is what `openai` asks: the exact shares of the labels from one prefill (`_biased_tokens`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from mollm.annotators.openai import OpenAI
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable
from mollm.prompts import Shot
from mollm.records import LabelSet


class LlamaCpp(OpenAI):
    """One GGUF file, served under the name by which `model` gives it."""

    runtime = "llama_cpp"

    def __init__(
        self,
        config: AnnotatorConfig,
        labels: LabelSet,
        instruction: str,
        shots: Sequence[Shot],
        models_dir: Path,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not config.url:
            raise AnnotatorUnavailable(
                f"{config.name}: no llama.cpp server runs for {config.model}: start `mollm up`, or give the `url` of "
                "a server of your own in the panel file."
            )
        super().__init__(config, labels, instruction, shots, models_dir, transport, sleep)
