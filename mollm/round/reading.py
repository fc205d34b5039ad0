"""What a round reads of its texts' embeddings: four spaces side by side, learned from the pool without any label.

    fine    all layers but the last, along their main directions: how a text is put, as in the kind of a question
    broad   the last layer, each main direction once more as large as the pool is spread along it: what texts are about
    kinds   the last layer again, and the words: which of the pool's kinds of texts is near (`mollm.round.kinds`)
    words   no layer at all: which words stand in a text, and how it begins (`mollm.round.words`)

Like texts lie together along the few directions in which a pool is spread most, so that a few labels there speak for
many texts (Chapelle, Weston and Schoelkopf 2002, "Cluster kernels for semi-supervised learning": a power of the
spectrum, or kinds). What these do not tell apart, the fine directions do. How long each space is, human labels say
(`shares`); before there are any, it is fixed (`START`, or `FOREIGN` where texts are of another script than Latin).
Embeddings without layers are read in all ways.

Kinds of long texts are told by their words, too: a text repeats the words of its topic, while a sentence's few words
tell how it is put (`topical`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import softmax
from sklearn.utils.extmath import randomized_svd

from mollm.blas import one_thread
from mollm.classifier.head import RIDGE, Head
from mollm.errors import ModelFileError
from mollm.languages import share_not_latin, tokens_about
from mollm.losses import Rows
from mollm.mixture.evidence import chunks
from mollm.records import FittedState, FloatArray, IntArray, Targets
from mollm.round.kinds import TINY, Kinds, rounded
from mollm.round.words import Words

FINE, BROAD, PLAIN = 256, 128, 32
"""Directions at most; PLAIN of the broad ones, at their own size, and of the words' for the kinds (chosen by hand:
twice or half as many change little, and fewer make a round faster)."""
SHORT = 64.0
"""Tokens of the middle text at which its words begin to tell its kind: with sixteen (chats) they do harm, with 120
(drug reviews) they are neutral, with 500 (BBC News) a gain; there half and six times as much weight are alike."""
SCRIPT = 500
"""Texts, evenly spread, that tell which script most have; more of them only cost time."""
SAMPLE = 4000
"""Texts, evenly spread over the pool, from which all is learned; more of them only cost time."""
START, FOREIGN = (0.45, 0.45, 0.05, 0.05), (0.05, 0.05, 0.05, 0.85)
"""Of the squared length, what each space has before labels say more (chosen by hand): of texts in Latin script, and
of others, of which an English encoder reads next to nothing (of Dutch, Italian and Portuguese it reads enough that the
words first were no gain)."""
SHARES = (
    START,
    (0.85, 0.05, 0.05, 0.05),
    (0.05, 0.85, 0.05, 0.05),
    (0.65, 0.05, 0.25, 0.05),
    (0.05, 0.65, 0.25, 0.05),
    (0.65, 0.05, 0.05, 0.25),
    (0.05, 0.65, 0.05, 0.25),
    (0.25, 0.05, 0.05, 0.65),
    (0.05, 0.25, 0.05, 0.65),
    FOREIGN,
)
"""What labels choose from. No space is left out wholly. The kinds have a quarter at most, since the rows that the
mixture labels tell a round much of the same: with one half TREC and drug reviews lost .003 and .008. The last three,
nearly words alone, are for texts that the encoder cannot read."""
WORDY = 0.5
"""The words' share in those three is above this, in the others below."""
RARE = 3.0
"""Nats by which those of the other kind than the start are less likely before any label (chosen by hand): few labels
hardly turn to them."""
MOST = 400
"""Human labels, the last, that compare the shares (chosen by hand: more only take longer)."""
SMALLEST = 1e-3
"""Of a layer's largest spread: a dimension that varies less is constant but for rounding, and is left out."""
WORDS = "words."
"""Begins the names of the words' arrays."""


