"""Label configs that are taken, and those that are refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import ConfigError, InputError
from mollm.records import LabelSet
from mollm_backend.labelstudio import task_text
from mollm_backend.labelstudio.label_config import labels_of, outside_score, parse, rank_score, results_of
from mollm_backend.labelstudio.task_text import text_of
from mollm_backend.store.decisions import Decision, Source

CHOICES = (
    '<Choices name="label" toName="text"><Choice value="Red"/><Choice value="Green" alias="g" hint="like grass"/>'
    "</Choices>"
)
PLAIN = f'<View><Text name="text" value="$text"/>{CHOICES}</View>'


def test_an_alias_is_what_is_stored_and_the_value_is_what_is_shown() -> None:
    (task,) = parse(PLAIN)
    assert task == Decision(
        "label", (Source("text", "text"),), LabelSet(("Red", "g"), ("Red", "Green"), ("", "like grass"))
    )
    assert Decision.from_json(task.as_json()) == task


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("", "no label config"),
        ("<View>", "cannot be read"),
        ('<View><Text name="text" value="$text"/></View>', "no control"),
        ('<View><Text name="text" value="$text"/><TextArea name="t2" toName="text"/></View>', "'t2' is a TextArea"),
        (f'<View><Image name="text" value="$text"/>{CHOICES}</View>', "Image"),
        (f'<View><Text name="text" value="$text" valueType="url"/>{CHOICES}</View>', "valueType"),
        (f'<View><Text name="text" value="Q: $a"/>{CHOICES}</View>', "one field"),
        (PLAIN.replace('toName="text"', 'toName="text" choice="some"'), 'choice="some"'),
        (PLAIN.replace('toName="text"', 'toName="text" perRegion="true"'), "perregion"),
        ('<View><Text name="text" value="$text"/><Choices name="l" toName="text" value="$opts"/></View>', "dynamic"),
        ('<View><Text name="text" value="$text"/><Choices name="l" toName="text"><Choice value="A"/></Choices></View>',
         "at least two"),
        ('<View><Text name="text" value="$text"/><Number name="l" toName="text"/></View>', "Number"),
        ('<View><Text name="text" value="$text"/><Labels name="l" toName="text"><Label value="A"/></Labels></View>',
         "Labels"),
        ("x" * 1_000_001, "characters"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_name(config: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        parse(config)


def test_text_of_plain_text() -> None:
    task = parse(PLAIN)
    assert text_of({"text": "hello"}, task) == "hello"
    nested = Decision("label", (Source("text", "a.b"),), task[0].labels)
    assert text_of({"a": {"b": "deep"}}, [nested]) == "deep"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "no field"), ({"text": None}, "no field"), ({"text": "  \n"}, "empty"), ({"text": 5}, "a number"),
        ({"text": ["a"]}, "a list"), ({"text": "x" * 200_000}, "200,000"), ({"image": "a.png"}, "no field"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_read_say_why(data: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        text_of(data, parse(PLAIN))


def test_html_and_dialogues() -> None:
    html = parse(f'<View><HyperText name="text" value="$html"/>{CHOICES}</View>')
    page = "<style>p {}</style><p>Hello <b>you</b></p><p>5 &lt; 6</p><script>x()</script>"
    assert text_of({"html": page}, html) == "Hello you\n5 < 6"
    talk = parse(f'<View><Paragraphs name="text" value="$d" nameKey="who" textKey="said"/>{CHOICES}</View>')
    turns = [{"who": "A", "said": "hi"}, {"said": "yes"}]
    assert text_of({"d": turns}, talk) == "A: hi\nyes"
    with pytest.raises(InputError, match="list of objects"):
        text_of({"d": [1]}, talk)


def test_a_result_comes_back_as_the_label_it_was_made_of() -> None:
    task = parse(PLAIN)
    result = results_of(task, {"": ("g", 0.75)})
    assert labels_of(result, task) == {"": ("g", "")}
    assert result[0]["score"] == 0.75
    with pytest.raises(InputError):
        results_of(task, {"": ("Green", 0.75)})  # the value behind an alias is not what Label Studio stores


@pytest.mark.parametrize(
    ("choices", "problem"),
    [(["Green"], "not .* a label"), (["Red", "g"], "exactly one"), ([], "exactly one"), ([3], "exactly one")],
)
def test_odd_results_say_what_is_wrong(choices: list[object], problem: str) -> None:
    label, said = labels_of([{"from_name": "label", "value": {"choices": choices}}], parse(PLAIN))[""]
    assert label is None
    import re

    assert re.search(problem, said)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["from_name", "value", "choices", "label", "Red"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TASK = (Decision("label", (Source("text", "text"),), LabelSet(("Red", "g"))),)


@settings(deadline=None)
@given(JSON)
def test_any_json_is_a_label_or_has_a_problem(result: object) -> None:
    label, problem = labels_of(result, TASK)[""]
    assert (label is None) == bool(problem)


@settings(deadline=None)
@given(st.integers(0, 1_000_000), st.floats(0, 1))
def test_the_places_of_a_batch_rise_below_every_score_outside_it(rank: int, confidence: float) -> None:
    assert 0 < rank_score(rank) < rank_score(rank + 1) < outside_score(confidence) <= 1


@pytest.mark.parametrize("rank", [0, 7, 49, 249, 10_000])
def test_a_place_is_shown_as_no_percentage_that_could_be_a_confidence(rank: int) -> None:
    assert f"{100 * rank_score(rank):.2f} %" == "0.00 %"  # as the labelling page writes a prediction's score
    assert round(rank_score(rank) * 1e9) == pytest.approx(rank + 1, rel=1e-4)


def test_a_score_outside_the_batch_is_the_confidence() -> None:
    assert outside_score(0.87) == 0.87


def test_the_web_processs_modules_do_not_load_the_sdk() -> None:
    code = (
        "import sys; import mollm_backend.labelstudio.events, mollm_backend.labelstudio.label_config as c;"
        "assert c.rank_score(0) > 0; print([n for n in sys.modules if n.startswith(('label_studio_sdk', 'torch'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    assert task_text.MAX_TEXT
