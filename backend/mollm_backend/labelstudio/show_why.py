"""An addition to a label config that shows why a task came and what the LLMs say: only where a team asks for it.

It is a text field that nobody can edit. Label Studio's page leaves it out of what it submits, because its own
condition names a control that does not exist, while the View around it is shown as soon as something is chosen. So the
words stand on the labelling screen, in the label stream too, and in no annotation.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mollm.errors import ConfigError

CONTROL = "mollm_why"  # the field's name in the label config, and in the predictions that fill it
_ADDED = (
    '<View visibleWhen="choice-selected"><TextArea name="{control}" toName="{target}" editable="false" '
    'maxSubmissions="0" whenTagName="mollm"/></View>'
)
_FOUND = re.compile(re.escape(_ADDED).replace(re.escape("{control}"), CONTROL).replace(re.escape("{target}"), '[^"]*'))


@lru_cache(16)
def shows(config: str) -> bool:
    """Whether a label config has the field."""
    return _FOUND.search(config) is not None


def without(config: str) -> str:
    """The label config as the team wrote it."""
    return _FOUND.sub("", config)


def added_to(config: str, target: str) -> str:
    """The label config with the field at its end, on the object `target`. Raises ConfigError where it has no end."""
    if shows(config):
        return config
    before, end, after = config.rpartition("</View>")
    if not end:
        raise ConfigError("The label config does not end with </View>: nothing can be shown on the labelling screen.")
    return before + _ADDED.format(control=CONTROL, target=target) + end + after
