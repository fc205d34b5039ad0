"""One contract for every kind of control in the folder, found by its file; then what is peculiar to each."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import ConfigError, InputError
from mollm.records import LabelSet
from mollm_backend.labelstudio.controls import controls
from mollm_backend.labelstudio.label_config import labels_of, lines_of, parse, results_of, words_of
from mollm_backend.labelstudio.task_text import text_of
from mollm_backend.store.decisions import Decision

TEXT = '<Text name="text" value="$text"/>'
TWO = '<Text name="one" value="$one"/><Text name="two" value="$two"/>'
EXAMPLES = {kind: control.example for kind, control in controls().items()}
CHOICES, MULTIPLE, TAXONOMY, RATING = (EXAMPLES[kind] for kind in ("choices", "multiple", "taxonomy", "rating"))
CONFIGS = {kind: {1: TEXT, 2: TWO}[controls()[kind].objects] + example for kind, example in EXAMPLES.items()}
TOGETHER = f"<View>{TEXT}{CHOICES}{MULTIPLE}{TAXONOMY}{RATING}</View>"
KINDS = sorted(controls())


def decisions(kind: str) -> tuple[Decision, ...]:
    return parse(f"<View>{CONFIGS[kind]}</View>")


def combinations(asked: tuple[Decision, ...]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({row.key: st.sampled_from(row.labels.names) for row in asked})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 6) | st.floats() | st.sampled_from(["left", "good", "Sport", "fb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "choices"]), inner, max_size=2),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_asks(kind: str) -> None:
    asked = decisions(kind)
    assert {row.kind for row in asked} == {kind}
    assert all(row.labels.C >= 2 for row in asked)
    assert len({row.key for row in asked}) == len(asked)
    assert [Decision.from_json(json.loads(json.dumps(row.as_json()))) for row in asked] == list(asked)
    (line,) = lines_of(asked)
    assert line.startswith(asked[0].control)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_labels_come_back_from_the_result_that_they_were_made_into(kind: str, data: st.DataObject) -> None:
    asked = decisions(kind)
    labels = data.draw(combinations(asked))
    result = json.loads(json.dumps(results_of(asked, {key: (label, 0.5) for key, label in labels.items()})))
    assert labels_of(result, asked) == {key: (label, "") for key, label in labels.items()}
    assert all(part["from_name"] == asked[0].control for part in result)
    assert all(part["type"] == controls()[kind].tag.lower() for part in result)
    assert words_of(asked, labels)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(value=JSON | st.dictionaries(st.sampled_from(["choices", "taxonomy", "rating", "selected"]), JSON, max_size=2))
def test_any_value_is_labels_of_the_config_or_a_named_problem(kind: str, value: Any) -> None:
    asked = decisions(kind)
    for result in (value, [{"from_name": asked[0].control, "value": value}]):
        found = labels_of(result, asked)
        assert found.keys() == {row.key for row in asked}
        for row in asked:
            label, problem = found[row.key]
            assert (label is None) == bool(problem)
            assert label is None or label in row.labels.names


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_is_not_in_the_config_is_never_written(kind: str) -> None:
    asked = decisions(kind)
    with pytest.raises(InputError, match="not one of the labels"):
        results_of(asked, {row.key: ("no such label", 0.5) for row in asked})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change", ['perRegion="true"', 'perItem="true"', 'visibleWhen="choice-selected"', 'value="$x"']
)
def test_what_no_kind_supports_is_refused_by_name(kind: str, change: str) -> None:
    tag = controls()[kind].tag
    config = f"<View>{CONFIGS[kind]}</View>".replace(f"<{tag} ", f"<{tag} {change} ")
    with pytest.raises(ConfigError, match=f"{tag} '{decisions(kind)[0].control}'"):
        parse(config)


def test_a_condition_around_a_control_is_seen() -> None:
    around = f'<View>{TEXT}<View visibleWhen="choice-selected" whenTagName="x">{CHOICES}</View></View>'
    with pytest.raises(ConfigError, match="'tone' is shown only sometimes"):
        parse(around)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (TEXT + '<Taxonomy name="t" toName="text" apiUrl="http://x"/>', "apiurl"),
        (TEXT + '<Taxonomy name="t" toName="text" labeling="true"><Choice value="a"/></Taxonomy>', "labeling"),
        (TEXT + '<Taxonomy name="t" toName="text"><Choice value="a"><Choice value="b"/></Choice></Taxonomy>',
         "1 leaves"),
        (TEXT + '<Rating name="r" toName="text" maxRating="1"/>', 'maxRating="1"'),
        (TEXT + '<Rating name="r" toName="text" maxRating="many"/>', 'maxRating="many"'),
        (TEXT + '<Pairwise name="p" toName="text"/>', "2 objects"),
        (TEXT + '<Pairwise name="p" toName="text,gone"/>', "2 objects"),
        (TEXT + '<Text name="same" value="$text"/><Pairwise name="p" toName="text,same"/>', "with itself"),
        (TEXT + CHOICES.replace('<Choice value="good"/>', '<Choice value="good"><Choice value="x"/></Choice>'),
         "Taxonomy"),
        (TEXT + '<Choices name="c" toName="text" choice="multiple"/>', "no Choice"),
        (TEXT + '<Ranker name="k" toName="text"/>', "Ranker"),
        (TEXT + '<TextArea name="why" toName="text"/>', "'why' is a TextArea"),
        (TEXT + MULTIPLE.replace('alias="r"', 'alias="urgent"'), "'urgent' more than once"),
    ],
)  # fmt: skip
def test_each_kind_refuses_what_it_cannot_decide(config: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        parse(f"<View>{config}</View>")


def test_several_controls_are_decisions_of_one_project() -> None:
    asked = parse(TOGETHER)
    assert [row.key for row in asked] == ["tone", "flags/urgent", "flags/r", "topic", "stars"]
    assert len({row.question for row in asked}) == 4  # each LLM is told which control it is asked about
    said = {"tone": ("b", 0.5), "flags/urgent": ("applies", 0.5), "flags/r": ("does not apply", 0.5),
            "topic": ("Sport / fb", 0.25), "stars": ("3", 0.75)}  # fmt: skip
    assert results_of(asked, said) == [
        {"from_name": "tone", "to_name": "text", "type": "choices", "value": {"choices": ["b"]}, "score": 0.5},
        {"from_name": "flags", "to_name": "text", "type": "choices", "value": {"choices": ["urgent"]}, "score": 0.25},
        {"from_name": "topic", "to_name": "text", "type": "taxonomy", "value": {"taxonomy": [["Sport", "fb"]]},
         "score": 0.25},
        {"from_name": "stars", "to_name": "text", "type": "rating", "value": {"rating": 3}, "score": 0.75},
    ]  # fmt: skip
    labels = {key: label for key, (label, _) in said.items()}
    assert words_of(asked, labels) == "tone: b; flags: urgent; topic: Sport / fb; stars: 3"
    # A control of which something is not known yet is left out, and its part is a problem of its own when read.
    del said["flags/r"], said["stars"]
    assert [part["from_name"] for part in results_of(asked, said)] == ["tone", "topic"]
    found = labels_of(results_of(asked, said), asked)
    assert found["flags/r"] == ("does not apply", "")
    assert found["stars"][0] is None


def test_one_control_alone_has_no_question_but_its_own() -> None:
    assert (decisions("choices")[0].question, decisions("choices")[0].key) == ("", "")
    assert decisions("multiple")[0].question == ""


def test_of_several_boxes_the_llms_choose_one_or_none_and_are_asked_about_a_single_box() -> None:
    urgent, rude = decisions("multiple")
    assert (
        urgent.listed
        == rude.listed
        == LabelSet(("urgent", "r", "None of these"), ("urgent", "rude", "None of these"), ("now", "", ""))
    )
    alone = '<Choices name="flags" toName="text" choice="multiple"><Choice value="urgent" hint="now"/></Choices>'
    (box,) = parse(f"<View>{TEXT}{alone}</View>")
    assert box.listed is None
    assert box.question == 'Answer for flags: does "urgent" (now) apply to the text?'


def test_nothing_chosen_is_an_answer_to_a_multiple_choice_alone() -> None:
    assert labels_of([], decisions("multiple")) == {
        "flags/urgent": ("does not apply", ""), "flags/r": ("does not apply", "")
    }  # fmt: skip
    for kind in set(KINDS) - {"multiple"}:
        assert labels_of([], decisions(kind)) == {"": (None, f"nothing was chosen in {decisions(kind)[0].control!r}")}
    strange = labels_of([{"from_name": "flags", "value": {"choices": ["urgent", "gone"]}}], decisions("multiple"))
    assert strange["flags/urgent"] == ("applies", "")


def test_of_a_list_one_label_applies_on_average_before_anybody_has_labelled() -> None:
    assert controls()["multiple"].frequencies(decisions("multiple") * 3) == pytest.approx((1 / 6, 5 / 6))
    assert controls()["multiple"].frequencies(decisions("multiple")[:1]) == (0.5, 0.5)  # a box alone tells nothing
    assert {kind: controls()[kind].frequencies(decisions(kind)) for kind in set(KINDS) - {"multiple"}} == dict.fromkeys(
        set(KINDS) - {"multiple"}
    )


def test_a_taxonomys_labels_are_its_leaves_by_their_paths() -> None:
    (topic,) = decisions("taxonomy")
    assert topic.labels.names == ("Sport / fb", "Sport / Chess", '["a / b", "c"]', "Other")
    assert topic.labels.shown == ("Football", "Chess", "c", "Other")
    assert topic.labels.descriptions == ("", "a board", "", "")
    for paths, why in (([["Sport"]], "not .* a label"), ([["Other"], ["Sport", "fb"]], "exactly one")):
        said = labels_of([{"from_name": "topic", "value": {"taxonomy": paths}}], [topic])[""]
        assert said[0] is None
        assert re.search(why, said[1])


def test_leaves_that_are_alike_are_shown_with_what_they_are_below() -> None:
    inner = "".join(f'<Choice value="{area}"><Choice value="Other"/></Choice>' for area in ("Money", "Orders"))
    tree = f'<Taxonomy name="t" toName="text">{inner}<Choice value="Refund"/></Taxonomy>'
    (topic,) = parse(f"<View>{TEXT}{tree}</View>")
    assert topic.labels.names == ("Money / Other", "Orders / Other", "Refund")
    assert topic.labels.shown == ()  # as they are named


def test_of_a_pair_both_texts_are_read_with_their_sides() -> None:
    asked = decisions("pairwise")
    assert text_of({"one": "short", "two": "long"}, asked) == "Left: short\n\nRight: long"
    with pytest.raises(InputError, match="'two'"):
        text_of({"one": "short"}, asked)
    assert "left and right" in asked[0].instruction("Judge.")


@pytest.mark.parametrize("tag", ["HyperText", "Paragraphs"])
def test_each_kind_reads_the_other_objects_too(tag: str) -> None:
    for kind in KINDS:
        asked = parse(f"<View>{CONFIGS[kind]}</View>".replace("<Text ", f"<{tag} "))
        assert {source.tag for source in asked[0].sources} == {tag}


def test_stars_are_asked_for_in_words_and_stored_as_numbers() -> None:
    (four,) = decisions("rating")
    assert four.labels == LabelSet(("1", "2", "3", "4"))
    assert four.asked == LabelSet(("1", "2", "3", "4"), ("terrible", "bad", "good", "excellent"))
    assert not four.of_a_list  # its answers are of its own labels
    (ten,) = parse(f'<View>{TEXT}<Rating name="stars" toName="text" maxRating="10"/></View>')
    assert ten.asked == ten.labels
