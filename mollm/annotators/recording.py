"""Replays the stored answers of one annotator of a recording directory, found by text or by item id.

`model` is `directory#name`; if it is only `directory`, the configuration adds the annotator's name. To save memory,
only this annotator's rows are kept, and texts only as their content addresses.
"""

from __future__ import annotations

import gzip
import json
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mollm.annotators import Annotator, Answer, abstention
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.prompts import Shot
from mollm.records import LabelSet, digest


class RecordedAnnotator(Annotator):
    """One annotator of a recording. A text that was never recorded is an abstention."""

    runtime = "recording"

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot], models_dir: Path
    ) -> None:
        super().__init__(config, labels, instruction, shots, models_dir)
        where, _, who = config.model.rpartition("#")
        self.directory = models_dir / where if (models_dir / where).is_dir() else Path(where).expanduser()
        try:
            self._read(who)
        except FileNotFoundError as error:
            raise ModelFileError(f"{config.name}: {error.filename} is missing: name a recording directory.") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ModelFileError(f"{config.name}: {self.directory} cannot be read as a recording: {error!r}.") from None

    def _read(self, who: str) -> None:
        panel = json.loads((self.directory / "panel.json").read_text(encoding="utf-8"))
        names = [annotator["name"] for annotator in panel["annotators"]]
        if who not in names:
            raise ConfigError(f"{self.name}: {self.directory} holds {names}, not {who!r}: write model = 'DIR#name'.")
        if sorted(panel["labels"]) != sorted(self.labels.names):
            raise ConfigError(
                f"{self.name}: {self.directory} was recorded for the labels {panel['labels']}, "
                f"not for {list(self.labels.names)}."
            )
        columns = [panel["labels"].index(name) for name in self.labels.names]
        m = names.index(who)
        with np.load(self.directory / "signals.npz", allow_pickle=False) as arrays:
            self.label_probs = arrays["label_probs"][:, m][:, columns]
            self.votes = arrays["votes"][:, m][:, columns].astype(np.float32) / panel["samples"]
        self.place: dict[bytes, int] = {}
        with gzip.open(self.directory / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
            for n, line in enumerate(lines):
                row = json.loads(line)
                self.place.setdefault(_address(row.get("text") or str(row["id"])), n)

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        time.sleep(self.config.delay)
        return [self._answer(self.place.get(_address(text))) for text in texts]

    def describe(self) -> str:
        return f"{self.name}: replayed from {self.directory} ({len(self.place)} texts)"

    def _answer(self, n: int | None) -> Answer:
        if n is None:
            return abstention(self.labels.C, "the recording does not hold this text")
        votes = self.votes[n].astype(np.float64)
        return Answer(self.label_probs[n].astype(np.float64), votes, max(0.0, 1.0 - float(votes.sum())))


def _address(text: str) -> bytes:
    return bytes.fromhex(digest(text))
