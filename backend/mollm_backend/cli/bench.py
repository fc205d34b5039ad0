"""`mollm bench`: speed, as ratios measured in one run."""

from __future__ import annotations

import typer

from mollm_backend.cli import (
    bench_annotate,
    bench_fuse,
    bench_pages,
    bench_select,
    bench_serve,
    bench_store,
    bench_workers,
)

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.command("annotate")(bench_annotate.annotate)
app.command("select")(bench_select.select)
app.command("fuse")(bench_fuse.fuse)
app.command("serve")(bench_serve.serve)
app.command("pages")(bench_pages.pages)
app.command("store")(bench_store.store)
app.command("workers")(bench_workers.bench)
