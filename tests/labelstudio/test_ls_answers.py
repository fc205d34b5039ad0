"""Whether an ML backend answers at an address: the doctor's own look, without a Label Studio."""

from __future__ import annotations

import httpx
import pytest
import respx

from mollm_backend.doctor.label_studio import _answers

URL = "http://10.0.0.5:9090"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(200, json={"status": "UP", "model_class": "Mollm"}), True),
        (httpx.Response(200, text="<html>some other server that has the port</html>"), False),
        (httpx.Response(200, json=["UP"]), False),
        (httpx.Response(404, json={"status": "UP"}), False),
    ],
    ids=["ours", "a page", "a list", "not found"],
)
def test_only_an_ml_backend_counts(answer: httpx.Response, expected: bool) -> None:
    with respx.mock:
        respx.get(f"{URL}/health").mock(return_value=answer)
        assert _answers(URL) is expected


def test_nobody_there() -> None:
    with respx.mock:
        respx.get(f"{URL}/health").mock(side_effect=httpx.ConnectError("refused"))
        assert not _answers(URL)
    assert not _answers("")
