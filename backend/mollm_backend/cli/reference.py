"""The published code's way of asking an LLM, for a comparison of speed: nothing else in the product uses it.

One text at a time: a forward pass for the label distribution, then T calls of `generate`, each of which reads the
whole prompt again (method.md 3a). At most six new tokens a call, where the published code allows 800.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mollm.errors import ConfigError, ModelFileError
from mollm.prompts import build_prompt, load_template
from mollm.records import LabelSet

NEW_TOKENS = 6


def seconds_of_reference(
    model_dir: Path,
    texts: Sequence[str],
    labels: LabelSet,
    instruction: str,
    *,
    samples: int,
    temperature: float = 0.7,
    top_p: float = 0.9,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> float:
    """Wall seconds for `texts` after one warm-up text; loading is not counted. `done` is called after each text.

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
        for _ in range(samples):
            model.generate(
                **inputs, do_sample=True, temperature=temperature, top_p=top_p, top_k=0, max_new_tokens=NEW_TOKENS,
                pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip

    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        ask(texts[0])
        started = time.perf_counter()
        for text in texts:
            ask(text)
            done()
        return time.perf_counter() - started
