"""What the commands share: options that several of them take, the opened home, and how they print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import redis
import typer
from rich.console import Console
from rich.table import Table

from mollm.errors import InputError
from mollm_backend import settings
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.store import Store
from mollm_backend.work import queues

console = Console()
ProjectId = Annotated[
    int, typer.Argument(metavar="PROJECT", help="The project's number in Label Studio: N in .../projects/N.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
# connect, disconnect and doctor take the project's number as an argument or as an option.
Number = Annotated[
    int | None, typer.Argument(metavar="PROJECT", help="The project's number in Label Studio: N in .../projects/N.")
]
NumberOption = Annotated[int | None, typer.Option("--project", help="The same, as an option.")]
Url = Annotated[str, typer.Option("--url", help="Label Studio's address; default: LABEL_STUDIO_URL.")]
SCORES = {"log-loss": "log_loss", "ECE": "ece"}  # beside the accuracy; heading: name in a version's facts


def open_store() -> tuple[settings.Settings, Store]:
    """The settings of this home and its store."""
    loaded = settings.load()
    return loaded, Store(loaded.store_url)


@contextmanager
def opened(url: str = "") -> Iterator[tuple[settings.Settings, Store, LabelStudioClient]]:
    """The settings, the store, and Label Studio at `url` or at LABEL_STUDIO_URL."""
    loaded, store = open_store()
    client = LabelStudioClient.of(loaded, url)
    try:
        yield loaded, store, client
    finally:
        client.close()
        store.close()


@contextmanager
def a_queue() -> Iterator[None]:
    """Raise InputError, which says what to do, where no queue takes the job."""
    try:
        yield
    except redis.RedisError:
        raise InputError("No worker is running that could do it: start `mollm up` and say it again.") from None


def nudge(loaded: settings.Settings, project: int) -> None:
    """Let the worker look at once. Without a queue it looks at the next `mollm up`."""
    try:
        queues.nudge(queues.connect(loaded.queue_url), project)
    except redis.RedisError:
        console.print("No worker is running: `mollm up` starts it.")


def one_number(number: int | None, option: int | None) -> int:
    """The project's number, given as an argument or as an option. Raises BadParameter for none, or for two."""
    found = {given for given in (number, option) if given is not None}
    if len(found) != 1:
        raise typer.BadParameter("give the project's number once, as in .../projects/N of its page.")
    return found.pop()


def names_in(text: str) -> tuple[str, ...]:
    """The label names in an option's value, which has commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def bar(share: float, width: int = 20) -> str:
    """A bar of `width` characters, of which `share` (0 to 1) are full."""
    full = round(width * min(max(share, 0.0), 1.0))
    return "█" * full + "░" * (width - full)


def say(line: str) -> None:
    """Print one line, however narrow the terminal is. Nothing in it is taken for markup."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def note(line: str) -> None:
    """Print progress to stderr: stdout is for the answer."""
    sys.stderr.write(f"mollm: {line}\n")


def print_figures(first: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, Any]], digits: int = 3) -> None:
    """A line a row, under its name; a figure that is missing or None is a dash."""
    table = Table(first, *(column.replace("_", " ") for column in columns))
    for name, row in rows.items():
        table.add_row(name, *("-" if row.get(column) is None else f"{row[column]:.{digits}g}" for column in columns))
    Console().print(table)
