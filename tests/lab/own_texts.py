"""Texts written for this repository, with their labels, and what the default panel answered about them.

    python -m tests.lab.own_texts hotel city --human 20 --seeds 10 [--encoder DIRECTORY]

prints how right the sets of a multiple choice are on them (see `mollm.lab.sets`), and `stars` how right stars are
before any label, asked for in words and in numbers. `--ask DIRECTORY` asks the panel anew, with the models of that
directory, and writes its answers over those that lie beside the texts.
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
from mollm.mixture.logpool import LogPool
from mollm.records import LabelSet, Pool, Signals
from mollm_backend import panels
from mollm_backend.cli.replay_sets import print_sets
from mollm_backend.labelstudio.controls.multiple import NONE
from mollm_backend.labelstudio.label_config import parse

STARS = ("stars", "stars_as_numbers")
TEXTS = Path(__file__).parent / "texts"
PANEL = Path(panels.__file__).with_name("tiny.toml")


def read(name: str) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The labels, the texts, and of each text what stands beside it."""
    lines = (TEXTS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    (labels,) = (line.removeprefix("# labels: ") for line in lines if line.startswith("# labels: "))
    rows = [line.partition("\t") for line in lines if line and not line.startswith("#")]
    return tuple(labels.split(", ")), [text for text, _, _ in rows], [told for _, _, told in rows]


def answers(name: str, labels: tuple[str, ...]) -> Signals:
    """The panel's answers that lie beside the texts."""
    names = tuple(row.name for row in PanelConfig.load(PANEL).annotators)
    with np.load(TEXTS / f"{name}.npz") as found:
        probs, votes = (found[part].astype(np.float64) for part in ("label_probs", "votes"))
    return Signals(tuple(f"{n:06d}" for n in range(len(probs))), names, labels, probs, votes)


def listed(name: str) -> Listed:
    """The texts as a multiple choice."""
    labels, texts, told = read(name)
    truth = np.array([[label in row.split(",") for label in labels] for row in told])
    return Listed(answers(name, (*labels, NONE)), truth, tuple(texts))


def rated(name: str) -> tuple[float, float]:
    """How often the pool's stars are right before any label, and how many stars they are off on average."""
    labels, _, told = read("stars")
    pool, truth = Pool(answers(name, labels)), np.array([labels.index(stars) for stars in told])
    said = LogPool().fit(pool, rng=np.random.default_rng(0)).predict_proba(pool.signals).argmax(axis=1)
    return float((said == truth).mean()), float(np.abs(said - truth).mean())


def question(name: str, instruction: str) -> tuple[LabelSet, str]:
    """What the panel is asked about the texts: labels and instruction."""
    if name in ("hotel", "city"):
        return LabelSet((*read(name)[0], NONE)), instruction
    (stars,) = parse('<View><Text name="text" value="$text"/><Rating name="stars" toName="text"/></View>')
    return stars.asked if name == "stars" else stars.labels, stars.instruction(instruction)


def ask(name: str, models: Path) -> None:
    """Ask the default panel about the texts, as a project does, and keep its answers."""
    texts, panel, said = read(name.partition("_")[0])[1], PanelConfig.load(PANEL), []
    for config in panel.annotators:
        with open_annotator(config, *question(name, panel.instruction), (), models) as annotator:
            said.append(annotator.annotate(texts))
    kept = {part: [[getattr(row, part) for row in rows] for rows in said] for part in ("label_probs", "votes")}
    arrays = {part: np.array(rows, dtype="<f4").swapaxes(0, 1) for part, rows in kept.items()}
    np.savez_compressed(TEXTS / f"{name}.npz", allow_pickle=False, **arrays)


def replay(name: str, human: int, seeds: range, encoder: Encoder | None) -> None:
    """Print how right the sets of a multiple choice are on the texts."""
    texts = listed(name)
    answer = sets.replay(lambda _: texts, human, seeds, lambda _line: None, encoder)
    print_sets(f"{name}: {human} human-labelled texts, {len(seeds)} seeds, mean (spread)", answer)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=("hotel", "city", *STARS))
    parser.add_argument("--human", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--ask", type=Path)
    given = parser.parse_args()
    encoder = None if given.encoder is None else Encoder(given.encoder)
    for name in given.names:
        if given.ask is not None:
            ask(name, given.ask)
        if name in STARS:
            right, off = rated(name)
            print(f"{name}: accuracy {right:.3f}, {off:.3f} stars off on average")
            continue
        replay(name, given.human, range(given.first_seed, given.first_seed + given.seeds), encoder)


if __name__ == "__main__":
    main()
