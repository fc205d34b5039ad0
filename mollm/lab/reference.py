"""The published code's way of asking an LLM, and how far one pass lies from T samples: for `bench annotate` alone.

One text at a time: a forward pass for the label distribution, then T calls of `generate`, each of which reads the
whole prompt again (method.md 3a). At most six new tokens a call, where the published code allows 800.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mollm.annotators import Answer
from mollm.errors import ConfigError, ModelFileError
from mollm.prompts import build_prompt, load_template
from mollm.records import LabelSet
from mollm.signals import total_variation

NEW_TOKENS = 6  # in the reference's favour: the published code allows 800


@dataclass(frozen=True)
class Sampling:
    """How the published code draws its T `samples` a text (method.md 3a)."""

    samples: int
    seed: int = 0
    temperature: float = 0.7
    top_p: float = 0.9


def seconds_of_reference(
    model_dir: Path,
    texts: Sequence[str],
    labels: LabelSet,
    instruction: str,
    sampling: Sampling,
    watch: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> float:
    """Wall seconds for `texts` after one warm-up text; loading is not counted. `watch` passes the texts on.

    Raises ModelFileError where there is no model at `model_dir`, ConfigError without torch.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ConfigError(f"The reference's way needs `pip install mollm[torch]` ({error}).") from None
    if not (model_dir / "config.json").is_file():
        raise ModelFileError(f"There is no model in {model_dir}: name the directory of the served model.")
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True).eval()
    prompt = build_prompt(load_template("chat"), labels, instruction)

    def ask(text: str) -> None:
        written = tokenizer.apply_chat_template(
            prompt.messages(prompt.piece(text)), tokenize=False, add_generation_prompt=True
        )
        inputs = tokenizer(written + prompt.prefill, return_tensors="pt", add_special_tokens=False)
        model(**inputs)
        for _ in range(sampling.samples):
            model.generate(
                **inputs, do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0,
                max_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip

    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(sampling.seed)
        ask(texts[0])
        started = time.perf_counter()
        for text in watch(texts):
            ask(text)
        return time.perf_counter() - started


def vote_distance(
    scored: Sequence[Answer], sampled: Sequence[Answer], samples: int, rng: np.random.Generator
) -> dict[str, float]:
    """Mean total variation between the two vote distributions over the texts that both answered, and its noise.

    The noise is what T draws from the one-pass distribution itself would show (mean of 100 sets of draws).
    """
    both = [n for n in range(len(scored)) if scored[n].abstained == 0 and sampled[n].abstained < 1]
    if not both:
        return {"mean_total_variation": float("nan"), "sampling_noise": float("nan"), "compared": 0}
    votes = np.stack([scored[n].votes for n in both])
    drawn = np.stack([sampled[n].votes / sampled[n].votes.sum() for n in both])
    noise = total_variation(rng.multinomial(samples, votes, size=(100, len(both))) / samples, votes).mean()
    return {
        "mean_total_variation": float(total_variation(votes, drawn).mean()),
        "sampling_noise": float(noise),
        "compared": len(both),
    }
