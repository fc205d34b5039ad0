"""The style sheet's colours can be read in both schemes, by the arithmetic of WCAG 2.2."""

from __future__ import annotations

import re

import pytest

from mollm_backend.view import assets

TEXT, PART = 4.5, 3.0  # the least contrast of text (1.4.3), and of what shows where a control is (1.4.11)
PAIRS = [(name, below, TEXT) for name in ("ink", "soft", "accent", "good", "bad") for below in ("paper", "ground")] + [
    ("on-accent", "accent", TEXT),
    ("edge", "paper", PART),
    ("edge", "ground", PART),
    ("ink", "line", TEXT),
]


def colours(scheme: str) -> dict[str, str]:
    sheet = assets.every()["mollm.css"].content.decode()
    light, dark = re.findall(r":root \{([^}]*)\}", sheet)
    found = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", dark))


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "below", "least"), PAIRS)
def test_each_pair_has_contrast(scheme: str, name: str, below: str, least: float) -> None:
    known = colours(scheme)
    one, other = sorted((luminance(known[name]), luminance(known[below])), reverse=True)
    assert (one + 0.05) / (other + 0.05) >= least


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name, asset in assets.every().items():
        text = asset.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, name
        assert "@import" not in text, name
