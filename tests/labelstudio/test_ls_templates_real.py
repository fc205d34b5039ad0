"""Label configs as teams write them, there and back on a real server: the templates that Label Studio ships itself.

Each template with a control that mollm decides is taken, and some that teams make of them: a follow-up question that is
shown only for some answers, a comment that must be written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mollm.records import Provenance
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.labelstudio.label_config import read, results_of
from mollm_backend.store.decisions import shown
from mollm_backend.web import lookup
from tests.backend.conftest import connection, queue_url  # noqa: F401 - fixtures
from tests.real_label_studio import executable

from .test_ls_controls_real import Open, Site, open_site  # noqa: F401 - a fixture

pytestmark = pytest.mark.label_studio
SHIPPED = (
    "community-contributions/two-level-sentiment-analysis-of-x-twitter-posts",
    "conversational-ai/intent-classification-and-slot-filling",
    "conversational-ai/response-selection",
    "generative-ai/chatbot-assessment",
    "generative-ai/human-feedback-collection",
    "generative-ai/response-grading",
    "natural-language-processing/content-moderation",
    "natural-language-processing/taxonomy",
    "natural-language-processing/text-classification",
    "ranking-and-scoring/pairwise-classification",
    "ranking-and-scoring/serp-ranking",
)
TEXT = '<View><Text name="text" value="$text"/>{}</View>'
TONE = (
    '<Choices name="tone" toName="text" required="true"><Choice value="good"/><Choice value="bad" alias="b"/></Choices>'
)
WRITTEN = {
    "a follow-up": TEXT.format(
        TONE + '<View visibleWhen="choice-selected" whenTagName="tone" whenChoiceValue="bad"><Header value="Why?"/>'
        '<Choices name="why" toName="text" required="true" choice="multiple"><Choice value="rude"/>'
        '<Choice value="slow"/></Choices><TextArea name="note" toName="text"/></View>'
    ),
    "a follow-up of a list": TEXT.format(
        '<Choices name="flags" toName="text" choice="multiple"><Choice value="money"/><Choice value="login"/></Choices>'
        '<Choices name="kind" toName="text" visibleWhen="choice-selected" whenTagName="flags" whenChoiceValue="money">'
        '<Choice value="refund"/><Choice value="invoice"/></Choices>'
    ),
    "unless": TEXT.format(
        TONE + '<Rating name="stars" toName="text" maxRating="3" visibleWhen="choice-unselected" whenTagName="tone" '
        'whenChoiceValue="bad"/>'
    ),
    "a comment that must be written": TEXT.format(TONE + '<TextArea name="note" toName="text" required="true"/>'),
}  # fmt: skip


def shipped(name: str) -> str:
    """The label config of a template, as the installed Label Studio has it."""
    (found,) = Path(executable()).resolve().parents[1].glob(
        f"lib/python3*/site-packages/label_studio/annotation_templates/{name}/config.yml"
    )  # fmt: skip
    block = re.search(r"^config: \|[-+]?\n((?:[ \t]+.*\n|\n)+)", found.read_text() + "\n", re.MULTILINE)
    assert block is not None
    return block[1]


def tasks_for(config: str, count: int) -> list[dict[str, Any]]:
    """Tasks that have every field that a label config names."""
    by_field = {field: tag for tag, field in re.findall(r"<(\w+)[^>]*?\bvalue=\"\$([\w.]+)\"", config)}
    assert by_field
    rows = []
    for n in range(count):
        row: dict[str, Any] = {}
        for field, tag in by_field.items():
            row[field] = f"{field} number {n}"
            if tag == "Paragraphs":
                turns = [("A", f"hello {n}"), ("B", "yes")]
                row[field] = [{"author": a, "role": a, "text": said, "content": said} for a, said in turns]
            elif tag in ("Choices", "Taxonomy"):
                row[field] = [{"value": "one"}, {"value": "two"}]
        rows.append(row)
    return rows


def page_of(site: Site, labels: dict[str, str]) -> list[dict[str, Any]]:
    """What the labelling page sends for these labels (by the decision's key)."""
    parts = results_of(site.project.decisions, {key: (label, 1.0) for key, label in labels.items()})
    return [
        {"id": f"id-{part['from_name']}", "origin": "manual"} | {k: v for k, v in part.items() if k != "score"}
        for part in parts
    ]


def values(result: list[dict[str, Any]]) -> dict[str, Any]:
    return {part["from_name"]: part["value"] for part in result}


def there_and_back(site: Site) -> None:
    config, decisions = site.client.project(site.number).label_config, site.project.decisions
    site.work()
    first = site.next()
    (shown_first,) = first["predictions"]
    said = {decision.key: site.said(first["id"])[decision.name] for decision in decisions}
    seen = shown(decisions, said)
    expected = page_of(site, said)
    assert values(shown_first["result"]) == values(expected)
    (answer,) = lookup.answers(site.runtime.store, site.project, [AskedTask(first["id"], first["data"])])
    assert values(answer.get("result", [])) == values(expected)

    # One is accepted as it is. In the next each decision is changed to its first label.
    accepted = site.submit(first["id"], expected, shown_first["id"])
    second = site.next()
    other = {decision.key: decision.labels.names[0] for decision in decisions}
    scratch = site.submit(second["id"], page_of(site, other), None)
    site.work()
    for number, labels in ((accepted, {key: said[key] for key in said if key in seen}), (scratch, other)):
        back, visible = site.annotations(number), shown(decisions, labels)
        for decision in decisions:
            row = back[decision.name]
            assert row.problem == ""
            assert row.label == (labels.get(decision.key) if decision.key in visible else None)
    assert {row.provenance for row in site.annotations(scratch).values()} == {Provenance.FROM_SCRATCH}
    assert site.version.human_labels == 2
    assert site.client.project(site.number).label_config == config, "the team's label config stays as it is"


@pytest.mark.parametrize("name", SHIPPED, ids=lambda name: name.partition("/")[2])
def test_a_shipped_template(name: str, open_site: Open) -> None:  # noqa: F811
    config = shipped(name)
    assert read(config).decisions
    there_and_back(open_site(config, tasks_for(config, 8)))


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_teams_make_of_them(kind: str, open_site: Open) -> None:  # noqa: F811
    there_and_back(open_site(WRITTEN[kind], tasks_for(WRITTEN[kind], 8)))


def test_of_all_shipped_templates_with_a_decision_none_is_forgotten() -> None:
    folder = "lib/python3*/site-packages/label_studio/annotation_templates/*/*/config.yml"
    found = set()
    for path in Path(executable()).resolve().parents[1].glob(folder):
        name = "/".join(path.parts[-3:-1])
        try:
            config = shipped(name)
            if read(config).decisions:
                found.add(name)
        except Exception:
            continue
    assert found == set(SHIPPED)
