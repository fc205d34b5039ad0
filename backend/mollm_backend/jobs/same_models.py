"""Hosts that share the work read with the same model files: a worker whose files differ is refused at its start.

An annotator's answers are stored under the model's name, and a version under the text encoder's: with other weights
under the same name on another host, two kinds of answers would be mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis
import structlog

from mollm.errors import ConfigError
from mollm_backend import packages
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import notes
from mollm_backend.work import queues, workers

log = structlog.get_logger()
SHARED = 0  # the project under which notes stand that are of no project
KINDS = ("*.safetensors", "*.gguf", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "*.model")
WHOLE = 32 * 2**20  # bytes: a larger file is read in pieces
PIECES, PIECE = 64, 256 * 1024  # other weights differ nearly everywhere, and 15 GB would take a minute to read


def check(runtime: Runtime, names: Sequence[str], annotators: Sequence[str]) -> None:
    """Note the files of the models that these queues need and that are here, or compare them with what is noted.

    Raises ConfigError: a living worker of another host has other files. If no worker of that host is alive, the files
    of this one hold from now on.
    """
    for model, directory in _models(runtime, names, annotators):
        if directory.is_dir():
            _compare(runtime, model, fingerprint(directory))


def fingerprint(directory: Path) -> str:
    """The content address of a model's files; of large ones, of pieces from end to end."""
    sha = hashlib.sha256()
    for path in sorted({path for kind in KINDS for path in directory.glob(kind)}):
        size = path.stat().st_size
        sha.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE:
                sha.update(file.read())
                continue
            for n in range(PIECES):
                file.seek((size - PIECE) * n // (PIECES - 1))
                sha.update(file.read(PIECE))
    return sha.hexdigest()[:16]


def _models(runtime: Runtime, names: Sequence[str], annotators: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The models whose files a worker of these queues reads, with their directories."""
    models = runtime.settings.models_dir
    kinds = {queues.kind(name) for name in names}
    if kinds & {"train", "reconcile"}:
        yield runtime.settings.encoder, runtime.settings.encoder_dir
    for config in runtime.panel.annotators if "annotate" in kinds else ():
        if config.runtime in packages.IN_PROCESS and (not annotators or config.name in annotators):
            name = packages.model_of(config)
            yield name, models / name


def _compare(runtime: Runtime, model: str, mine: str) -> None:
    name, here = f"model {model}", workers.here()
    known = notes.read(runtime.store, SHARED, [name])
    noted = known[name].body if name in known else {}
    if noted.get("files") == mine:
        return
    if noted and noted["host"] != here and noted["host"] in _living(runtime.connection):
        raise ConfigError(
            f"The files of the model {model} on this host ({here}, {mine}) are not those of {noted['host']} "
            f"({noted['files']}), whose workers are running: copy them from there into {runtime.settings.models_dir}, "
            "or end those workers first."
        )
    if noted:
        log.warning("a model has other files than before", model=model, files=mine, before=noted["files"])
    notes.write(runtime.store, SHARED, **{name: {"files": mine, "host": here}})


def _living(connection: redis.Redis) -> set[str]:
    """The hosts that have a living worker."""
    return {workers.host_of(name) for name in workers.every(connection)}
