"""The words that a prediction carries, and the field that shows them on the labelling screen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mollm.errors import ConfigError
from mollm_backend.labelstudio import label_config, show_why, why
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task

from .fake_studio import CONFIG

ALIAS = CONFIG.replace('value="B"', 'value="Bee" alias="b"')
TWO = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text"><Choice value="A"/><Choice value="B"/>'
    '</Choices><Rating name="stars" toName="text" maxRating="3"/></View>'
)


def project(config: str = CONFIG) -> Project:
    return Project(3, "u", "t", "", config, label_config.parse(config))


def test_the_words_come_first_and_sort_as_the_confidence_does() -> None:
    sure = (0.03, 0.27, 0.5, 0.995, 1.0)
    rows = [why.result(project(), {"": ("B", confidence)})[0] for confidence in sure]
    assert [row[why.KEY] for row in rows] == ["03 % sure: B", "27 % sure: B", "50 % sure: B", *["99 % sure: B"] * 2]
    assert [next(iter(row)) for row in rows] == [why.KEY] * 5
    assert min(rows[0], key=len) == why.KEY  # PostgreSQL sorts the keys of an object by their length
    assert label_config.labels_of(rows[:1], project().decisions) == {"": ("B", "")}


def test_they_say_why_a_task_came_and_what_each_llm_says(store: Store) -> None:
    panel = (PanelMember("one", "f1"), PanelMember("two", "f2"), PanelMember("off", "f3"))
    projects.save(store, replace(project(), panel=panel))
    tasks.upsert(store, 3, [Task(7, "h", "a text")])
    key = tasks.some(store, 3, [7])[7].text_key
    for member, probs in zip(panel, ([0.2, 0.7, 0.1], [0.6, 0.3, 0.1]), strict=False):
        row = SignalRow(key, np.array(probs, dtype=np.float32), np.array(probs, dtype=np.float32), 0.0, False)
        signals.save(store, member, 3, [row], Cost(calls=1, texts=1))
    found = projects.get(store, 3)
    said = why.panel_says(store, found, [7, 99])
    (part,) = why.result(found, {"": ("B", 0.27)}, "margin", said[7])
    assert part[why.KEY] == "27 % sure: B; chosen: margin; one: B 70%, two: A 60%"
    assert 99 not in said


def test_a_label_is_named_as_the_screen_names_it() -> None:
    (part,) = why.result(project(ALIAS), {"": ("b", 0.6)})
    assert part[why.KEY] == "60 % sure: Bee"


def test_the_field_is_filled_only_where_the_label_config_has_it() -> None:
    labels = {"label": ("B", 0.5), "stars": ("2", 0.4)}
    assert [part["from_name"] for part in why.result(project(TWO), labels)] == ["label", "stars"]
    shown = show_why.added_to(TWO, "text")
    *_, field = why.result(project(shown), labels, "margin")
    assert field["from_name"] == show_why.CONTROL
    assert field["value"]["text"] == ["label: 50 % sure: B; chosen: margin\nstars: 40 % sure: 2; chosen: margin"]
    assert why.result(project(shown), {}) == []  # a blind task stays blank


def test_the_field_can_be_taken_out_again_and_decides_nothing() -> None:
    for config in (CONFIG, TWO, CONFIG.replace("</View>", "\n</View>\n")):
        shown = show_why.added_to(config, "text")
        assert show_why.shows(shown)
        assert show_why.added_to(shown, "text") == shown
        assert show_why.without(shown) == config
        assert label_config.parse(shown) == label_config.parse(config)
    assert not show_why.shows(CONFIG)
    with pytest.raises(ConfigError, match="</View>"):
        show_why.added_to("<View/>", "text")
