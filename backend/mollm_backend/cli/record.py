"""`mollm record`: run a panel over a project or a file and write its answers as a recording directory."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from mollm import recording
from mollm.annotators import fingerprint, open_annotator
from mollm.config import AnnotatorConfig, PanelConfig
from mollm.errors import AnnotatorUnavailable, InputError
from mollm.prompts import Shot, pick_shots
from mollm.records import FloatArray, Item, LabelSet, Signals
from mollm_backend import packages, panels, settings
from mollm_backend.cli.terminal import names_in
from mollm_backend.demo import texts as demo_texts
from mollm_backend.store import Store, audits, labels, projects, signals, tasks
from mollm_backend.supervisor import llama_cpp

console = Console(stderr=True)
CHUNK = 32  # texts between two notes: a stop loses the answers to these at most
SAMPLES = 100  # a recording keeps votes as counts: expected votes are written as shares of a hundred
Pair = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Wanted:
    """What is to be recorded. `known` holds (fingerprint, n) answers that need no LLM any more."""

    name: str
    items: tuple[Item, ...]
    labels: LabelSet
    gold: tuple[str | None, ...]
    shots: tuple[Shot, ...]
    instruction: str
    known: dict[tuple[str, int], Pair]


def record(
    out: Annotated[Path, typer.Argument(help="The recording's directory.")],
    file: Annotated[Path | None, typer.Option(help="Texts from a CSV, JSON or JSONL file.")] = None,
    project: Annotated[int | None, typer.Option(help="A connected project's number.")] = None,
    panel: Annotated[str, typer.Option(help="The panel's name or TOML file; default: the one in use.")] = "",
    label_names: Annotated[str, typer.Option("--labels", help="Labels for --file, separated by commas.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many texts; 0: all.")] = 0,
) -> None:
    """Ask every LLM of the panel for every text, and keep the answers as a recording for `mollm replay`.

    Run it again after a stop: it asks no LLM the same again. From a file with a label column, the first texts of each
    label are the prompts' few shots and are left out.
    """
    if (file is None) == (project is None):
        raise typer.BadParameter("name either --file or --project")
    loaded = settings.load()
    config = panels.load(panel or loaded.panel, loaded.home)
    if project is None:
        assert file is not None
        wanted = from_file(file, names_in(label_names), config, limit)
    else:
        wanted = from_project(Store(loaded.store_url), project, config, limit)
    answers = [_ask(loaded, annotator, wanted, out) for annotator in config.annotators]
    label_probs, votes = (np.stack([pair[k] for pair in answers], axis=1) for k in (0, 1))
    names = tuple(annotator.name for annotator in config.annotators)
    column = {name: c for c, name in enumerate(wanted.labels.names)}
    first = config.annotators[0]
    found = recording.Recording(
        wanted.name, wanted.labels, wanted.items,
        Signals(tuple(item.id for item in wanted.items), names, wanted.labels.names, label_probs, votes),
        np.array([column.get(gold or "", -1) for gold in wanted.gold], dtype=np.int64),
        SAMPLES, first.temperature, first.top_p,
    )  # fmt: skip
    recording.save(out, found, [annotator.model for annotator in config.annotators])
    for left in out.glob(".answers-*.jsonl"):
        left.unlink()
    console.print(f"{len(wanted.items)} texts by {len(names)} LLMs are in {out}")


def _ask(
    loaded: settings.Settings, config: AnnotatorConfig, wanted: Wanted, out: Path
) -> tuple[FloatArray, FloatArray]:
    """(N, C) label distributions and votes of one LLM; each chunk is noted at once, so that a stop loses one chunk."""
    asked = (wanted.labels, wanted.instruction, wanted.shots)
    print_of = fingerprint(config, *asked)
    out.mkdir(parents=True, exist_ok=True)
    notes = out / f".answers-{print_of}.jsonl"
    known = {n: pair for (owner, n), pair in wanted.known.items() if owner == print_of}
    noted = _noted(notes)  # by text: tasks may have come and gone since an earlier run
    known |= {n: noted[item.text_key] for n, item in enumerate(wanted.items) if item.text_key in noted}
    todo = [n for n in range(len(wanted.items)) if n not in known]
    if todo:
        if model := packages.to_fetch(config):
            packages.ensure_model(model, loaded.models_dir, console.print)
        with (
            llama_cpp.lent(loaded, config, console.print) as reached,
            open_annotator(reached, *asked, loaded.models_dir) as annotator,
            notes.open("a", encoding="utf-8") as lines,
            Progress(console=console) as progress,
        ):
            console.print(annotator.describe())
            bar = progress.add_task(config.name, total=len(wanted.items), completed=len(known))
            for start in range(0, len(todo), CHUNK):
                chunk = todo[start : start + CHUNK]
                for n, answer in zip(
                    chunk, annotator.annotate([wanted.items[n].text or "" for n in chunk]), strict=True
                ):
                    known[n] = (answer.label_probs, answer.votes)
                    lines.write(json.dumps([wanted.items[n].text_key, *(row.tolist() for row in known[n])]) + "\n")
                lines.flush()
                progress.update(bar, completed=len(known))
    if len(known) < len(wanted.items):
        raise AnnotatorUnavailable(f"{config.name} has not answered for all texts: run the command again.")
    pairs = [known[n] for n in range(len(wanted.items))]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def _noted(notes: Path) -> dict[str, Pair]:
    """What an earlier run had noted, by text; a line that a kill cut short is asked again."""
    found: dict[str, Pair] = {}
    if not notes.is_file():
        return found
    whole = []
    for line in notes.read_text(encoding="utf-8").splitlines():
        try:
            key, label_probs, votes = json.loads(line)
        except ValueError:
            continue
        found[key] = np.array(label_probs), np.array(votes)
        whole.append(line)
    notes.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    return found


def from_file(path: Path, names: tuple[str, ...], panel: PanelConfig, limit: int) -> Wanted:
    """The file's texts. The first of each label are the prompts' few shots, and are left out."""
    read = demo_texts.from_file(path, labels=names)
    label_set = LabelSet(read.labels)
    per_label = max(annotator.shots for annotator in panel.annotators)
    shots = pick_shots((Shot(text, label) for text, label in read.gold.items()), label_set, per_label)
    used = {shot.text for shot in shots}
    kept = tuple(text for text in read.texts if text not in used)[: limit or None]
    found = replace(read, texts=kept, examples=tuple((shot.text, shot.label) for shot in shots))
    return from_texts(found, panel, path.stem)


def from_texts(read: demo_texts.Texts, panel: PanelConfig, name: str = "") -> Wanted:
    """All of these texts, with their examples as few shots."""
    return Wanted(
        name or read.source, tuple(Item(str(n), text) for n, text in enumerate(read.texts)), LabelSet(read.labels),
        tuple(read.gold.get(text) for text in read.texts), tuple(Shot(*one) for one in read.examples),
        panel.instruction, {},
    )  # fmt: skip


def from_project(store: Store, project_id: int, panel: PanelConfig, limit: int) -> Wanted:
    """The project's texts with its people's labels as gold; what its panel answered before is taken from the store.

    The texts that serve as few shots stay out, as they do everywhere.
    """
    project = projects.get(store, project_id)
    decision = project.decision
    shots = tuple(Shot(text, label) for text, label, *_ in project.options.get("shots", []))
    used = {shot.text for shot in shots}
    readable = (row for row in tasks.every(store, project_id) if not row.problem and row.text not in used)
    rows = list(readable)[: limit or None]
    if not rows:
        raise InputError(f"Project {project_id} has no readable tasks in the store yet (see `mollm doctor`).")
    held = signals.load(store, project, rows)
    known = {
        (member.fingerprint, n): (held.label_probs[n, m], held.votes[n, m])
        for m, member in enumerate(project.panel)
        for n in range(len(rows))
        if not np.isnan(held.label_probs[n, m]).any()
    }
    human = {row.item: row.label for row in labels.human_labels(audits.usable(store, project_id))}
    items = tuple(row.item for row in rows)
    gold = tuple(human.get(str(row.task_id)) for row in rows)
    instruction = decision.instruction(project.instruction(panel.instruction))
    return Wanted(project.title or str(project_id), items, decision.asked, gold, shots, instruction, known)