@dataclass(frozen=True)
class Reading:
    """`centre` (D,) over all L layers; `fine` (first layers' D, K) and `broad` (last layer's D, K') are linear maps to
    a root mean square length of 1; `plain` (K'',) brings the first directions of `broad` back to their own size, where
    the `kinds` are, `beside` them the first directions of the words, which are so much longer; the `words` need no
    layer; `share` (4,) of the squared length that each space has.
    """

    centre: FloatArray
    fine: FloatArray
    broad: FloatArray
    plain: FloatArray
    kinds: Kinds
    words: Words
    beside: float
    share: tuple[float, ...] = START

    @classmethod
    def of(cls, embeddings: FloatArray, texts: Sequence[str]) -> Self:
        """From a pool's embeddings (N, L, D) or (N, D) and its N texts; the empty ones have no part."""
        index = np.flatnonzero([bool(text.strip()) for text in texts])
        some = index[:: 1 + len(index) // SAMPLE]
        x = np.asarray(embeddings[some], dtype=np.float64)
        x = x if x.ndim == 3 else x[:, None]
        centre, spread = x.mean(axis=0), x.std(axis=0)
        factor = np.where(spread > SMALLEST * spread.max(axis=1, keepdims=True), 1 / np.maximum(spread, TINY), 0.0)
        scaled = (x - centre) * factor
        first = slice(0, -1) if x.shape[1] > 1 else slice(None)
        with one_thread():
            along, weight = _directions(scaled[:, first].reshape(len(x), -1), FINE, 0)
            fine = rounded(factor[first].reshape(-1, 1) * along * weight)
            along, weight = _directions(scaled[:, -1], BROAD, 1)
            broad, plain = rounded(factor[-1][:, None] * along * weight), rounded(1 / np.maximum(weight[:PLAIN], TINY))
            places = (x[:, -1] - rounded(centre[-1])) @ broad[:, :PLAIN] * plain
        words = Words.of([texts[n] for n in index])
        told = words.read([texts[n] for n in some])[:, :PLAIN]
        share = topical([texts[n] for n in some]) * (places**2).sum() / max((told**2).sum(), TINY)
        beside = float(np.float32(np.sqrt(share)))
        kinds = Kinds.of(np.concatenate([places, beside * told], axis=1))
        foreign = share_not_latin(texts[n] for n in some[:: 1 + len(some) // SCRIPT])
        start = FOREIGN if foreign > 0.5 else START
        return cls(rounded(centre.ravel()), fine, broad, plain, kinds, words, beside, start)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The dimensions of the spaces."""
        return self.fine.shape[1], self.broad.shape[1], len(self.kinds.middles), len(self.words.usual)

    def read(self, embeddings: FloatArray, texts: Sequence[str]) -> FloatArray:
        """(N, K + K' + M + W) from (N, L, D) or (N, D) and N texts. Raises ModelFileError for embeddings of another
        size."""
        if int(np.prod(embeddings.shape[1:])) != len(self.centre):
            raise ModelFileError(
                f"Texts were read as {len(self.centre)} numbers, not as {np.prod(embeddings.shape[1:])}: "
                "retrain, or restore the encoder."
            )
        out, length = np.empty((len(embeddings), sum(self.sizes))), np.repeat(np.sqrt(self.share), self.sizes)
        for rows in chunks(len(embeddings)):
            x = flat(embeddings[rows]) - self.centre
            broad = x[:, -len(self.broad) :] @ self.broad
            words = self.words.read(texts[rows])
            places = broad[:, : len(self.plain)] * self.plain
            kinds = self.kinds.read(np.concatenate([places, self.beside * words[:, :PLAIN]], axis=1))
            np.concatenate([x[:, : len(self.fine)] @ self.fine, broad, kinds, words], 1, out[rows])
            out[rows] *= length
        return out

    def weighed(self, share: Sequence[float]) -> Self:
        """The same, with so much of the squared length in each space."""
        return replace(self, share=tuple(share))

    def factor(self, share: Sequence[float]) -> FloatArray:
        """(K + K' + M + W,) by which what was read grows where each space has so much of the squared length."""
        return np.repeat(np.sqrt(np.divide(share, self.share)), self.sizes)

    def state(self) -> FittedState:
        """Its arrays, in single precision but for the shares and the words."""
        arrays = {
            "centre": self.centre, "fine": self.fine, "broad": self.broad, "plain": self.plain, **self.kinds.arrays()
        }  # fmt: skip
        stored = {name: value.astype(np.float32) for name, value in arrays.items()}
        words = {f"{WORDS}{name}": value for name, value in self.words.arrays().items()}
        exact = {"share": np.array(self.share), "beside": np.array(self.beside)}
        return FittedState("reading", {**stored, **words, **exact})

    @classmethod
    def from_state(cls, state: FittedState | None) -> Self:
        """Raises ModelFileError where there is none, or one with missing or bent arrays."""
        try:
            arrays = {} if state is None else state.arrays
            centre, fine, broad, plain, share = (
                np.asarray(arrays[name], np.float64) for name in ("centre", "fine", "broad", "plain", "share")
            )
            beside = float(np.asarray(arrays["beside"], np.float64).item())
            kinds = Kinds.from_arrays(arrays)
            told = {name.removeprefix(WORDS): value for name, value in arrays.items() if name.startswith(WORDS)}
            words = Words.from_arrays(told)
        except (KeyError, TypeError, ValueError, ModelFileError) as error:
            raise ModelFileError(f"This version does not tell how it reads texts ({error!r}): train again.") from None
        found = cls(centre, fine, broad, plain, kinds, words, beside, tuple(share.tolist()))
        if (
            fine.ndim != 2
            or broad.ndim != 2
            or max(len(fine), len(broad)) > len(centre)
            or len(share) != len(found.sizes)
            or not 0 <= beside < np.inf
            or kinds.middles.shape[1] != len(plain) + min(PLAIN, len(words.usual))
        ):
            raise ModelFileError("What this version tells of how it reads texts does not fit together: train again.")
        return found


def shares(reading: Reading, x: FloatArray, targets: Targets, fold: IntArray, C: int) -> tuple[float, ...]:
    """The share of the squared length that each space should have, by the human labels.

    `x` (N, K + K' + M + W) is what `reading` read with its shares as at its start, `fold` (N,) each item's fold, `C`
    the number of classes. A head on the labelled texts alone is cross-fitted with each of `SHARES`; the mean share
    counts each by the likelihood of the held-out labels, so that few labels leave it near the mean of all. So the
    labels of a fold have a part in these numbers, and in nothing else that scores them.
    """
    targets = targets.take(np.arange(targets.H)[-MOST:])
    if len(np.unique(targets.label)) < 2:
        return reading.share
    fold, losses = fold[targets.index], np.zeros(len(SHARES))
    for n, share in enumerate(SHARES):
        there = x[targets.index] * reading.factor(share)
        for k in np.unique(fold):
            seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            if len(seen):
                nothing = np.zeros((len(seen), C), dtype=np.bool_)
                rows = Rows(np.arange(len(seen)), targets.label[seen], targets.weight[seen], nothing)
                said = Head(C, ridge=RIDGE, each=False).fit(there[seen], rows).predict_proba(there[held])
                losses[n] -= targets.weight[held] @ np.log(said[np.arange(len(held)), targets.label[held]])
    words = np.array(SHARES)[:, 3]
    unlikely = RARE * ((words > WORDY) != (reading.share[3] > WORDY))
    return tuple((softmax(-losses - unlikely) @ np.array(SHARES)).tolist())


def topical(texts: Sequence[str]) -> float:
    """The squared length of the words among the kinds, as a part of that of the meaning: 0 for short texts, 1 for
    endless ones.

    >>> topical(["Who are you?"]), topical(["now " * 128])
    (0.0, 0.5)
    """
    tokens = float(np.median([tokens_about(text) for text in texts])) if texts else 0.0
    return max(0.0, 1 - SHORT / max(tokens, SHORT))


def flat(embeddings: FloatArray) -> FloatArray:
    """(N, L * D) from (N, L, D); (N, D) as it is."""
    return embeddings.reshape(len(embeddings), -1)


def _directions(x: FloatArray, most: int, power: int) -> tuple[FloatArray, FloatArray]:
    """(D, K): the main directions of `x` (n, D), and their weights (K,), with which x has a root mean square length
    of 1 along them: each is as long as `x` is spread along it, to the `power`."""
    found = randomized_svd(x, min(most, *x.shape), n_iter=4, random_state=0)
    spread, directions = np.asarray(found[1]), np.asarray(found[2])
    weight = (spread / max(float(spread.max(initial=0.0)), TINY)) ** power
    length = np.sqrt(((spread * weight) ** 2).sum() / len(x))
    return directions.T, np.asarray(weight / max(float(length), TINY))
