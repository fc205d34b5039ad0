"""The demo's texts: from the corpus package and from the user's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mollm.errors import InputError
from mollm_backend.demo import texts
from mollm_backend.demo.project import label_config, write_private
from mollm_backend.labelstudio.label_config import parse


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seven made-up files in the package's form: each conversation begins with its question, some of them twice."""
    for n, file in enumerate(texts.TOPICS.values()):
        rows = [[f"{file} question {at // 2}", "an answer"] for at in range(20 * (n + 1))]
        rows.append(["The same in every file", "an answer"])
        (tmp_path / file).write_text(yaml.safe_dump({"categories": [file], "conversations": rows}))
    return tmp_path


def test_topics_are_capped_and_alternate_and_examples_are_not_tasks(corpus: Path) -> None:
    found = texts.from_corpus(corpus)
    assert len(found.texts) == len(set(found.texts)) == sum(min(10 * n, 30) - 1 for n in range(1, 8))
    assert set(found.gold.values()) == set(found.labels) == set(texts.TOPICS)
    assert [label for _, label in found.examples] == list(texts.TOPICS)
    assert not {text for text, _ in found.examples} & set(found.texts)
    assert "The same in every file" not in found.texts, "a text of several topics has no gold label"
    assert found.key == texts.from_corpus(corpus).key
    few = found.first(14)
    assert sorted(few.gold.values()) == sorted([*texts.TOPICS] * 2)
    assert few.key != found.key


def test_a_broken_corpus_says_what_to_remove(corpus: Path) -> None:
    (corpus / "money.yml").write_text("conversations: [")
    with pytest.raises(InputError, match=f"remove {corpus}"):
        texts.from_corpus(corpus)


ROWS = [{"text": "a, b", "label": "x"}, {"text": "Üb\nc", "label": "y"}, {"text": "a, b", "label": "x"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", '\ufefftext,label\n"a, b",x\n"Üb\nc",y\n"a, b",x\n'),
        ("a.json", json.dumps(ROWS)),
        ("a.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
        ("a.json", json.dumps([{"id": 1, "data": row} for row in ROWS])),
    ],
)
def test_the_users_file_in_each_form(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    found = texts.from_file(path)
    assert found.texts == ("a, b", "Üb\nc")
    assert found.labels == ("x", "y")
    assert found.gold == {"a, b": "x", "Üb\nc": "y"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "body of it,label\nhello,x\n", "--text-column"),
        ("a.csv", "text,label\nhello,x\n,y\n", "row 2: the column 'text' holds no text"),
        ("a.csv", "text\nhello\n", "--labels"),
        ("a.csv", "", "no rows"),
        ("a.json", "{", "no valid JSON"),
        ("a.json", '{"text": "x"}', "a list of objects"),
        ("a.jsonl", '{"text": "x"}\nnonsense', "no valid JSONL"),
        ("a.txt", "hello", "must end in .csv, .json or .jsonl"),
        ("a.jsonl", '{"text": 5, "label": "x"}', "row 1"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        texts.from_file(path)


def test_missing_and_binary_files_and_strange_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        texts.from_file(tmp_path / "absent.csv")
    (tmp_path / "b.csv").write_bytes(b"text\n\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        texts.from_file(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("text,label\nhello,z\n")
    with pytest.raises(InputError, match="does not name: z"):
        texts.from_file(tmp_path / "c.csv", labels=("x", "y"))
    with pytest.raises(InputError, match="no label column 'gold'"):
        texts.from_file(tmp_path / "c.csv", label_column="gold")
    assert texts.from_file(tmp_path / "c.csv", labels=("z", "y"), text_column="TEXT").labels == ("z", "y")


def test_the_label_config_is_one_that_the_product_reads() -> None:
    (task,) = parse(label_config(("R&B", 'the "best"', "a<b")))
    assert task.sources[0].field == "text"
    assert task.labels.names == ("R&B", 'the "best"', "a<b")


def test_private_files_are_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "gold.json"
    write_private(path, {"a": 1})
    write_private(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
