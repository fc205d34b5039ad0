"""The weight of a label in every fit, by how the label was made.

The defaults are for projects where no weight could be learned. A label from scratch or an edited label was certainly
judged: 1. A person who accepts a label may only have followed it. Only blind labels can show how often that happens
(`mollm.people.anchoring` then learns the weight). A guessed discount also lowers labels of people who do judge: with .8
for accepted labels, accuracy on TREC fell from .789 to .772 at 50 labels (seeds 100-102; no loss at 300). So an
accepted label counts 1 until its weight is learned. In a bulk acceptance no single task was judged: .2, a guess. A
certified label is no person's, and has no weight: it never comes to a fit.
"""

from __future__ import annotations

from collections.abc import Mapping

from mollm.errors import ConfigError
from mollm.records import Provenance

DEFAULT_WEIGHTS: Mapping[Provenance, float] = {
    Provenance.FROM_SCRATCH: 1.0,
    Provenance.EDITED: 1.0,
    Provenance.ACCEPTED: 1.0,
    Provenance.BULK_ACCEPTED: 0.2,
}


def weights(own: Mapping[str, object] | None = None) -> dict[Provenance, float]:
    """The defaults, replaced by a project's `own`. Raises ConfigError for an unknown kind, or outside 0 < w <= 1."""
    found = dict(DEFAULT_WEIGHTS)
    for kind, value in (own or {}).items():
        if kind not in {known.value for known in DEFAULT_WEIGHTS}:
            known = ", ".join(DEFAULT_WEIGHTS)
            raise ConfigError(f"There is no provenance {kind!r}: a weight is given for one of {known}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise ConfigError(f"The weight of {kind} is {value!r}: give a number above 0 and at most 1.")
        found[Provenance(kind)] = float(value)
    return found
