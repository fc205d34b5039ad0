"""`visibleWhen`: a control is predicted only where people see it, and its absence elsewhere says nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm_backend.labelstudio.config_change import change_between
from mollm_backend.labelstudio.label_config import joint, labels_of, lines_of, parse, read, results_of, words_of
from mollm_backend.labelstudio.left_to_people import lacks
from mollm_backend.store.decisions import Decision, shown

TEXT = '<Text name="text" value="$text"/>'
TONE = '<Choices name="tone" toName="text"><Choice value="good"/><Choice value="bad" alias="b"/></Choices>'
FLAGS = (
    '<Choices name="flags" toName="text" choice="multiple"><Choice value="urgent"/><Choice value="rude" alias="r"/>'
    "</Choices>"
)
TOPIC = (
    '<Taxonomy name="topic" toName="text"><Choice value="Sport"><Choice value="Football" alias="fb"/>'
    '<Choice value="Chess"/></Choice><Choice value="Other"/></Taxonomy>'
)
AB = '<Choice value="a"/><Choice value="b"/>'
WHY = f'<Choices name="why" toName="text" {{}}>{AB}</Choices>'
MANY = f'<Choices name="why" toName="text" choice="multiple" {{}}>{AB}</Choices>'


def when(kind: str = "choice-selected", tag: str = "tone", value: str | None = None) -> str:
    chosen = "" if value is None else f' whenChoiceValue="{value}"'
    return f'visibleWhen="{kind}" whenTagName="{tag}"{chosen}'


def config(*controls: str) -> tuple[Decision, ...]:
    return parse(f"<View>{TEXT}{''.join(controls)}</View>")


def all_of(decisions: tuple[Decision, ...], **labels: str) -> dict[str, str]:
    """A label of each decision: the first, or that of `labels`."""
    return {row.key: labels.get(row.key.replace("/", "_"), row.labels.names[-1]) for row in decisions}


def written(decisions: tuple[Decision, ...], labels: dict[str, str]) -> set[str]:
    return {part["from_name"] for part in results_of(decisions, {key: (label, 0.5) for key, label in labels.items()})}


@pytest.mark.parametrize(
    ("condition", "labels", "seen"),
    [
        (when(value="bad"), {"tone": "b"}, True),
        (when(value="b"), {"tone": "b"}, True),
        (when(value="bad"), {"tone": "good"}, False),
        (when(value="awful,bad"), {"tone": "b"}, True),
        (when(value="nothing like it"), {"tone": "b"}, False),
        (when(), {"tone": "good"}, True),
        (when("choice-unselected", value="bad"), {"tone": "b"}, False),
        (when("choice-unselected", value="bad"), {"tone": "good"}, True),
        (when(tag="flags", value="rude"), {"flags_r": "applies"}, True),
        (when(tag="flags", value="r"), {"flags_r": "does not apply", "flags_urgent": "applies"}, False),
        (when(tag="flags", value="urgent,rude"), {"flags_urgent": "applies"}, True),
        (when(tag="flags"), {}, False),
        (when(tag="flags"), {"flags_urgent": "applies"}, True),
        (when("choice-unselected", tag="flags"), {}, True),
        (when(tag="topic", value="fb"), {"topic": "Sport / fb"}, True),
        (when(tag="topic", value="Sport"), {"topic": "Sport / fb"}, False),
        (when("no-region-selected"), {}, True),
        ('whenChoiceValue="bad" whenTagName="tone"', {"tone": "b"}, True),
        ('whenChoiceValue="bad" whenTagName="tone"', {"tone": "good"}, False),
    ],
)
@pytest.mark.parametrize("control", [WHY, MANY], ids=["single", "multiple"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_it_is_written_exactly_where_people_see_it(
    control: str, condition: str, labels: dict[str, str], *, seen: bool, first: bool
) -> None:
    others = (TONE, FLAGS, TOPIC)
    decisions = config(*((control.format(condition), *others) if first else (*others, control.format(condition))))
    given = all_of(decisions, **labels) | {row.key: row.labels.names[0] for row in decisions if row.control == "why"}
    assert ("why" in written(decisions, given)) == seen


def test_a_view_around_hides_all_in_it_and_one_hidden_control_hides_the_next() -> None:
    inner = f"<View {when(value='bad')}>{WHY.format('')}</View>"
    last = f'<Choices name="more" toName="text" {when(tag="why", value="a")}>{AB}</Choices>'
    decisions = config(TONE, inner, last)
    for tone, why, seen in (("b", "a", {"why", "more"}), ("b", "b", {"why"}), ("good", "a", set())):
        assert written(decisions, all_of(decisions, tone=tone, why=why)) == {"tone"} | seen


def test_the_joint_confidence_and_the_words_are_of_what_is_seen() -> None:
    decisions = config(TONE, WHY.format(when(value="bad")))
    sure = {"tone": ("b", 0.8), "why": ("a", 0.5)}
    assert joint(decisions, sure) == pytest.approx(0.4)
    assert joint(decisions, sure | {"tone": ("good", 0.8)}) == pytest.approx(0.8)
    assert words_of(decisions, {"tone": "b", "why": "a"}) == "tone: b; why: a"
    assert words_of(decisions, {"tone": "good", "why": "a"}) == "tone: good"


def part(name: str, *choices: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": list(choices)}}


@pytest.mark.parametrize("control", [WHY, MANY], ids=["single", "multiple"])
def test_an_annotation_without_a_hidden_control_says_nothing_of_it(control: str) -> None:
    decisions = config(TONE, control.format(when(value="bad")))
    hidden = labels_of([part("tone", "good")], decisions)
    assert {key: said for key, said in hidden.items() if key != "tone"} == {
        row.key: (None, "") for row in decisions if row.control == "why"
    }
    seen = labels_of([part("tone", "b"), part("why", "a")], decisions)
    assert seen[decisions[1].key] == (decisions[1].labels.names[0], "")
    blank = labels_of([part("tone", "b")], decisions)
    single = (None, "nothing was chosen in 'why'")
    assert blank[decisions[-1].key] == (single if control is WHY else ("does not apply", ""))


def test_what_was_filled_counts_although_it_should_be_hidden() -> None:
    """As after an import, or where the label config was changed since."""
    decisions = config(TONE, WHY.format(when(value="bad")))
    assert labels_of([part("tone", "good"), part("why", "a")], decisions)["why"] == ("a", "")


def test_conditions_that_need_each_other_show_neither() -> None:
    one = f'<Choices name="one" toName="text" {when(tag="two")}>{AB}</Choices>'
    two = f'<Choices name="two" toName="text" {when(tag="one")}>{AB}</Choices>'
    decisions = config(TONE, one, two)
    assert written(decisions, all_of(decisions)) == {"tone"}


def test_a_change_of_the_condition_is_named_and_asks_no_llm_again() -> None:
    before, after = config(TONE, WHY.format(when(value="bad"))), config(TONE, WHY.format(when(value="good")))
    change = change_between(before, after)
    assert change.decisions == after
    assert change.lines[1:] == ("why: it is asked under other conditions (visibleWhen); annotations are read again",)


def test_it_is_said_when_a_control_is_shown_and_kept_in_the_store() -> None:
    decisions = config(TONE, FLAGS, WHY.format(when("choice-unselected", value="bad") + " ").replace(
        "toName", 'required="true" toName'))  # fmt: skip
    assert lines_of(decisions)[-1] == "why: Choices, one of a, b; shown where tone is not b"
    assert decisions[-1].required
    assert tuple(Decision.from_json(row.as_json()) for row in decisions) == decisions
    old = {key: value for key, value in decisions[0].as_json().items() if key not in ("conditions", "required")}
    assert Decision.from_json(old) == decisions[0]


def test_a_required_list_with_nothing_ticked_is_left_to_people() -> None:
    must = MANY.format(when(value="bad") + ' required="true"')
    asked = read(f"<View>{TEXT}{TONE}{must}</View>")
    none = {row.key: "does not apply" for row in asked.decisions if row.control == "why"}
    assert lacks(asked.left, asked.decisions, none | {"tone": "good"}) is None
    lacking = lacks(asked.left, asked.decisions, none | {"tone": "b"})
    assert lacking is not None
    assert (lacking.tag, lacking.name) == ("Choices", "why")
    assert lacks(asked.left, asked.decisions, none | {"tone": "b", "why/a": "applies"}) is None


def test_what_people_fill_may_depend_on_a_list_too() -> None:
    must = f'<TextArea name="note" toName="text" required="true" {when(tag="flags", value="rude")}/>'
    asked = read(f"<View>{TEXT}{FLAGS}{must}</View>")
    labels = {"flags/urgent": "applies", "flags/r": "does not apply"}
    assert lacks(asked.left, asked.decisions, labels) is None
    lacking = lacks(asked.left, asked.decisions, labels | {"flags/r": "applies"})
    assert lacking is not None
    assert lacking.name == "note"


CHAIN = config(
    TONE, WHY.format(when(value="bad")), f'<Choices name="more" toName="text" {when(tag="why")}>{AB}</Choices>'
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["tone", "why", "more"]), st.sampled_from(["good", "b", "a", None])))
def test_nothing_is_seen_below_what_is_hidden_or_not_known(labels: dict[str, str | None]) -> None:
    seen = shown(CHAIN, labels)
    assert "tone" in seen
    assert ("why" in seen) == (labels.get("tone") == "b")
    assert ("more" in seen) == ("why" in seen and labels.get("why") in ("a", "b"))
