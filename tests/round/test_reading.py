"""What a round reads of its texts: all spaces of an encoder, alike in the round and later, or a clear error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mollm.errors import ModelFileError
from mollm.records import FloatArray, IntArray, Targets
from mollm.round.kinds import Kinds
from mollm.round.reading import FOREIGN, START, WORDS, Reading, shares

TEXTS = [" ".join(row) for row in np.random.default_rng(3).choice(["so", "it", "is", "not", "a", "b"], (400, 5))]


def layered(N: int = 400, fine_tells: bool = True) -> tuple[FloatArray, IntArray]:
    """(N, 3, 32) noise in which one layer tells the label (N,): a dimension of the first, or most of the last."""
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=N)
    x = rng.normal(size=(N, 3, 32))
    if fine_tells:
        x[:, 0, :4] += 3 * (label[:, None] - 0.5)
    else:
        x[:, 2] += rng.normal(size=32) * 3 * (label[:, None] - 0.5)
    return x, label


def told(z: FloatArray, label: IntArray, taught: int) -> float:
    """How often the nearer of two classes' means over the first texts is right on the others."""
    means = np.array([z[:taught][label[:taught] == c].mean(axis=0) for c in (0, 1)])
    nearest = ((z[taught:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    return float((nearest == label[taught:]).mean())


@pytest.mark.parametrize("fine_tells", [True, False])
def test_what_either_side_tells_is_read(fine_tells: bool) -> None:
    x, label = layered(fine_tells=fine_tells)
    assert told(Reading.of(x, TEXTS).read(x, TEXTS), label, 40) > 0.8


def test_a_few_labels_reach_further_along_what_a_pool_is_spread_most() -> None:
    x, label = layered(fine_tells=False)
    z = Reading.of(x, TEXTS).read(x, TEXTS)
    assert told(z, label, 6) > 0.95
    assert told(z, label, 6) > told(x[:, :2].reshape(len(x), -1), label, 6) + 0.3


def spaces(reading: Reading, z: FloatArray) -> list[FloatArray]:
    """What was read, by space."""
    return np.split(z, np.cumsum(reading.sizes)[:-1], axis=1)


def test_each_space_is_as_large_as_its_share_and_centred() -> None:
    x, _ = layered()
    reading = Reading.of(x, TEXTS)
    z = reading.read(x, TEXTS)
    lengths = [float((space**2).sum(axis=1).mean()) for space in spaces(reading, z)]
    assert lengths == pytest.approx(START, abs=1e-3)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("fine_tells", [True, False])
def test_labels_say_which_space_tells_more(fine_tells: bool) -> None:
    x, label = layered(fine_tells=fine_tells)
    reading, fold = Reading.of(x, TEXTS), np.arange(400) % 5
    z = reading.read(x, TEXTS)

    def share(H: int) -> tuple[float, ...]:
        return shares(reading, z, Targets.of(np.arange(H), label[:H]), fold, 2)

    assert share(0) == share(1) == START, "nothing can be compared"
    assert np.abs(np.subtract(share(4), START)).max() < 0.15, "few labels say little"
    assert sum(share(100)) == pytest.approx(1)
    assert share(100)[0] > 0.65 if fine_tells else share(100)[0] < 0.25
    weighed = reading.weighed(share(100))
    assert told(weighed.read(x, TEXTS), label, 40) >= told(z, label, 40)
    lengths = [float((space**2).sum(axis=1).mean()) for space in spaces(reading, weighed.read(x, TEXTS))]
    assert lengths == pytest.approx(share(100), abs=1e-3)


def test_labels_of_noise_leave_all_spaces() -> None:
    x, _ = layered()
    reading, rng = Reading.of(x, TEXTS), np.random.default_rng(5)
    z, found = reading.read(x, TEXTS), []
    for _ in range(20):
        targets = Targets.of(np.arange(50), rng.integers(2, size=50))
        found.append(shares(reading, z, targets, np.arange(400) % 5, 2))
    assert np.abs(np.mean(found, axis=0) - START).max() < 0.2


def heaps(N: int = 400, C: int = 4) -> tuple[FloatArray, IntArray]:
    """(N, 1, 64): as many heaps of texts as labels, not far apart, with a wide spread that says nothing."""
    rng = np.random.default_rng(2)
    label = rng.integers(C, size=N)
    x = rng.normal(size=(N, 64)) + 0.6 * rng.normal(size=(C, 64))[label]
    return x[:, None], label


def test_one_label_speaks_for_its_kind() -> None:
    x, label = heaps()
    reading = Reading.of(x, TEXTS)
    z = reading.read(x, TEXTS)
    taught = np.array([int(np.flatnonzero(label == c)[0]) for c in range(4)])

    def right(z: FloatArray) -> float:
        return float((((z[:, None] - z[taught]) ** 2).sum(axis=2).argmin(axis=1) == label).mean())

    fine, broad, kinds, _ = spaces(reading, z)
    assert right(kinds) > 0.95
    assert right(kinds) > right(broad) > right(fine)


def test_what_only_words_tell_is_read() -> None:
    rng = np.random.default_rng(6)
    label = rng.integers(2, size=400)
    texts = [f"{('who', 'when')[c]} {text}" for c, text in zip(label, TEXTS, strict=True)]
    x = rng.normal(size=(400, 3, 32))
    reading = Reading.of(x, texts)
    z = reading.read(x, texts)
    *others, words = spaces(reading, z)
    assert told(words, label, 20) > 0.95
    assert max(told(space, label, 20) for space in others) < 0.7
    share = shares(reading, z, Targets.of(np.arange(100), label[:100]), np.arange(400) % 5, 2)
    assert share[3] > 0.15, "labels say so"


def test_texts_of_another_script_are_read_by_their_words_first() -> None:
    x, label = layered()
    texts = [f"Где находится банк {text}?" for text in TEXTS]
    reading, fold = Reading.of(x, texts), np.arange(400) % 5
    assert reading.share == FOREIGN
    z = reading.read(x, texts)
    assert shares(reading, z, Targets.of(np.arange(1), label[:1]), fold, 2) == FOREIGN
    few, many = (shares(reading, z, Targets.of(np.arange(H), label[:H]), fold, 2) for H in (6, 200))
    assert few[3] > 0.3
    assert many[0] > 0.5, "an encoder that reads them is found out"


@pytest.mark.parametrize(("words", "found"), [(8, False), (200, True)])
def test_words_tell_the_kinds_of_long_texts_alone(words: int, found: bool) -> None:
    rng = np.random.default_rng(7)
    label = rng.integers(4, size=400)
    texts = [" ".join(f"w{n}" for n in c * 12 + rng.integers(20, size=words)) for c in label]
    x = rng.normal(size=(400, 3, 32))
    reading = Reading.of(x, texts)
    *_, kinds, _ = spaces(reading, reading.read(x, texts))
    means = np.array([kinds[:40][label[:40] == c].mean(axis=0) for c in range(4)])
    right = float((((kinds[40:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == label[40:]).mean())
    assert (right > 0.9) if found else (right < 0.5)
    assert (reading.beside > 0) == found


def test_few_texts_are_not_parted() -> None:
    x = np.random.default_rng(0).normal(size=(19, 8))
    assert len(Kinds.of(x).middles) == 0
    assert set(Kinds.of(np.repeat(x, 2, axis=0)).counts) == set(), "equal texts are no more texts"
    assert set(Kinds.of(np.random.default_rng(0).normal(size=(40, 8))).counts) == {4, 8}


def test_the_kinds_of_equal_pools_are_equal() -> None:
    x, _ = heaps()
    one, other = (Reading.of(x, TEXTS).state().arrays for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)


def test_scale_and_shift_of_a_dimension_change_nothing() -> None:
    x, _ = layered()
    moved = x * 10.0 ** np.random.default_rng(1).uniform(-1, 1, size=(3, 32)) + 5
    one, other = (Reading.of(given, TEXTS).read(given, TEXTS) for given in (x, moved))
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=1e-3)


def test_a_saved_reading_reads_alike() -> None:
    x, _ = layered()
    reading = Reading.of(x, TEXTS)
    np.testing.assert_array_equal(Reading.from_state(reading.state()).read(x, TEXTS), reading.read(x, TEXTS))


def test_texts_that_are_empty_have_no_part_in_it() -> None:
    x, _ = layered()
    holes, texts = x.copy(), list(TEXTS)
    holes[::3], texts[::3] = np.nan, [" "] * len(texts[::3])
    some = np.flatnonzero([text != " " for text in texts])
    with_holes, without = Reading.of(holes, texts), Reading.of(x[some], [texts[n] for n in some])
    np.testing.assert_array_equal(with_holes.fine, without.fine)
    np.testing.assert_array_equal(with_holes.words.usual, without.words.usual)


@pytest.mark.parametrize("shape", [(1, 3, 8), (5, 3, 8), (5, 8), (400, 2)])
def test_small_and_equal_and_plain_embeddings_are_read(shape: tuple[int, ...]) -> None:
    for x in (np.random.default_rng(0).normal(size=shape), np.ones(shape)):
        for texts in (TEXTS[: len(x)], ["the same"] * len(x), ["..."] * len(x)):
            z = Reading.of(x, texts).read(x, texts)
            assert len(z) == len(x)
            assert np.isfinite(z).all()


def test_what_does_not_fit_says_what_to_do() -> None:
    x, _ = layered()
    reading = Reading.of(x, TEXTS)
    with pytest.raises(ModelFileError, match="restore the encoder"):
        reading.read(x[:, :2], TEXTS)
    state = reading.state()
    without = {name: value for name, value in state.arrays.items() if name != "fine"}
    bents = [
        {**state.arrays, name: np.zeros(2)}
        for name in ("broad", "plain", "share", "middles", "width", "size", "beside")
    ]
    bents += [{**state.arrays, "beside": np.array(value)} for value in (-1.0, np.nan, np.inf)]
    bents += [{**state.arrays, f"{WORDS}{name}": np.zeros(2)} for name in ("columns", "idf", "components", "usual")]
    bents += [{**state.arrays, f"{WORDS}columns": state.arrays[f"{WORDS}columns"] - 2**18}]
    for bent in (None, *(replace(state, arrays=arrays) for arrays in (without, *bents))):
        with pytest.raises(ModelFileError, match="train again"):
            Reading.from_state(bent)
