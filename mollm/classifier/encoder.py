"""Frozen text embeddings from any Hugging Face encoder: mean-pooled, normalised, cached by content.

A window's embedding is the pooled hidden states of the layers from the middle to the last, each normalised. What is
read of which layer is decided where a pool is known (`mollm.round.reading`). A text's embedding is the mean over
its windows, normalised over all layers at once.

The cache is one SQLite file in the directory `cache`. Each batch is one transaction, so a killed run keeps what it has
computed. The model is loaded at the first text that is not in the cache.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mollm.classifier.windows import Framed, Unread, Windows
from mollm.errors import ModelFileError, MollmError
from mollm.records import FloatArray, digest

if TYPE_CHECKING:
    import torch

BATCH = (
    64  # windows a forward pass, and texts a transaction (chosen by hand: larger suits a GPU, smaller is kept sooner)
)
MAX_TOKENS = 256  # of a window, with the tokens around it: the limit that MiniLM was published with
OVERLAP = 32  # tokens: some two sentences' ends and beginnings are seen whole by one of two windows
MOST = 16  # windows of a text: some 4,000 tokens or eight pages, so that no single text takes longer than two seconds
RECIPE = "middle to last, mean-pooled, unit; mean of windows, unit"  # change it whenever the embedding changes
TELLING = ("config.json", "tokenizer.json", "vocab.txt")  # beside the weights: what an encoder's numbers depend on
TINY = 1e-12  # no length is shorter: windows do not point opposite ways
Progress = Callable[[str], None]
Embedded = tuple[FloatArray, int]  # (L, D) and how many tokens of the text were in no window


class Encoder:
    """`embed` gives (N, L, D) for N texts and L layers. With a `cache`, a model reads each distinct text only once."""

    def __init__(self, directory: Path, cache: Path | None = None, most: int = MOST, device: str = "") -> None:
        self.directory = Path(directory)
        self.most = most  # windows of a text; 1: what is behind the first is cut
        self.device = device  # "": a card where there is one
        self.cache = None if cache is None else Path(cache)
        self.tell: Progress | None = None  # told how far a long `embed` is, where the call names nobody else
        self._loaded: tuple[Any, Any] | None = None
        self._fingerprint: str | None = None
        self._unread: dict[str, int] = {}  # tokens by key, of texts that are not read whole

    @property
    def fingerprint(self) -> str:
        """The content address of weights, tokenizer and recipe. It is part of every cache key and of every version."""
        if self._fingerprint is None:
            sha = hashlib.sha256(f"{RECIPE} {MAX_TOKENS} {OVERLAP} {self.most}".encode())
            for path in sorted(self.directory.glob("*")):
                if path.name in TELLING or path.suffix in (".safetensors", ".model"):
                    with path.open("rb") as file:
                        sha.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
            self._fingerprint = sha.hexdigest()[:16]
        return self._fingerprint

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        """(N, L, D), a text's layers together of length 1. Raises ModelFileError if the model is missing or broken."""
        self._check_files()
        progress = progress or self.tell
        keys = self._keys(texts)
        wanted = dict(zip(keys, texts, strict=True))
        known = self._read(list(wanted))
        todo = [key for key in wanted if key not in known]
        todo.sort(key=lambda key: len(wanted[key]))
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            fresh = dict(zip(batch, self._compute([wanted[key] for key in batch]), strict=True))
            self._write(fresh)
            known.update(fresh)
            if progress:
                progress(f"embedded {start + len(batch)} of {len(todo)} texts")
        self._unread |= {key: tokens for key, (_, tokens) in known.items() if tokens}
        return np.array([known[key][0] for key in keys], dtype=np.float64)

    def unread(self, texts: Sequence[str]) -> Unread:
        """How much of texts that this encoder has embedded is in no embedding."""
        return Unread.of(self._unread.get(key, 0) for key in self._keys(texts))

    def beyond(self, texts: Sequence[str], rule: Windows) -> Unread:
        """How much of the texts is in none of the windows of `rule`: by their tokens alone, nothing is embedded."""
        return Unread.of(rule.unread(len(ids)) for ids in token_ids(self.load()[0], texts))

    def _keys(self, texts: Sequence[str]) -> list[str]:
        return [digest(self.fingerprint, text) for text in texts]

    def _check_files(self) -> None:
        if not (self.directory / "config.json").exists() or not list(self.directory.glob("*.safetensors")):
            raise ModelFileError(
                f"There is no encoder at {self.directory} (config.json and *.safetensors are needed): "
                "fetch it again, or correct the setting `encoder`."
            )

    def load(self) -> tuple[Any, Any]:
        """(tokenizer, model in eval mode on its device), loaded once. Raises as `embed`, MollmError without torch."""
        if self._loaded is None:
            self._check_files()
            try:
                import torch
                from transformers import AutoModel, AutoTokenizer
            except ImportError:
                raise MollmError("Text embeddings need torch: pip install 'mollm[torch]'.") from None
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.directory, local_files_only=True)
                model = AutoModel.from_pretrained(self.directory, local_files_only=True)
            except Exception as error:  # transformers and safetensors raise many types for a broken file
                raise ModelFileError(
                    f"The encoder at {self.directory} cannot be loaded ({error}): fetch it again."
                ) from None
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            self._loaded = (tokenizer, model.to(device).eval())
        return self._loaded

    def windows(self, most_tokens: int, overlap: int, most: int) -> tuple[Framed, Windows]:
        """How this tokenizer frames a text, and the windows that leaves, of at most `most_tokens` with the frame."""
        tokenizer, model = self.load()
        framed = Framed.by(tokenizer)
        limit = min(most_tokens, getattr(model.config, "max_position_embeddings", most_tokens))
        size = limit - len(framed.before) - len(framed.after)
        return framed, Windows(size, min(overlap, size // 2), min(most, self.most))

    def _compute(self, texts: Sequence[str]) -> list[Embedded]:
        """One row a text, in order. However long the texts are, BATCH windows are in memory at once."""
        framed, rule = self.windows(MAX_TOKENS, OVERLAP, MOST)
        ids = token_ids(self.load()[0], texts)
        windows = [framed.windows(row, rule) for row in ids]
        every = [window for mine in windows for window in mine]
        vectors = [row for a in range(0, len(every), BATCH) for row in self._forward(every[a : a + BATCH])]
        ends = np.cumsum([len(mine) for mine in windows])
        means = (mean_of_windows(vectors[end - len(mine) : end]) for end, mine in zip(ends, windows, strict=True))
        return [(mean, rule.unread(len(row))) for mean, row in zip(means, ids, strict=True)]

    def _forward(self, windows: Sequence[Sequence[int]]) -> list[FloatArray]:
        """(L, D) float32 of each window, of length 1."""
        tokenizer, model = self.load()
        import torch

        with torch.inference_mode():
            batch = tokenizer.pad({"input_ids": windows}, return_tensors="pt").to(model.device)
            hidden = model(**batch, output_hidden_states=True).hidden_states
            upper = hidden[len(hidden) // 2 :]
            pooled = torch.stack([mean_pool(layer, batch["attention_mask"]) for layer in upper], dim=1)
            unit = torch.nn.functional.normalize(pooled, dim=2)
        return list((unit / len(upper) ** 0.5).cpu().numpy().astype(np.float32))

    def _connect(self, cache: Path) -> sqlite3.Connection:
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / "embeddings.sqlite"
        database = sqlite3.connect(path, timeout=60)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("DROP TABLE IF EXISTS embedding")  # of texts that were cut at their first window
            database.execute("DROP TABLE IF EXISTS embedded")  # without the last layer
            database.execute(
                "CREATE TABLE IF NOT EXISTS layered "
                "(key TEXT PRIMARY KEY, layers INT NOT NULL, vector BLOB NOT NULL, unread INT NOT NULL)"
            )
        except sqlite3.DatabaseError as error:
            database.close()
            raise ModelFileError(f"The embedding cache {path} cannot be used ({error}): delete it.") from None
        return database

    def _read(self, keys: Sequence[str]) -> dict[str, Embedded]:
        found: dict[str, Embedded] = {}
        if self.cache is None:
            return found
        with closing(self._connect(self.cache)) as database:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, layers, vector, unread FROM layered WHERE key IN ({marks})"  # noqa: S608 - only marks
                for key, layers, blob, unread in database.execute(query, part):
                    found[key] = np.frombuffer(blob, dtype="<f4").reshape(layers, -1), unread
        return found

    def _write(self, fresh: dict[str, Embedded]) -> None:
        if self.cache is None:
            return
        rows = [(key, len(layers), layers.astype("<f4").tobytes(), unread) for key, (layers, unread) in fresh.items()]
        with closing(self._connect(self.cache)) as database, database:
            database.executemany("INSERT OR REPLACE INTO layered VALUES (?, ?, ?, ?)", rows)


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Each text's own token ids, uncut, without those around it."""
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]) if len(texts) else []


def mean_of_windows(vectors: Sequence[FloatArray]) -> FloatArray:
    """(L, D) float32 of length 1 from the windows' (L, D); that of a single window as it is."""
    if len(vectors) == 1:
        return vectors[0]
    mean = np.mean(vectors, axis=0, dtype=np.float64)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), TINY), dtype=np.float32)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, D): the mean of `hidden` (B, tokens, D) over each text's own tokens, where `mask` (B, tokens) is 1."""
    weight = mask[..., None].to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
