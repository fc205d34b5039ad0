"""`mollm options`: what one project does otherwise than the others. Without an option it shows how it stands."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mollm.errors import InputError
from mollm.people import provenance
from mollm_backend.cli.terminal import AsJson, ProjectId, console, nudge, open_store
from mollm_backend.store import events, projects
from mollm_backend.work import budget, people


def options(
    project: ProjectId,
    tokens_a_day: Annotated[
        int | None, typer.Option(min=0, help="Tokens that the panel may spend a day (UTC); 0: no limit.")
    ] = None,
    seconds_a_day: Annotated[
        float | None, typer.Option(min=0, help="Seconds of the LLMs' time a day (UTC); 0: no limit.")
    ] = None,
    blind_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of each new batch that is shown without a pre-annotation."),
    ] = None,
    audit_share: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="Share of each new batch that is drawn at random, without a pre-annotation."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="What a label weighs by how it came about, such as accepted=.5; accepted= takes that back."),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help='What the LLMs are told to do; "" for the panel\'s own words. They read all tasks again.'),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Show or set a project's instruction, daily budget, blind share and what its labels weigh.

    Without an option it shows them, and what was spent today. Examples: `mollm options 12`,
    `mollm options 12 --blind-share .1`, `mollm options 12 --tokens-a-day 2000000`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    given = {
        "instruction": instruction,
        "tokens_a_day": tokens_a_day,
        "seconds_a_day": seconds_a_day,
        "blind_share": blind_share,
        "audit_share": audit_share,
    }
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if weight:
        changed[people.WEIGHTS] = _weights(found.options.get(people.WEIGHTS, {}), weight)
    if changed:
        projects.change(store, project, options=found.options | changed)
        values = ", ".join(f"{name} {value}" for name, value in changed.items())
        events.add(store, "info", f"options set: {values}", project)
        nudge(loaded, project)
        found = projects.get(store, project)
    state = _state(budget.of(store, found), found.options)
    _show({"instruction": found.instruction(loaded.panel_config().instruction)} | state, json_output=json_output)


def _weights(before: dict[str, float], given: list[str]) -> dict[str, float]:
    """The project's own weights with `given` ones set, or taken back. Raises ConfigError, InputError."""
    own = dict(before)
    for one in given:
        kind, equals, value = one.partition("=")
        if not equals:
            raise InputError(f"{one!r} is no weight: write it as accepted=.5.")
        try:
            own[kind] = float(value) if value else 0.0
        except ValueError:
            raise InputError(f"{value!r} is not a number: write a weight as accepted=.5.") from None
        if not value:
            del own[kind]
    provenance.weights(own)
    return own


def _state(spent: budget.Budget, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "budget": spent.as_json(),
        "blind_share": float(options.get("blind_share", 0.0)),
        "audit_share": float(options.get("audit_share", 0.0)),
        "weights": {kind.value: value for kind, value in provenance.weights(options.get(people.WEIGHTS)).items()},
        "own_weights": options.get(people.WEIGHTS, {}),
    }


def _show(state: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        print(json.dumps(state))
        return
    spent = state["budget"]
    console.print(f"instruction: {state['instruction'].strip()}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"budget: {spent['line'] or 'no limit'}", highlight=False, soft_wrap=True)
    console.print(f"blind share of each new batch: {state['blind_share']:g}", highlight=False)
    console.print(f"share of each new batch drawn at random: {state['audit_share']:g}", highlight=False)
    weights = ", ".join(f"{kind} {value:g}" for kind, value in state["weights"].items())
    learned = "" if "accepted" in state["own_weights"] else " (accepted: learned, where blind labels allow it)"
    console.print(f"weights: {weights}{learned}", highlight=False, soft_wrap=True)
