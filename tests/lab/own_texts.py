"""Texts written for this repository, with their labels, and what the default panel answered about them.

    python -m tests.lab.own_texts hotel city --human 20 --seeds 10 [--encoder DIRECTORY]

prints how right the sets of a multiple choice are on them (see `mollm.lab.sets`). `--ask DIRECTORY` asks the panel
anew, with the models of that directory, and writes its answers over those that lie beside the texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mollm.annotators import open_annotator
from mollm.classifier.encoder import Encoder
from mollm.config import PanelConfig
from mollm.lab import sets
from mollm.lab.sets import Listed
from mollm.records import LabelSet, Signals
from mollm_backend import panels
from mollm_backend.cli.replay_sets import print_sets
from mollm_backend.labelstudio.controls.multiple import NONE

TEXTS = Path(__file__).parent / "texts"
PANEL = Path(panels.__file__).with_name("tiny.toml")


def read(name: str) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The labels, the texts, and of each text what stands beside it."""
    lines = (TEXTS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    (labels,) = (line.removeprefix("# labels: ") for line in lines if line.startswith("# labels: "))
    rows = [line.partition("\t") for line in lines if line and not line.startswith("#")]
    return tuple(labels.split(", ")), [text for text, _, _ in rows], [told for _, _, told in rows]


def listed(name: str, encoder: Path | None = None) -> Listed:
    """The texts as a multiple choice, with the panel's answers that lie beside them."""
    labels, texts, told = read(name)
    names = tuple(row.name for row in PanelConfig.load(PANEL).annotators)
    with np.load(TEXTS / f"{name}.npz") as found:
        answers = [found[part].astype(np.float64) for part in ("label_probs", "votes")]
    items = tuple(f"{n:06d}" for n in range(len(texts)))
    truth = np.array([[label in row.split(",") for label in labels] for row in told])
    embeddings = None if encoder is None else Encoder(encoder).embed(texts)
    return Listed(Signals(items, names, (*labels, NONE), *answers), truth, embeddings)


def ask(name: str, models: Path) -> None:
    """Ask the default panel about the texts, as a project does, and keep its answers."""
    labels, texts, _ = read(name)
    panel, said = PanelConfig.load(PANEL), []
    for config in panel.annotators:
        with open_annotator(config, LabelSet((*labels, NONE)), panel.instruction, (), models) as annotator:
            said.append(annotator.annotate(texts))
    kept = {part: [[getattr(row, part) for row in rows] for rows in said] for part in ("label_probs", "votes")}
    arrays = {part: np.array(rows, dtype="<f4").swapaxes(0, 1) for part, rows in kept.items()}
    np.savez_compressed(TEXTS / f"{name}.npz", allow_pickle=False, **arrays)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=("hotel", "city"))
    parser.add_argument("--human", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--ask", type=Path)
    given = parser.parse_args()
    for name in given.names:
        if given.ask is not None:
            ask(name, given.ask)
        texts = listed(name, given.encoder)
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        answer = sets.replay(lambda _, texts=texts: texts, given.human, seeds, lambda _line: None)  # type: ignore[misc]
        print_sets(f"{name}: {given.human} human-labelled texts, {given.seeds} seeds, mean (spread)", answer)


if __name__ == "__main__":
    main()
