"""`mollm plan`: only measured figures, each with its source; an interval that covers; and how far off it was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError
from mollm.metrics import Estimate, ratio, total
from mollm_backend.cli import app
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.signals import Cost
from mollm_backend.store.tasks import Task
from mollm_backend.work import measured, planning
from mollm_backend.work.planning import Bookkeeping, Given, Speed
from tests.annotators.decision_server import DecisionServer
from tests.annotators.listening import listening

HERE = AnnotatorConfig(name="here", model="m")
PAID = AnnotatorConfig(name="paid", runtime="decisions", model="d", url="http://d", price_per_mtok=0.1)
SPEEDS = {
    "here": Speed(Estimate(0.36, 0.34, 0.38), 90.0, 300, "a bench", 74.0),
    "paid": Speed(Estimate(0.018, 0.018, 0.018), 50.0, 300, "a bench", 74.0),
}
KEPT = Bookkeeping(500.0, 160.0, Estimate(0.0002, 0.0001, 0.0003), "a bench")
FILE = "panel.toml"


def test_each_figure_follows_from_what_was_measured() -> None:
    """1,000,000 tasks at .36 s and 50 tokens: 100 machine hours, and 5 for the million tokens of the endpoint."""
    given = Given(
        1_000_000, gpus=4, gpu_hour=2.0, million_tokens=0.1, people_seconds=9, people_hour=20.0, labels=400
    )  # fmt: skip
    made = planning.plan((HERE, PAID), SPEEDS, KEPT, given, FILE)
    panel, endpoint, people = made.ways
    assert panel.machine is not None
    assert panel.hours is not None
    assert (panel.machine.value, panel.hours.value) == (pytest.approx(100), pytest.approx(25))
    assert (panel.tokens, panel.people) == (pytest.approx(140e6), pytest.approx(1.0))
    assert panel.money is not None
    assert panel.money.value == pytest.approx(100 * 2 + 5 + 20)
    assert (panel.money.low, panel.money.high) == (
        pytest.approx(225 - 2 * 5.5556, rel=1e-3),
        pytest.approx(236.11, rel=1e-3),
    )
    assert endpoint.money is not None
    assert endpoint.hours is not None
    assert (endpoint.tokens, endpoint.money.value) == (pytest.approx(50e6), pytest.approx(5))
    assert endpoint.hours.value == pytest.approx(5)
    assert (people.people, people.money and people.money.value) == (pytest.approx(2500), pytest.approx(50_000))
    assert made.database_bytes == pytest.approx(1e6 * (500 + 2 * 160))
    assert made.missing == ()
    assert json.loads(json.dumps(made.as_json()))["ways"][0]["machine_hours"]["low"] == pytest.approx(94.44, rel=1e-3)


def test_an_endpoint_slower_than_the_machines_sets_the_hours() -> None:
    made = planning.plan((HERE, PAID), SPEEDS, KEPT, Given(1_000_000, gpus=40), FILE)
    assert made.ways[0].hours == SPEEDS["paid"].seconds.times(1_000_000 / 3600)


def test_what_was_not_measured_is_a_dash_and_a_command() -> None:
    made = planning.plan((HERE, PAID), {}, None, Given(1_000), FILE)
    assert [(way.hours, way.machine, way.tokens, way.money) for way in made.ways] == [(None,) * 4] * 2
    assert "here was not measured: `mollm bench annotate --panel panel.toml` measures it" in made.missing
    assert any("`mollm bench store`" in line for line in made.missing)
    assert any("--price-per-gpu-hour" in line for line in made.missing)
    assert any("--people-seconds" in line for line in made.missing)
    assert made.lines == ()


def test_tokens_that_nobody_counted_price_no_endpoint() -> None:
    blind = {"here": Speed(Estimate(0.36, 0.3, 0.4), 0.0, 300, "a bench")}
    made = planning.plan((HERE,), blind, KEPT, Given(1_000, million_tokens=0.1), FILE)
    assert made.ways[1].money is None
    assert any("tokens that an endpoint would read were not measured" in line for line in made.missing)


def test_a_store_that_is_slower_than_the_reading_is_said() -> None:
    fast = {"here": Speed(Estimate(0.00001, 0.00001, 0.00001), 1.0, 300, "a bench")}
    made = planning.plan((HERE,), fast, KEPT, Given(1_000_000), FILE)
    assert any("the store is what limits it" in line for line in made.lines)


def test_settings_that_change_the_speed_have_figures_of_their_own(tmp_path: Path) -> None:
    row = {"seconds": [1.0, 1.2], "texts": [10, 10], "tokens": 40.0, "characters": 70.0}
    measured.remember(tmp_path, measured.key_of(HERE), row)
    figures = measured.every(tmp_path)
    again = HERE.model_copy(update={"name": "renamed", "price_per_mtok": 3.0})
    other = HERE.model_copy(update={"prompt": "plain"})
    found = planning.speeds_of((again, other), figures, {})
    assert list(found) == ["renamed"]
    assert found["renamed"].seconds.value == pytest.approx(0.11)
    assert f"load {figures[measured.key_of(HERE)]['load']:g} on" in found["renamed"].source


@pytest.mark.parametrize("content", ["{", "[]", '{"store": 3}'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / measured.FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"measured\.json.*delete it"):
        measured.every(tmp_path)


def test_a_projects_own_ledger_comes_first(tmp_path: Path) -> None:
    measured.remember(tmp_path, measured.key_of(HERE), {"seconds": [1.0], "texts": [1], "tokens": 1, "characters": 1})
    days = [Cost(texts=100, seconds=20.0, prompt_tokens=9_000), Cost(texts=300, seconds=66.0, prompt_tokens=27_000)]
    found = planning.speeds_of((HERE,), measured.every(tmp_path), {"here": days})["here"]
    assert (found.seconds.value, found.tokens, found.texts) == (pytest.approx(0.215), pytest.approx(90), 400)
    assert "own ledger, 2 days" in found.source


@pytest.mark.parametrize("parts", [3, 5, 10])
def test_the_intervals_cover(parts: int) -> None:
    """Of chunks whose times scatter and whose last is shorter; and of the sum of two such annotators."""
    rng = np.random.default_rng(parts)
    counts = np.full(parts, 64.0)
    counts[-1] = 20
    truth, runs, single, both = 0.2, 3000, 0, 0
    for _ in range(runs):
        one, other = (
            ratio(truth * counts * rng.gamma(25, 1 / 25, parts), counts) for _ in range(2)
        )  # a chunk's time varies by a fifth
        summed = total(one, other)
        single += one.low <= truth <= one.high
        both += summed.low <= 2 * truth <= summed.high
    assert 0.92 < single / runs < 0.985
    assert 0.925 < both / runs < 0.995


def test_one_part_has_no_interval() -> None:
    one = ratio(np.array([3.0]), np.array([10.0]))
    assert (one.value, math.isnan(one.low)) == (0.3, True)
    assert planning.interval(total(one, Estimate(1, 1, 1))) == ""


def test_the_report_says_how_far_off_a_plan_was(store: Store) -> None:
    project = projects.get(store, 7)
    member = project.panel[0]
    assert planning.compare(store, project) == {}
    signals.save(store, member, 7, [], Cost(texts=50, seconds=50.0, prompt_tokens=5_000))
    speeds = {"tiny": Speed(Estimate(0.2, 0.18, 0.22), 100.0, 300, "a bench", 70.0)}
    planning.remember(store, project, planning.plan((HERE,), speeds, KEPT, Given(1_000), FILE))
    assert "nothing has been read since" in planning.compare(store, project)["lines"][0]
    signals.save(store, member, 7, [], Cost(texts=200, seconds=50.0, prompt_tokens=22_000))
    found = planning.compare(store, project)
    tiny = found["annotators"]["tiny"]
    assert (tiny["texts"], tiny["seconds_off"], tiny["tokens_off"]) == (200, pytest.approx(0.25), pytest.approx(0.1))
    assert "0.2 s (0.18 to 0.22)" in found["lines"][0]
    assert "(+25%)" in found["lines"][0]


def test_the_command_plans_a_project_and_the_report_compares(
    store: Store, tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", str(store.url.render_as_string(hide_password=False)))
    monkeypatch.setenv("REDIS_URL", queue_url)
    (tmp_path / "panel.toml").write_text('[[annotators]]\nname = "tiny"\nmodel = "m"\n')
    monkeypatch.setenv("MOLLM_PANEL", str(tmp_path / "panel.toml"))
    tasks.upsert(store, 7, [Task(n, f"h{n}", "a much longer text " * 20) for n in range(30)])
    row = {"seconds": [1.0, 1.2, 1.1], "texts": [10, 10, 10], "tokens": 40.0, "characters": 70.0}
    measured.remember(tmp_path, measured.key_of(AnnotatorConfig(name="tiny", model="m")), row)
    ran = CliRunner().invoke(
        app, ["plan", "7", "--price-per-gpu-hour", "2", "--people-seconds", "9", "--people-price", "20"]
    )
    assert ran.exit_code == 0, ran.output
    assert "30 tasks" in ran.output
    assert "characters, those that tiny was measured on 70" in " ".join(ran.output.split())
    asked = json.loads(CliRunner().invoke(app, ["plan", "7", "--tasks", "1000", "--json"]).stdout)
    assert asked["ways"][0]["machine_hours"]["value"] == pytest.approx(0.11 * 1000 / 3600)
    signals.save(store, projects.get(store, 7).panel[0], 7, [], Cost(texts=10, seconds=2.2, prompt_tokens=400))
    told = CliRunner().invoke(app, ["report", "7"])
    assert "tiny was to take 0.11 s" in " ".join(told.output.split())


def test_the_bench_measures_a_panel_and_what_cannot_be_asked_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    lines = (f"all about {('sports', 'money')[n % 2]} {n},{('sports', 'money')[n % 2]}" for n in range(30))
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines))
    with listening(0, DecisionServer()) as port:
        panel = "".join(
            f'[[annotators]]\nname = "{name}"\nruntime = "decisions"\nmodel = "m"\nurl = "{url}"\n'
            for name, url in (("decider", f"http://127.0.0.1:{port}"), ("gone", "http://127.0.0.1:9"))
        )
        (tmp_path / "panel.toml").write_text(panel)
        monkeypatch.setattr("mollm.annotators._http.ATTEMPTS", 1)
        command = ["bench", "annotate", "--panel", "panel.toml", "--file", "texts.csv", "--texts", "24", "--json"]
        monkeypatch.chdir(tmp_path)
        ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    row = json.loads(ran.stdout.strip().splitlines()[-1])["decider"]
    assert row["from"] < row["texts_a_second"] < row["to"]
    assert row["tokens_a_text"] > 0
    assert "gone was not measured" in ran.output + capfd.readouterr().err
    planned = CliRunner().invoke(app, ["plan", "--tasks", "100", "--panel", "panel.toml", "--json"])
    found = json.loads(planned.stdout)
    assert list(found["speeds"]) == ["decider"]
    assert any("gone was not measured: `mollm bench annotate --panel panel.toml`" in line for line in found["missing"])


def test_neither_tasks_nor_a_project_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    ran = CliRunner().invoke(app, ["plan"])
    assert ran.exit_code == 1
    assert "--tasks" in str(ran.exception)
