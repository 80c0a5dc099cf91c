"""The OpenAPI 3.1 document, generated from the route table and the records.

``python -m meshnode.api.openapi > docs/openapi.json`` writes the copy that is published; a test keeps it equal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from meshnode.api.content import JSON, MSGPACK
from meshnode.api.problems import PROBLEMS, Problem
from meshnode.api.records import EVENT_ID_PATTERN
from meshnode.api.routes import Answer, Route
from meshnode.core.views import HistoryView

API_VERSION = "1"
"""Rises when a request that worked would stop working; the path prefix rises with it."""

_PARAMETERS = {
    "incident": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Incident id"},
    "object": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Object id"},
    "collection": {"type": "string", "description": "Name of a collection, as persons or vehicles"},
}
_OPERATOR = {
    "name": "Meshnode-Operator",
    "in": "header",
    "required": False,
    "description": "In whose name the change is made, at most 128 bytes of UTF-8. The caller's user id is appended.",
    "schema": {"type": "string"},
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Resume after the event with this id. Wins over the parameter after.",
    "schema": {"type": "string", "pattern": EVENT_ID_PATTERN},
}


@cache
def document_bytes(routes: tuple[Route, ...]) -> bytes:
    """The document as indented JSON with a final newline, the same bytes at every call."""
    return msgspec.json.format(msgspec.json.encode(document(routes)), indent=2) + b"\n"


def document(routes: Sequence[Route]) -> dict[str, Any]:
    types: list[Any] = [Problem, HistoryView]
    types += [route.result for route in routes if route.answer is Answer.RECORD]
    types += [route.body for route in routes if route.body is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {str(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "meshnode local API",
            "version": API_VERSION,
            "summary": "Shared incident state of one node, over HTTP/1.1 on a Unix socket",
            "license": {"name": "EUPL-1.2", "identifier": "EUPL-1.2"},
        },
        "servers": [{"url": "http://localhost", "description": "The Unix socket; the host name does not matter"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _operation(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += _query_parameters(route.query)
    if route.changes:
        parameters.append(_OPERATOR)
    if route.answer is Answer.STREAM:
        parameters.append(_LAST_EVENT_ID)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _both(by_type[str(route.body)], problem=False)}
    operation["responses"] = {
        str(route.status): {"description": route.summary, "content": _content(route, by_type)},
        "default": {
            "description": "A problem. Its code is one of: " + ", ".join(sorted(PROBLEMS)) + ", or one of the core's.",
            "content": _both(by_type[str(Problem)], problem=True),
        },
    }
    return operation


def _content(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    if route.answer is Answer.STREAM:
        return {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "Events named entry; id is where to resume, data a HistoryView as JSON.",
                }
            }
        }
    if route.answer is Answer.FILE:
        return {"application/json": {"schema": {}}} if route.name == "openapi" else {"*/*": {"schema": {}}}
    return _both(by_type[str(route.result)], problem=False)


def _both(schema: dict[str, Any], *, problem: bool) -> dict[str, Any]:
    return {form.problem_media_type if problem else form.media_type: {"schema": schema} for form in (JSON, MSGPACK)}


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template="{name}")
    properties: dict[str, Any] = components[query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is absent, not null."""
    if "anyOf" not in schema:
        return schema
    (only,) = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    return dict(only)


def main() -> None:
    from meshnode.api.handlers import ROUTES  # the table imports this module to serve the document

    sys.stdout.buffer.write(document_bytes(ROUTES))


if __name__ == "__main__":
    main()
