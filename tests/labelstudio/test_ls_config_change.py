"""A changed label config: named in words, and only what is really different is asked again."""

from __future__ import annotations

from mollm_backend.labelstudio.config_change import change_between
from mollm_backend.labelstudio.label_config import parse
from mollm_backend.store.decisions import Decision

TEXT = '<Text name="text" value="$text"/>'


def choices(name: str, *labels: str, more: str = "") -> str:
    rows = "".join(f'<Choice value="{label}"/>' for label in labels)
    return f'<Choices name="{name}" toName="text" {more}>{rows}</Choices>'


def config(*controls: str) -> tuple[Decision, ...]:
    return parse(f"<View>{TEXT}{''.join(controls)}</View>")


def asked(decisions: tuple[Decision, ...]) -> set[tuple[str, str]]:
    """What is in an LLM's prompt, and with it in its fingerprint."""
    return {((row.listed or row.labels).key(), row.instruction("Classify.")) for row in decisions}


TONE, TOPIC = choices("tone", "good", "bad"), choices("topic", "sport", "art")


def test_a_second_control_leaves_the_first_as_it_was_asked() -> None:
    before = config(TONE)
    change = change_between(before, config(TONE, TOPIC))
    assert asked(before) < asked(change.decisions)
    assert change.moved == (("", "tone"),)
    assert change.lines == ("the label config has changed", "new: topic; the LLMs are asked about it")
    back = change_between(change.decisions, config(TONE))
    assert back.decisions == before
    assert (back.moved, back.lines[1:]) == (
        (("tone", ""),),
        ("gone: topic; what people said of it is left out of training",),
    )


def test_a_change_of_one_control_asks_about_that_one_alone() -> None:
    before = config(TONE, TOPIC)
    change = change_between(before, config(TONE, choices("topic", "sport", "art", "law")))
    assert asked(before) & asked(change.decisions) == asked(before[:1])
    assert change.moved == ()
    assert change.lines[1:] == (
        "topic: new labels: law",
        "topic: the LLMs are asked again, because the labels are part of their prompt",
    )


def test_a_control_with_a_new_name_is_the_old_one_where_only_it_asks_the_same() -> None:
    before = config(TONE, TOPIC)
    change = change_between(before, config(TONE, TOPIC.replace("topic", "theme")))
    assert asked(before) == asked(change.decisions)
    assert (change.moved, change.lines[1:]) == ((("topic", "theme"),), ("topic is now called theme",))
    twins = config(choices("a", "yes", "no"), choices("b", "yes", "no"))
    unclear = change_between(twins, config(choices("c", "yes", "no"), choices("d", "yes", "no")))
    assert unclear.moved == ()
    assert [line.split(":")[0] for line in unclear.lines[1:]] == ["new", "new", "gone", "gone"]


def test_labels_that_came_went_and_took_a_place_are_named() -> None:
    before = config(choices("tone", "good", "bad", "none"))
    renamed = change_between(before, config(choices("tone", "good", "poor", "none"))).lines
    assert renamed[1].startswith("renamed in their place: bad to poor; annotations with them are left out")
    shorter = change_between(before, config(TONE)).lines
    assert shorter[1] == "labels that are gone: none; annotations with them are left out of training"
    shown = change_between(config(TONE), config(TONE.replace('value="bad"', 'value="awful" alias="bad"'))).lines
    assert shown[1] == "bad is now shown as 'awful', before as 'bad'"


def test_a_multiple_choice_is_asked_about_again_where_its_list_grows() -> None:
    before = config(choices("flags", "urgent", "rude", more='choice="multiple"'))
    change = change_between(before, config(choices("flags", "urgent", "rude", "new", more='choice="multiple"')))
    assert not asked(change.decisions) & asked(before)
    again = "the LLMs are asked again, because the labels are part of their prompt"
    new = "new: flags/new; the LLMs are asked about it"
    assert change.lines[1:] == (f"flags/urgent: {again}", f"flags/rude: {again}", new)


def test_another_text_is_named_and_nothing_else() -> None:
    change = change_between(config(TONE), parse(f"<View>{TEXT.replace('$text', '$body')}{TONE}</View>"))
    assert change.lines[1:] == ("the text is now read from the field 'body' (Text)",)
