"""The records that travel through mollm. Axes: N items, M annotators, C classes, T samples, D dimensions, R rounds."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mollm.errors import ConfigError, InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def digest(*parts: str) -> str:
    """A content address: 32 hex digits over the parts, unambiguous about where each part ends."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The C classes of one decision, in the order of every (..., C) array.

    `names` are what is stored (a Choice's alias where it has one); `shown` is what people and LLMs
    read (empty: the names); `descriptions` explain each class to an LLM (empty: none).
    """

    names: tuple[str, ...]
    shown: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("The label set is empty: the label config needs at least one Choice.")
        doubles = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubles:
            raise ConfigError(f"The label set names {doubles[0]!r} more than once: give each Choice its own value.")
        for what, texts in (("shown", self.shown), ("descriptions", self.descriptions)):
            if texts and len(texts) != len(self.names):
                raise ConfigError(f"{len(self.names)} labels but {len(texts)} entries in `{what}`: give one each.")

    @property
    def C(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The class of a stored label name. Raises InputError for a label that is not in the set."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"{name!r} is not one of the labels {list(self.names)}.") from None

    def text_of(self, c: int) -> str:
        """A class as people and LLMs read it."""
        return self.shown[c] if self.shown else self.names[c]

    def key(self) -> str:
        """The content address of all that an LLM is told of the labels."""
        return digest(*self.names, "|shown", *self.shown, "|descriptions", *self.descriptions)


@dataclass(frozen=True, slots=True)
class Item:
    """One text to be labelled. `id` is unique in its pool; `text` is None where only signals are known."""

    id: str
    text: str | None = None

    @property
    def text_key(self) -> str:
        """The content address of the exact text (the signal cache's key)."""
        return digest(self.text or "")

    @property
    def group(self) -> str:
        """Items with the same normalised text share a group; splits and folds keep groups together."""
        if self.text is None:
            return f"id:{self.id}"
        return digest(" ".join(unicodedata.normalize("NFKC", self.text).casefold().split()))


@dataclass(frozen=True, slots=True)
class Signals:
    """What a panel of M annotators says of N items over C labels: the paper's z and c.

    `label_probs` (N, M, C): z, the label distribution as read from the LLM; rows need not sum to 1.
    `votes` (N, M, C): c, the share of each label among T samples (or its expectation); what is missing
    to 1 abstained. A row of NaN in `label_probs` (and `votes`) means that this annotator has not
    answered for this item.
    """

    items: tuple[str, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    label_probs: FloatArray
    votes: FloatArray

    def __post_init__(self) -> None:
        shape = (len(self.items), len(self.annotators), len(self.labels))
        for name, array in (("label_probs", self.label_probs), ("votes", self.votes)):
            if array.shape != shape:
                raise InputError(f"`{name}` has shape {array.shape}, but items x annotators x labels is {shape}.")
            bad = np.argwhere(((array < 0) | np.isinf(array)).any(axis=-1))
            mixed = np.argwhere(np.isnan(array).any(axis=-1) & ~np.isnan(array).all(axis=-1))
            # Raw label mass may be collected twice (a row's sum), but no single share is above 1, but for the
            # rounding of half-precision models; votes are shares.
            most = array if name == "label_probs" else array.sum(axis=-1, keepdims=True)
            over = np.argwhere((most > 1.05).any(axis=-1))
            for what, rows in (
                ("a negative or infinite value", bad),
                ("NaN in a part of its row", mixed),
                ("a share above 1 (not normalised)", over),
            ):
                if len(rows):
                    n, m = rows[0]
                    raise InputError(
                        f"`{name}` of item {self.items[n]!r} by annotator {self.annotators[m]!r} has {what}: "
                        "ask this annotator again, or give the whole row as NaN (missing)."
                    )

    @property
    def N(self) -> int:
        return len(self.items)

    @property
    def M(self) -> int:
        return len(self.annotators)

    @property
    def C(self) -> int:
        return len(self.labels)

    @property
    def missing(self) -> BoolArray:
        """(N, M): True where an annotator has said nothing of an item (never asked, or all zeros)."""
        answered = np.nan_to_num(self.label_probs).sum(axis=-1) > 0
        return np.asarray(np.isnan(self.label_probs).any(axis=-1) | ~answered, dtype=np.bool_)

    def take(self, index: IntArray | BoolArray | slice) -> Self:
        """The same panel on a selection of the items."""
        chosen = np.arange(self.N)[index]
        return replace(
            self,
            items=tuple(self.items[n] for n in chosen),
            label_probs=self.label_probs[chosen],
            votes=self.votes[chosen],
        )

    def with_annotator(self, name: str, probs: FloatArray) -> Self:
        """The panel with one annotator more (the classifier joins like this). `probs` (N, C) are its votes, too."""
        return replace(
            self,
            annotators=(*self.annotators, name),
            label_probs=np.concatenate([self.label_probs, probs[:, None, :]], axis=1),
            votes=np.concatenate([self.votes, probs[:, None, :]], axis=1),
        )


class Provenance(StrEnum):
    """How a label came about; a label that was only accepted is weaker evidence than one from scratch."""

    FROM_SCRATCH = "from_scratch"
    EDITED = "edited"
    ACCEPTED = "accepted"
    BULK_ACCEPTED = "bulk_accepted"
    CERTIFIED = "certified"  # nobody judged it: accepted by a certificate, and no evidence for any fit


@dataclass(frozen=True, slots=True)
class HumanLabel:
    """One person's label for one item."""

    item: str
    label: str
    annotator: str = ""
    provenance: Provenance = Provenance.FROM_SCRATCH
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Targets:
    """Human labels as arrays over a pool: `index` (H,) into the N items, `label` (H,) in 0..C-1, `weight` (H,) > 0.

    An item may appear more than once (several people, or contradictions); fits weigh each row.
    """

    index: IntArray
    label: IntArray
    weight: FloatArray

    def __post_init__(self) -> None:
        if not len(self.index) == len(self.label) == len(self.weight):
            raise InputError("Targets need as many labels and weights as indices.")

    @property
    def H(self) -> int:
        return len(self.index)

    @classmethod
    def of(cls, index: Sequence[int] | IntArray, label: Sequence[int] | IntArray) -> Targets:
        """Targets of weight 1."""
        index = np.asarray(index, dtype=np.int64)
        return cls(index, np.asarray(label, dtype=np.int64), np.ones(len(index)))

    @classmethod
    def from_human(cls, human: Sequence[HumanLabel], items: Sequence[str], labels: Sequence[str]) -> Targets:
        """Human labels on a pool; labels of unknown items are left out, unknown labels raise InputError."""
        place = {item: n for n, item in enumerate(items)}
        column = {label: c for c, label in enumerate(labels)}
        rows = [row for row in human if row.item in place]
        for row in rows:
            if row.label not in column:
                raise InputError(f"Item {row.item!r} is labelled {row.label!r}, which is not one of {list(labels)}.")
        return cls(
            np.array([place[row.item] for row in rows], dtype=np.int64),
            np.array([column[row.label] for row in rows], dtype=np.int64),
            np.array([row.weight for row in rows], dtype=np.float64),
        )

    def take(self, rows: IntArray | BoolArray) -> Targets:
        """Some of the H rows; they index into the same pool."""
        return Targets(self.index[rows], self.label[rows], self.weight[rows])


@dataclass(frozen=True)
class Pool:
    """What a mixture learns from: the signals of N items, and the labels that humans gave to some of them.

    `embeddings` (N, D) are frozen text embeddings; a row of NaN has no text; None: there are no texts. `groups` (N,)
    names the items that share one normalised text; folds keep a group together (None: every item is a group).
    `frequencies` (C,) say how frequent the classes are thought to be before any label (None: equally).
    Raises InputError where the parts do not fit each other.
    """

    signals: Signals
    targets: Targets = field(default_factory=lambda: Targets.of([], []))
    embeddings: FloatArray | None = None
    groups: tuple[str, ...] | None = None
    frequencies: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        N, C, targets = self.signals.N, self.signals.C, self.targets
        if targets.H and (targets.index.min() < 0 or targets.index.max() >= N):
            raise InputError(f"A human label points outside the {N} items: build Targets on this pool.")
        if targets.H and (targets.label.min() < 0 or targets.label.max() >= C):
            raise InputError(f"A human label is not one of the {C} labels: build Targets on this label set.")
        for name, rows in (("embeddings", self.embeddings), ("groups", self.groups)):
            if rows is not None and len(rows) != N:
                raise InputError(f"The pool has {N} items but {len(rows)} rows of `{name}`: give one for each item.")
        if self.frequencies is not None and (len(self.frequencies) != C or min(self.frequencies) <= 0):
            raise InputError(f"The frequencies {self.frequencies} are not one number above 0 for each of {C} labels.")

    @property
    def bias(self) -> FloatArray:
        """(C,) the classes' log-odds against equal classes before any label (nats)."""
        frequencies = np.ones(self.signals.C) if self.frequencies is None else np.array(self.frequencies)
        return np.asarray(np.log(frequencies) - np.log(frequencies).mean())

    @property
    def group_names(self) -> tuple[str, ...]:
        """(N,) the group of each item."""
        return self.signals.items if self.groups is None else self.groups


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row of the classifier's training set: human (weight 1, no negatives) or labelled by the mixture."""

    item: int
    label: int
    weight: float = 1.0
    negatives: tuple[int, ...] = ()
    human: bool = False


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One place in the order in which humans see items: why it was picked, and by how much."""

    item: str
    rank: int
    reason: str
    gain: float = 0.0


@dataclass(frozen=True)
class FittedState:
    """Learned state that can be written without pickle: named arrays and JSON-able facts."""

    kind: str
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
