"""A Hugging Face model in memory: where its files are, how it is loaded, and one copy for all who use it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from mollm.config import AnnotatorConfig
from mollm.devices import cpu_has_bfloat16
from mollm.errors import ConfigError, ModelFileError


class Loaded:
    """A model in memory, shared by the annotators that use it. It is freed when the last of them is closed."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        # transformers 5.24 names the argument `cache`; what it was named before goes with 5.40.
        self.cache_name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


_loaded: WeakValueDictionary[tuple[str, str, str, int], Loaded] = WeakValueDictionary()


def load(config: AnnotatorConfig, models_dir: Path) -> tuple[Any, Loaded]:
    """(torch, the model with its tokenizer). Raises ConfigError without torch, ModelFileError for a broken model."""
    try:
        import torch
    except ImportError as error:
        raise ConfigError(f"Runtime `transformers` needs `pip install mollm[torch]` ({error}).") from None
    path = present(config, models_dir)
    device = device_of(config)
    dtype = dtype_of(config, device)
    key = str(path), device, dtype, (path / "config.json").stat().st_mtime_ns
    loaded = _loaded.get(key)
    if loaded is None:
        loaded = _loaded[key] = _read(config, path, device, getattr(torch, dtype))
    return torch, loaded


def _read(config: AnnotatorConfig, path: Path, device: str, dtype: Any) -> Loaded:
    """Load model and tokenizer from their files and move the model to its device."""
    try:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise ConfigError(f"Runtime `transformers` needs `pip install mollm[torch]` ({error}).") from None
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(
            f"{config.name}: the model in {path} cannot be loaded ({error}): remove the directory, it is fetched again."
        ) from None
    try:
        return Loaded(model.to(device).eval(), tokenizer)
    except (AssertionError, RuntimeError) as error:  # what torch raises for a missing or a full device
        raise ConfigError(f"{config.name}: the model does not go to device {device!r} ({error}).") from None


def directory(config: AnnotatorConfig, models_dir: Path) -> Path:
    """In `models_dir`, at its revision where that was fetched, or anywhere."""
    names = (f"{config.model}@{config.revision}", config.model) if config.revision else (config.model,)
    inside = next((models_dir / name for name in names if (models_dir / name).is_dir()), None)
    return inside or Path(config.model).expanduser()


def present(config: AnnotatorConfig, models_dir: Path) -> Path:
    """The model's `directory`. Raises ModelFileError where no model is in it."""
    path = directory(config, models_dir)
    if not (path / "config.json").is_file():
        raise ModelFileError(f"{config.name}: there is no model {config.model!r} in {models_dir}: run `mollm doctor`.")
    return path


def device_of(config: AnnotatorConfig) -> str:
    """The device of the model: as configured; for `auto` the first GPU if there is one, else the CPU."""
    if config.device != "auto":
        return config.device
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(config: AnnotatorConfig, device: str) -> str:
    """The number type: as configured; for `auto` bfloat16 where the device computes with it, else float32."""
    if config.dtype != "auto":
        return config.dtype
    return "bfloat16" if device != "cpu" or cpu_has_bfloat16() else "float32"
