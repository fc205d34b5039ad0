"""The paired judgement: exact numbers by hand, its error rate over many tries, and the coverage of its interval."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.acceptance.paired import ALPHA, judged
from mollm.errors import InputError


def pair(n: int, gained: int, lost: int, both: int = 0) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    after[:gained] = before[gained : gained + lost] = True
    before[gained + lost : gained + lost + both] = after[gained + lost : gained + lost + both] = True
    return before, after


@pytest.mark.parametrize(
    ("gained", "lost", "p", "better"),
    [(0, 0, 1.0, False), (5, 0, 1 / 32, False), (6, 0, 1 / 64, True), (10, 3, 378 / 8192, False), (0, 9, 1.0, False)],
)
def test_the_p_value_is_the_exact_one(gained: int, lost: int, p: float, *, better: bool) -> None:
    found = judged(*pair(60, gained, lost, 30))
    assert found.p == pytest.approx(p)
    assert found.better == better
    assert (found.gained, found.lost) == (gained, lost)
    assert found.after - found.before == pytest.approx((gained - lost) / 60)


def test_later_tries_must_show_more() -> None:
    alphas = [judged(*pair(60, 6, 0), k).alpha for k in range(1, 2000)]
    assert sum(alphas) < ALPHA
    assert sum(alphas) == pytest.approx(ALPHA, rel=1e-3)
    assert judged(*pair(60, 6, 0), 1).better
    assert not judged(*pair(60, 6, 0), 2).better


def test_what_is_no_better_is_taken_rarely_however_often_it_is_tried() -> None:
    rng = np.random.default_rng(7)
    taken = 0
    for _ in range(2000):
        before = rng.random(80) < 0.7
        taken += any(judged(before, np.where(rng.random(80) < 0.3, rng.random(80) < 0.7, before), k).better
                     for k in range(1, 6))  # fmt: skip
    assert taken / 2000 <= ALPHA


@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize(("up", "down"), [(0.02, 0.02), (0.1, 0.05), (0.3, 0.1), (0.0, 0.05)])
def test_the_interval_covers(n: int, up: float, down: float) -> None:
    rng = np.random.default_rng(11)
    draws = rng.multinomial(n, [up, down, 1 - up - down], size=3000)
    inside = [(found := judged(*pair(n, int(b), int(c), n - int(b) - int(c)))).low <= up - down <= found.high
              for b, c, _ in draws]  # fmt: skip
    assert np.mean(inside) >= 0.935


def test_other_items_are_refused() -> None:
    for one, two in ((3, 4), (0, 0)):
        with pytest.raises(InputError):
            judged(np.zeros(one, dtype=np.bool_), np.zeros(two, dtype=np.bool_))
