"""The pictures of a project's page, made from its state; the table of each holds all that its picture shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mollm_backend.view.pictures import Bin, Picture, Series, bars, curve, heat, matrix, reliability
from mollm_backend.view.quality import figure

State = Mapping[str, Any]


def progress(state: State) -> Picture:
    """What is done, what waits in the batch, and what is open besides."""
    readable, batch = state["tasks"] - state["unreadable"], state["batch"]["waiting"]
    done, waiting = max(readable - state["open"], 0), min(batch, state["open"])
    parts = [("done", done), ("next for people", waiting), ("open besides", state["open"] - waiting)]
    return bars([part for part in parts if part[1]], caption="How far the tasks are", total=readable)


def accuracy(state: State) -> Picture:
    """The accuracy on the rest, version after version, and the baseline."""
    points = sorted(state["accuracy"]["points"], key=lambda row: row["human_labels"])
    real, guess = [row for row in points if row["measured"]], [row for row in points if not row["measured"]]
    series = [
        Series("measured", *_xy(real), [row["low"] for row in real], [row["high"] for row in real], "points",
               [row["n"] for row in real]),
        Series("its own guess", *_xy(guess), n=[row["n"] for row in guess]),
    ]  # fmt: skip
    baseline = state["accuracy"]["baseline"]
    if baseline and points:
        ends = sorted({float(points[0]["human_labels"]), float(points[-1]["human_labels"])})
        name = f"always {baseline['label']}"
        series.append(
            Series(name, ends, [baseline["value"]] * len(ends), style="dashed", n=[baseline["n"]] * len(ends))
        )
    return curve(
        [one for one in series if one.x],
        x="labels that people gave",
        y="right",
        caption="Right on the rest, by version",
    )


def _xy(rows: Sequence[State]) -> tuple[list[float], list[float]]:
    return [float(row["human_labels"]) for row in rows], [float(row["value"]) for row in rows]


def calibration(decision: State) -> Picture:
    """How often it is right where it is so sure."""
    found = [Bin(row["confidence"], row["value"], row["low"], row["high"], row["n"]) for row in decision["reliability"]]
    return reliability(found, caption="How often it is right where it is so sure")


def confusion(decision: State) -> Picture:
    """What people said against what the mixture said."""
    names = decision["labels"]
    return matrix(decision["confusion"], names, names, caption="What is taken for what", row_title="people say",
                  column_title="the mixture says")  # fmt: skip


def raters(decision: State) -> Picture:
    """How often each LLM and each person says a label where others say it; the table has the intervals too."""
    rows, labels = decision["raters"]["rows"], decision["raters"]["labels"]
    values = [[cell["value"] for cell in row["cells"]] for row in rows]
    n = [[cell["n"] for cell in row["cells"]] for row in rows]
    names = [row["who"] for row in rows]
    found = heat(values, n, names, labels, caption="Who says a label where people say it", low=0.0, high=1.0)
    table = [[row["who"], *(_cell(cell) for cell in row["cells"])] for row in rows]
    return replace(found, columns=["who", *labels], rows=table)


def _cell(cell: State) -> str:
    return figure({**cell, "reason": "no task"})


def acceptance(state: State) -> Picture:
    """What share of the open tasks an audit would likely certify at each accuracy; and what was certified."""
    found = state["acceptance"]
    points, granted = found["points"], found["certified"]
    series = [
        Series("expected", [row["target"] for row in points], [row["share"] for row in points],
               [row["low"] for row in points], [row["high"] for row in points]),
        Series("certified", [row["target"] for row in granted], [row["share"] for row in granted], style="points",
               n=[row["n"] for row in granted]),
    ]  # fmt: skip
    return curve(
        [one for one in series if one.x], x="certified accuracy", y="share of the open tasks", x_percent=True,
        caption="What could be accepted unseen",
    )  # fmt: skip
