"""`mollm bench`: speed, as ratios measured in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mollm_backend.cli import asking, bench_store, fusing, selecting

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.command("annotate")(asking.annotate)
app.command("select")(selecting.select)
app.command("fuse")(fusing.fuse)
app.command("store")(bench_store.store)


@app.command("serve")
def serve(
    seconds: Annotated[float, typer.Option(min=1, help="How long to send requests.")] = 30.0,
    tasks: Annotated[int, typer.Option(min=50, help="Tasks in the made-up project.")] = 2000,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Latency of one-task /predict and of /webhook while the worker trains (own home, real queue, web and worker)."""
    from mollm_backend import settings
    from mollm_backend.cli import serving
    from mollm_backend.supervisor.processes import Family

    with serving.own_home() as name:
        family = Family(Path(name), _to_stderr)
        with family.until_stopped():
            found = serving.measure(settings.load(Path(name)), family, seconds=seconds, count=tasks, tell=_to_stderr)
    figures: dict[str, float] = {"trainings": found.trainings, "share_of_time_training": found.training_share}
    for what, times in (("predict", found.predict), ("webhook", found.webhook)):
        figures |= {f"{what}_p{q}_ms": round(float(np.percentile(times, q)), 2) for q in (50, 99)}
        figures[f"{what}_requests"] = len(times)
    if json_output:
        print(json.dumps(figures))
        return
    for what, times in (("predict", found.predict), ("webhook", found.webhook)):
        low, high = (figures[f"{what}_p{q}_ms"] for q in (50, 99))
        print(f"/{what}: {len(times)} requests, p50 {low:.1f} ms, p99 {high:.1f} ms (bar: 100)")
    print(f"{found.trainings} trainings ended meanwhile; the worker trained {found.training_share:.0%} of the time")


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)
