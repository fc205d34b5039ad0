"""`replay loop`: an experiment over several seeds, and its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mollm.lab.experiment import LoopOptions, Run, Scores
from mollm.lab.paper_loop import PaperLoop
from mollm.lab.served_loop import ServedLoop
from mollm.recording import Recording
from mollm.round.chain import Embeds
from mollm.round.run import no_op


def run_of(
    recording: Recording, options: LoopOptions, seed: int, encoder: Embeds | None,
    progress: Callable[[str], None] = no_op,
) -> Run:  # fmt: skip
    """The kind of loop that the options ask for, not played yet."""
    return (ServedLoop if options.served else PaperLoop)(recording, options, seed, encoder, progress)


def replay(
    recording: Recording,
    options: LoopOptions,
    seeds: Sequence[int],
    encoder: Embeds | None,
    progress: Callable[[str], None] = no_op,
) -> dict[str, object]:
    """The report of `mollm replay loop`: means over seeds, a number a round, None where there is none."""
    runs = [run_of(recording, options, seed, encoder, progress) for seed in seeds]
    for run in runs:
        run.play()
    return report([run.scores for run in runs])


def report(by_seed: Sequence[Sequence[Scores]]) -> dict[str, object]:
    """`curve` as mean and per seed, every other score as its mean over seeds."""

    def mean(name: str, r: int) -> float | None:
        found = [getattr(scores[r], name) for scores in by_seed]
        return None if any(value is None for value in found) else float(np.mean(found))

    R = len(by_seed[0]) if by_seed else 0
    names = ("label_accuracy", "pool_accuracy", "rest_accuracy", "human_labels", "seconds")
    curve = {
        "mean": [mean("curve", r) for r in range(R)],
        "per_seed": [[score.curve for score in scores] for scores in by_seed],
    }
    return {"curve": curve} | {name: [mean(name, r) for r in range(R)] for name in names}
