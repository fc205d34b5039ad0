"""A GGUF file in llama.cpp's own server, on this machine: models at 4 bit, where `transformers` would need 16 or 32.

`mollm up` starts the server and knows its `url`; a panel file may name the `url` of a server of one's own. What is
asked is what `openai` asks: the exact shares of the labels from one prefill (`_biased_tokens`).
"""

from __future__ import annotations

from mollm.annotators.openai import OpenAI
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable


class LlamaCpp(OpenAI):
    """One GGUF file, served under the name by which `model` gives it."""

    runtime = "llama_cpp"

    @staticmethod
    def no_server(config: AnnotatorConfig) -> AnnotatorUnavailable:
        """`mollm up` would start it, so it may come: texts wait for it."""
        return AnnotatorUnavailable(
            f"{config.name}: no llama.cpp server runs for {config.model}: start `mollm up`, or give the `url` of "
            "a server of your own in the panel file."
        )
