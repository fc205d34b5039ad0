"""Configuration of the core: frozen, read once at the edge; an unknown key is an error, never dropped."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mollm.errors import ConfigError

COLD_FIRST, COLD_STEP, COLD_UNTIL = 20, 10, 50
"""The cold start (mollm.mixture.cold_start), in human labels: that many at random, then so many a refit, until then."""


def refit_after(human: int, refit_every: int) -> int:
    """New human labels that start a refit when there are `human`: the cold start's few where that is sooner."""
    if human > COLD_UNTIL:
        return refit_every
    return min(refit_every, COLD_FIRST if human < COLD_FIRST else COLD_STEP)


class Frozen(BaseModel):
    """A configuration that never changes once it is read, and knows every one of its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file. Raises ConfigError with the place and the reason, OSError where it cannot be opened."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}.") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(f"{path}: {place}: {first['msg']}.") from None


class AnnotatorConfig(Frozen):
    """One LLM of the panel. `runtime` is the name of a file in `mollm/annotators/`."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    runtime: str = "transformers"
    model: str = Field(
        min_length=1,
        description="directory, package, id on a hub (`org/name`; for llama_cpp `org/name/FILE.gguf`), GGUF file, or "
        "served model name",
    )
    revision: str = Field(
        "", description="of a hub's model; elsewhere change it when the model has changed: it is asked again"
    )
    url: str | tuple[str, ...] | None = Field(
        None,
        description="the server's address, for the runtimes `openai` and `decisions`, and for `llama_cpp` where the "
        "server is not ours; also a list of servers of the same model, started alike",
    )
    api_key_env: str | None = Field(None, description="name of the environment variable that holds the key")
    mode: Literal["score", "sample"] = "score"
    prompt: str = Field("chat", description="`chat`, `plain`, or the path of a template (a TOML file)")
    coding: Literal["auto", "codes", "labels"] = "auto"
    shots: int = Field(0, ge=0, description="few-shot examples a label in a plain prompt")
    orders: int = Field(0, ge=0, description="label orders to average; 0: as the measured position bias asks")
    prior: Literal["none", "content_free"] = "none"
    votes: Literal["exact", "closed"] = Field(
        "exact", description="exact: every way to write a label counts, asked further where that matters; "
        "closed: from the labels' own tokens alone, never more than they need",
    )  # fmt: skip
    samples: int = Field(10, ge=1)
    temperature: float = Field(0.7, gt=0)
    top_p: float = Field(0.9, gt=0, le=1)
    batch_size: int = Field(16, ge=1)
    max_tokens: int = Field(1024, ge=64, description="the model's window in tokens")
    windows: int = Field(
        4, ge=1, description="most parts (2, 4, 8) in which a text longer than the window is read; 1: it is cut"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: a card where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the weights; auto: bfloat16 where the device computes with it, else float32"
    )
    concurrency: int = Field(
        32, ge=1, description="most requests at once to one server; how many it bears is found out"
    )
    timeout: float = Field(60.0, gt=0, description="seconds that the slowest answer may take")
    delay: float = Field(0.0, ge=0, description="seconds that each call of a recording takes, as an LLM's would")
    price_per_mtok: float = Field(0.0, ge=0)

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of `url`; none where there is none."""
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    @model_validator(mode="before")
    @classmethod
    def _recordings_name_their_annotator(cls, data: object) -> object:
        """`directory` means `directory#name`: two annotators of one recording are two models."""
        if isinstance(data, dict) and data.get("runtime") == "recording" and "#" not in str(data.get("model", "#")):
            return data | {"model": f"{data['model']}#{data.get('name', '')}"}
        return data


class PanelConfig(Frozen):
    """The panel: M annotators, in the order of the M axis."""

    annotators: tuple[AnnotatorConfig, ...] = Field(min_length=1)
    instruction: str = "Classify the text."
    about: str = Field("", description="one line: what the panel needs and whom it suits")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [annotator.name for annotator in self.annotators]
        if len(set(names)) < len(names):
            raise ValueError("two annotators share a name")
        return self

    @classmethod
    def load(cls, path: Path) -> PanelConfig:
        """Read a panel's TOML file. Raises ConfigError with the place and the reason."""
        try:
            return cls.from_toml(path)
        except FileNotFoundError:
            raise ConfigError(f"There is no panel file at {path}: create it or correct the setting.") from None


class LoopConfig(Frozen):
    """How a round is run. Defaults were chosen on seeds 0-49 of the recordings (docs/measurements.md)."""

    aggregator: str = "auto"
    strategy: str = "discrepancy"
    batch_size: int = Field(50, ge=1)
    reserve: int = Field(200, ge=0)
    refit_every: int = Field(50, ge=1, description="new human labels that start a refit")
    classifier: Literal["auto", "none", "head", "top", "full"] = "auto"
    encoder: str = "all-MiniLM-L6-v2"  # the caller loads it; here it is part of what names a version
    discrepancy_weights: Literal["auto", "on", "off"] = "auto"
    negatives: Literal["auto", "on", "off"] = "auto"
    confidence_weights: Literal["auto", "on", "off"] = "on"
    negative_precision: float = Field(0.995, gt=0, le=1)
    negative_rule: Literal["precision", "paper"] = "precision"  # "paper": its fixed threshold .001 on the mean of z
    alpha: float = Field(0.5, ge=0, le=1)
    lambda_start: float = Field(0.4, ge=0)
    lambda_end: float = Field(1.0, ge=0)
    lambda_rounds: int = Field(10, ge=1)
    seed: int = 0
