"""The examples of docs/local-api.md and of the Python client, as printed, against a real daemon."""

from __future__ import annotations

import http.client
import json
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manuals import ROOT, blocks

import meshnode.client
from simulations.mesh import Node, running

MANUAL = ROOT / "docs" / "local-api.md"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("api"), ["BE"]) as mesh:
        yield mesh["BE"]


def example(words: str) -> str:
    """The one JSON example of the manual in which these words stand."""
    (found,) = [text for language, text in blocks(MANUAL) if language == "json" and words in text]
    return found


def post(node: Node, path: str, body: str) -> Any:
    """What any program of a NOC does: HTTP over the Unix socket."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(node.socket))
    connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status in (200, 201), said
    return json.loads(said)


def test_an_incident_is_opened_and_changed_as_the_manual_says(node: Node) -> None:
    incident = post(node, "/v1/incidents", example('"share_with"'))["incident"]
    path = f"/v1/incidents/{incident}/changes"
    attached = post(node, path, example("plan.txt"))
    with node.client() as client:
        person = client.collection(incident, "persons")[0]
        assert person.fields["aliases"].values[0].value == "Joe"
        files = {item.name: item.id for item in client.attachments(incident)}
        assert (attached["ids"], attached["attachments"]) == ([], [files["plan.txt"]])
        assert client.attachment(incident, files["plan.txt"]).data == b"Ground floor"
        (status,) = client.incident(incident).fields["status"].values
        two = [{"kind": "create", "collection": "vehicles"}] * 2
        one, other = post(node, path, json.dumps({"changes": two}))["objects"]
        changes = example("<value id>").replace("<value id>", status.id)
        changes = changes.replace("<object id>", one).replace("<other object id>", other)
        post(node, path, changes)
        fields = client.incident(incident).fields
        assert [value.value for value in fields["status"].values] == ["contained"]
        assert [value.value for value in fields["hazards"].values] == ["chemical"]
        vehicles = {item.id: item.fields for item in client.collection(incident, "vehicles") if not item.deleted}
        assert other not in vehicles
        assert vehicles.pop(one)["colour"].values[0].value == "red"
        assert [fields["plate"].values[0].value for fields in vehicles.values()] == ["1-ABC-234"]
        assert client.log(incident).items[0].record["precedence"] == "immediate"


def test_the_example_of_the_python_client_runs(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    doc = meshnode.client.__doc__ or ""
    lines = [line for line in doc.splitlines() if not line or line.startswith("    ")]
    script = textwrap.dedent("\n".join(lines)).replace("/run/meshnode/api.sock", str(node.socket))
    # It follows until it is interrupted; here, until it has seen its own change.
    script = script.rstrip() + "\n        if any(item.value == 'contained' for item in entry.operations): break\n"
    exec(compile(script, str(Path(meshnode.client.__file__)), "exec"), {})  # noqa: S102 - our own manual
    assert "BE" in capsys.readouterr().out


def test_the_python_of_the_manual_runs_as_printed(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = [text for language, text in blocks(MANUAL) if language == "python"]
    assert "/run/meshnode/api.sock" in script
    exec(script.replace("/run/meshnode/api.sock", str(node.socket)), {})  # noqa: S102 - the manual's own example
    said = capsys.readouterr().out
    assert said.startswith("b'Ground floor' FieldView(")
    assert "'red'" in said
    assert "\nnoc-unknown no device of XX" in said
