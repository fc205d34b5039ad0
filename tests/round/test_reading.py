"""What a round reads of its texts: both sides of an encoder, alike in the round and later, or a clear error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mollm.errors import ModelFileError
from mollm.records import FloatArray, IntArray, Targets
from mollm.round.reading import Reading, share_of_fine

EVERY = np.ones(400, dtype=np.bool_)


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
    assert told(Reading.of(x, EVERY).read(x), label, 40) > 0.8


def test_a_few_labels_reach_further_along_what_a_pool_is_spread_most() -> None:
    x, label = layered(fine_tells=False)
    z = Reading.of(x, EVERY).read(x)
    assert told(z, label, 6) > 0.95
    assert told(z, label, 6) > told(x[:, :2].reshape(len(x), -1), label, 6) + 0.3


def test_both_sides_are_equally_large_and_centred() -> None:
    x, _ = layered()
    reading = Reading.of(x, EVERY)
    z = reading.read(x)
    sides = z[:, : reading.fine.shape[1]], z[:, reading.fine.shape[1] :]
    assert [float((side**2).sum(axis=1).mean()) for side in sides] == pytest.approx([0.5, 0.5], abs=1e-3)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("fine_tells", [True, False])
def test_labels_say_which_side_tells_more(fine_tells: bool) -> None:
    x, label = layered(fine_tells=fine_tells)
    reading, fold = Reading.of(x, EVERY), np.arange(400) % 5
    z = reading.read(x)

    def share(H: int) -> float:
        return share_of_fine(reading, z, Targets.of(np.arange(H), label[:H]), fold, 2)

    assert share(0) == share(1) == 0.5, "nothing can be compared"
    assert abs(share(4) - 0.5) < 0.1, "few labels say little"
    assert share(100) > 0.65 if fine_tells else share(100) < 0.35
    weighed = reading.weighed(share(100))
    assert told(weighed.read(x), label, 40) >= told(z, label, 40)
    side = weighed.read(x)[:, : reading.fine.shape[1]]
    assert float((side**2).sum(axis=1).mean()) == pytest.approx(share(100), abs=1e-3)


def test_labels_of_noise_leave_both_sides() -> None:
    x, _ = layered()
    reading, rng = Reading.of(x, EVERY), np.random.default_rng(5)
    z, shares = reading.read(x), []
    for _ in range(20):
        targets = Targets.of(np.arange(50), rng.integers(2, size=50))
        shares.append(share_of_fine(reading, z, targets, np.arange(400) % 5, 2))
    assert abs(np.mean(shares) - 0.5) < 0.15


def test_scale_and_shift_of_a_dimension_change_nothing() -> None:
    x, _ = layered()
    moved = x * 10.0 ** np.random.default_rng(1).uniform(-1, 1, size=(3, 32)) + 5
    one, other = (Reading.of(given, EVERY).read(given) for given in (x, moved))
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=1e-3)


def test_a_saved_reading_reads_alike() -> None:
    x, _ = layered()
    reading = Reading.of(x, EVERY)
    np.testing.assert_array_equal(Reading.from_state(reading.state()).read(x), reading.read(x))


def test_texts_that_are_empty_have_no_part_in_it() -> None:
    x, _ = layered()
    some = EVERY.copy()
    some[::3] = False
    holes = x.copy()
    holes[~some] = np.nan
    np.testing.assert_array_equal(Reading.of(holes, some).fine, Reading.of(x[some], EVERY[some]).fine)


@pytest.mark.parametrize("shape", [(1, 3, 8), (5, 3, 8), (5, 8), (400, 2)])
def test_small_and_equal_and_plain_embeddings_are_read(shape: tuple[int, ...]) -> None:
    for x in (np.random.default_rng(0).normal(size=shape), np.ones(shape)):
        z = Reading.of(x, np.ones(len(x), dtype=np.bool_)).read(x)
        assert len(z) == len(x)
        assert np.isfinite(z).all()


def test_what_does_not_fit_says_what_to_do() -> None:
    x, _ = layered()
    reading = Reading.of(x, EVERY)
    with pytest.raises(ModelFileError, match="restore the encoder"):
        reading.read(x[:, :2])
    state = reading.state()
    without = {name: value for name, value in state.arrays.items() if name != "fine"}
    for bent in (None, replace(state, arrays=without), replace(state, arrays={**state.arrays, "broad": np.zeros(3)})):
        with pytest.raises(ModelFileError, match="train again"):
            Reading.from_state(bent)
