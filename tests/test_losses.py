"""The paper's loss on numbers that were worked out by hand, its gradient, and its two spellings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.losses import Rows, negative_strength, robust_loss
from mollm.records import TrainingRow

# Logits whose softmax is 1/2, 1/4, 1/4 in the first row; 1/8, 3/4, 1/8 in the second; thirds in the last.
LOGITS = np.log(np.array([[2.0, 1.0, 1.0], [1.0, 6.0, 1.0], [1.0, 1.0, 1.0]]))
ROWS = (
    TrainingRow(0, 0, 1.0, (), human=True),
    TrainingRow(1, 1, 0.5, (0, 2)),
    TrainingRow(2, 2, 1.0, (0,)),
)


def test_it_is_the_papers_loss_by_hand() -> None:
    value, _ = robust_loss(LOGITS, Rows.of(ROWS, 3), 0.4)
    plain = (math.log(2) + 0.5 * math.log(4 / 3) + math.log(3)) / 3
    second = -(math.log(7 / 8 + 1e-6) + math.log(7 / 8 + 1e-6)) / 2
    third = -math.log(2 / 3 + 1e-6)
    assert value == pytest.approx(plain + 0.4 * (second + third) / 2, abs=1e-12)


def test_human_rows_are_plain_cross_entropy() -> None:
    human = Rows.of([TrainingRow(0, 0, human=True), TrainingRow(1, 2, human=True)], 3)
    value, gradient = robust_loss(LOGITS[:2], human, 1.0)
    assert value == pytest.approx((math.log(2) + math.log(8)) / 2)
    np.testing.assert_allclose(gradient, (np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]) - np.eye(3)[[0, 2]]) / 2)


def test_strength_zero_switches_the_negatives_off() -> None:
    bare = Rows.of([TrainingRow(r.item, r.label, r.weight) for r in ROWS], 3)
    assert robust_loss(LOGITS, Rows.of(ROWS, 3), 0.0)[0] == robust_loss(LOGITS, bare, 1.0)[0]


def test_lambda_rises_from_04_to_10_over_ten_rounds_and_stays() -> None:
    found = [negative_strength(r, LoopConfig()) for r in (0, 1, 5, 10, 30)]
    np.testing.assert_allclose(found, [0.4, 0.46, 0.7, 1.0, 1.0])


def test_a_row_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="label 3"):
        Rows.of([TrainingRow(0, 3)], 3)
    with pytest.raises(InputError, match="negatives"):
        Rows.of([TrainingRow(0, 1, 1.0, (1,))], 3)


def drawn(seed: int, J: int, C: int, spread: float) -> tuple[np.ndarray, Rows]:
    rng = np.random.default_rng(seed)
    label = rng.integers(C, size=J)
    never = rng.random((J, C)) < 0.4
    never[np.arange(J), label] = False
    return rng.normal(0, spread, (J, C)), Rows(np.arange(J), label, rng.uniform(0.1, 1, J), never)


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 6), st.floats(0, 1))
def test_the_gradient_is_the_slope(seed: int, J: int, C: int, strength: float) -> None:
    logits, rows = drawn(seed, J, C, 1.5)
    _, gradient = robust_loss(logits, rows, strength)
    numeric = approx_fprime(logits.ravel(), lambda z: robust_loss(z.reshape(J, C), rows, strength)[0], 1e-6)
    np.testing.assert_allclose(gradient.ravel(), numeric, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_numpy_and_torch_say_the_same(spread: float) -> None:
    torch = pytest.importorskip("torch")
    from mollm.losses import robust_loss_torch

    for seed in range(5):
        logits, rows = drawn(seed, 9, 4, spread)
        value, gradient = robust_loss(logits, rows, 0.7)
        z = torch.tensor(logits, requires_grad=True)
        loss = robust_loss_torch(
            z, torch.from_numpy(rows.label), torch.from_numpy(rows.weight), torch.from_numpy(rows.negatives), 0.7
        )
        loss.backward()
        assert float(loss.detach()) == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(z.grad.numpy(), gradient, atol=1e-7)
        assert np.isfinite(gradient).all()
