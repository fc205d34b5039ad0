"""Label configs as teams write them: what mollm knows is decided, all else is left to people and stays as it is."""

from __future__ import annotations

import pytest

from mollm.errors import ConfigError
from mollm_backend.labelstudio.config_change import change_between
from mollm_backend.labelstudio.label_config import labels_of, lines_of_left, parse, read, results_of
from mollm_backend.labelstudio.left_to_people import lacks

TEXT = '<Text name="text" value="$text"/>'
TONE = '<Choices name="tone" toName="text"><Choice value="good"/><Choice value="bad" alias="b"/></Choices>'
AB = '<Choice value="a"/><Choice value="b"/>'
BESIDE = {
    "comment": '<TextArea name="x" toName="text"/>',
    "number": '<Number name="x" toName="text" min="0" max="5"/>',
    "date": '<DateTime name="x" toName="text"/>',
    "entities": '<Labels name="x" toName="text"><Label value="A"/></Labels>',
    "choices of a region": f'<Choices name="x" toName="text" perRegion="true">{AB}</Choices>',
    "dynamic choices": '<Choices name="x" toName="text" value="$more"/>',
    "one choice": '<Choices name="x" toName="text"><Choice value="seen"/></Choices>',
    "shown for a region": '<Choices name="x" toName="text" visibleWhen="region-selected" whenLabelValue="A">'
    f"{AB}</Choices>",
    "shown by what people fill": '<View visibleWhen="choice-selected" whenTagName="other" whenChoiceValue="bad">'
    '<Rating name="x" toName="text"/></View>',
    "shown by itself": f'<Choices name="x" toName="text" visibleWhen="choice-selected" whenTagName="x">{AB}</Choices>',
    "other text": '<Text name="two" value="$two"/><Rating name="x" toName="two"/>',
    "a picture": '<Image name="two" value="$two"/><Choices name="x" toName="two">' + f"{AB}</Choices>",
    "taxonomy of regions": '<Taxonomy name="x" toName="text" labeling="true"><Choice value="a"/></Taxonomy>',
}  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_what_is_known_is_connected_and_the_rest_is_named(beside: str, *, first: bool) -> None:
    both = (TONE, BESIDE[beside]) if first else (BESIDE[beside], TONE)
    if beside == "other text" and not first:
        return  # then the other text's rating is the one that is decided: see below
    asked = read(f"<View>{TEXT}{''.join(both)}</View>")
    assert asked.decisions == parse(f"<View>{TEXT}{TONE}</View>"), "the LLMs are asked as without it"
    (left,) = asked.left
    assert left.name == "x"
    (line,) = lines_of_left(asked.left)
    assert f"{left.tag} 'x'" in line


def test_of_two_texts_the_first_controls_is_read() -> None:
    asked = read(f"<View>{TEXT}{BESIDE['other text']}{TONE}</View>")
    assert [row.control for row in asked.decisions] == ["x"]
    assert "Choices 'tone', which reads text where 'x' reads two" in lines_of_left(asked.left)[0]
    assert [row.name for row in asked.left] == ["tone"]


def test_a_config_without_a_control_that_can_be_decided_is_refused_with_each_reason() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no control that can be decided.*'x' is a TextArea.*'y'.*at least two"):
        read(f"<View>{TEXT}{BESIDE['comment']}<Choices name='y' toName='text'><Choice value='a'/></Choices></View>")


def test_nothing_is_written_to_or_read_from_what_is_left() -> None:
    decisions = parse(f"<View>{TEXT}{TONE}{BESIDE['comment']}</View>")
    written = results_of(decisions, {"": ("b", 0.75)})
    assert [part["from_name"] for part in written] == ["tone"]
    words = {"from_name": "x", "to_name": "text", "type": "textarea", "value": {"text": ["because"]}}
    assert labels_of([words, *written, words], decisions) == {"": ("b", "")}
    assert labels_of([words], decisions)[""][0] is None


def test_a_control_that_is_added_for_people_asks_no_llm_again() -> None:
    before, after = parse(f"<View>{TEXT}{TONE}</View>"), parse(f"<View>{TEXT}{TONE}{BESIDE['date']}</View>")
    change = change_between(before, after)
    assert change.decisions == before
    assert change.lines == ("the label config has changed",)


MUST = '<TextArea name="why" toName="text" required="true"{}/>'
SOMETIMES = ' visibleWhen="{}" whenTagName="{}" whenChoiceValue="{}"'


@pytest.mark.parametrize(
    ("control", "of_good", "of_bad"),
    [
        (MUST.format(""), True, True),
        (MUST.format("").replace("true", "false"), False, False),
        (MUST.format(' perRegion="true"'), False, False),
        (MUST.format(' visibleWhen="region-selected"'), False, False),
        (MUST.format(SOMETIMES.format("choice-selected", "tone", "bad,awful")), False, True),
        (MUST.format(SOMETIMES.format("choice-selected", "tone", "b")), False, True),
        (MUST.format(SOMETIMES.format("choice-unselected", "tone", "bad")), True, False),
        (MUST.format(SOMETIMES.format("choice-selected", "another", "bad")), True, True),
        (MUST.format(SOMETIMES.format("no-region-selected", "tone", "bad")), True, True),
        (f'<View visibleWhen="choice-selected" whenTagName="tone">{MUST.format("")}</View>', True, True),
    ],
)
def test_a_required_control_is_never_missing_from_what_is_accepted(
    control: str, *, of_good: bool, of_bad: bool
) -> None:
    asked = read(f"<View>{TEXT}{TONE}{control}</View>")
    found = [lacks(asked.left, asked.decisions, {"": label}) for label in ("good", "b")]
    assert [row is not None for row in found] == [of_good, of_bad]
    must = asked.left[0].required
    assert (len(lines_of_left(asked.left)) == 2) == must
    assert not must or "people must fill 'why'" in lines_of_left(asked.left)[1]
