"""Test if the label stream serves a batch in its order, which is undocumented."""

from __future__ import annotations

from dataclasses import dataclass

from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.label_config import rank_score

UNCERTAINTY = "Uncertainty sampling"  # the project setting that serves the lowest prediction score first
# The smallest project on which the order can be tested: two labels, and the same prediction on every task.
_CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)
_RESULT = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["a"]}}]
_REHEARSED = (3, 0, 4, 1, 2)  # the order served; a random stream gives it once in 120 times


@dataclass(frozen=True)
class OrderCheck:
    """Whether the stream serves the batch in its order; `reason` says why not, or why it was not tested."""

    served: bool
    reason: str = ""


def rehearse(client: LabelStudioClient) -> OrderCheck:
    """Test the order on this server with five tasks in a temporary project, which is deleted afterwards.

    The user's own project is not used: a task that the stream serves is locked for 24 hours for the user who asked.
    """
    try:
        number = client.create_project("mollm self-check, gone in a moment", _CONFIG)
    except LabelStudioError as error:
        return OrderCheck(True, f"not rehearsed: {error}")
    try:
        return _rehearsed(client, number)
    except LabelStudioError as error:
        return OrderCheck(False, f"the rehearsal failed: {error}")
    finally:
        client.delete_project(number)


def _rehearsed(client: LabelStudioClient, number: int) -> OrderCheck:
    ids = client.import_tasks(number, [{"text": str(n)} for n in range(len(_REHEARSED))])
    order = [ids[n] for n in _REHEARSED]
    rows = [
        {"task": task_id, "model_version": "rehearsal", "score": rank_score(rank), "result": _RESULT}
        for rank, task_id in enumerate(order)
    ]
    client.import_predictions(number, rows)
    client.patch_project(number, model_version="rehearsal", sampling=UNCERTAINTY)
    for expected in order:
        task = client.next_task(number)
        if task is None or task["id"] != expected:
            return OrderCheck(False, "this Label Studio does not serve the lowest score first")
        client.submit(expected, _RESULT)
    return OrderCheck(True)


def why_not_served(remote: RemoteProject, batch_version: str) -> str:
    """The project setting because of which the stream does not serve the batch in order; "" if there is none."""
    if remote.model_version != batch_version:
        return f"the project shows the version {remote.model_version!r}, not the batch {batch_version!r}"
    if remote.sampling != UNCERTAINTY:
        return f"the project's sampling is {remote.sampling!r}, not {UNCERTAINTY!r}"
    if remote.maximum_annotations > 1:
        return f"{remote.maximum_annotations} annotations a task are asked for: half-labelled tasks come first"
    return ""
