"""The paper's figure on a recording: the classifier's test accuracy a round, ours beside its baselines, with bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mollm.lab.experiment import LoopOptions
from mollm.lab.loop import replay
from mollm.plugins import optional
from mollm.recording import Recording
from mollm.round.chain import Embeds

Curves = Mapping[str, Sequence[Sequence[float | None]]]


def series(recording: Recording) -> dict[str, str]:
    """Legend to `annotate`: ours, the oracle, the votes and means of all LLMs, and each LLM alone (method.md 1.8)."""
    each = {name: name for name in recording.signals.annotators}
    return {"ours": "mixture", "oracle": "human", "LLMs-V": "pooled_votes", "LLMs-L": "mean_probs"} | each


def curves(
    recording: Recording,
    options: LoopOptions,
    seeds: Sequence[int],
    encoder: Embeds | None,
    progress: Callable[[str], None],
) -> dict[str, list[list[float | None]]]:
    """Legend to (seeds, R) test accuracies, all with the same splits and first batches."""
    found: dict[str, list[list[float | None]]] = {}
    for legend, annotate in series(recording).items():
        progress(f"{legend}: {len(seeds)} seeds of {options.rounds} rounds")
        report = replay(recording, replace(options, annotate=annotate, paper=True), seeds, encoder, progress)
        curve = report["curve"]
        assert isinstance(curve, dict)
        found[legend] = curve["per_seed"]
    return found


def draw(found: Curves, title: str, path: Path) -> None:
    """Mean over seeds with a band of one standard deviation, written to `path` (its suffix chooses the format)."""
    matplotlib = optional("matplotlib", "A figure")
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for legend, per_seed in found.items():
        values = np.array(per_seed, dtype=np.float64)
        if not values.size or np.isnan(values).all():
            continue
        x, mean, spread = np.arange(1, values.shape[1] + 1), values.mean(axis=0), values.std(axis=0)
        width = 2.5 if legend in ("ours", "oracle") else 1.2
        (line,) = axes.plot(x, mean, label=legend, linewidth=width, linestyle="--" if legend == "oracle" else "-")
        axes.fill_between(x, mean - spread, mean + spread, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="round", ylabel="test accuracy", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")
    figure.savefig(path)
    pyplot.close(figure)
