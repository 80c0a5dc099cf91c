"""What is published about the interface is what the tables say."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from openapi_spec_validator import validate

from meshnode.api import content, records
from meshnode.api.access import OPERATOR_BYTES_MAX
from meshnode.api.handlers import ROUTES
from meshnode.api.openapi import document, document_bytes
from meshnode.api.problems import PROBLEMS, problem_of, status_of
from meshnode.api.settings import ApiLimits
from meshnode.api.sockets import PATH_BYTES_MAX
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError, UntrustedInputError

DOCS = Path(__file__).parents[2] / "docs"


def rows(pattern: str) -> set[tuple[str, ...]]:
    return set(re.findall(pattern, (DOCS / "local-api.md").read_text(), re.MULTILINE))


def test_the_document_is_valid_openapi_3_1():
    validate(json.loads(document_bytes(ROUTES)))


def test_the_published_document_is_the_generated_one():
    published = (DOCS / "openapi.json").read_bytes()
    assert published == document_bytes(ROUTES), "run: python -m meshnode.api.openapi > docs/openapi.json"


def test_every_route_is_in_it_with_its_path_variables_and_answers():
    paths = document(ROUTES)["paths"]
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", route.path))
        assert str(route.status) in operation["responses"]
        assert "default" in operation["responses"]
        assert ("requestBody" in operation) == (route.body is not None)


def test_names_of_operations_are_unique():
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)


def test_the_documentation_lists_exactly_the_routes_of_the_table():
    assert rows(r"^\| `([A-Z]+)` \| `(/v1/[^`]*)` \|") == {(route.method, route.path) for route in ROUTES}


def test_the_documentation_lists_exactly_the_codes_of_the_table():
    listed = rows(r"^\| `([a-z0-9-]+)` \| (\d{3}) \| (.+) \|$")
    assert listed == {(code, str(kind.status), kind.title) for code, kind in PROBLEMS.items()}


def test_the_documentation_lists_the_limits_that_hold():
    limits = {item.name: f"{getattr(ApiLimits(), item.name):g}" for item in fields(ApiLimits)}
    limits |= {
        "CHANGES_MAX": str(records.CHANGES_MAX),
        "PAGE_LIMIT_MAX": str(records.PAGE_LIMIT_MAX),
        "PAGE_LIMIT_DEFAULT": str(records.PAGE_LIMIT_DEFAULT),
        "ATTACHMENT_BYTES_MAX": str(records.ATTACHMENT_BYTES_MAX),
        "ATTACHMENTS_MAX": str(records.ATTACHMENTS_MAX),
        "NOCS_MAX": str(records.NOCS_MAX),
        "OPERATOR_BYTES_MAX": str(OPERATOR_BYTES_MAX),
        "PATH_BYTES_MAX": str(PATH_BYTES_MAX),
        "ITEMS_MAX": str(content.ITEMS_MAX),
        "NESTING_MAX": str(content.NESTING_MAX),
        "VALUE_NESTING_MAX": str(content.VALUE_NESTING_MAX),
    }
    # Large numbers are printed whole.
    limits |= {
        item.name: str(getattr(ApiLimits(), item.name)) for item in fields(ApiLimits) if item.name.endswith("_max")
    }
    assert rows(r"^\| `(\w+)` \| ([\d.]+) \| ") >= set(limits.items())


def test_a_code_that_is_not_in_the_table_takes_the_status_of_its_class():
    assert status_of(RefusedError("brand-new", "r")) == 409
    assert status_of(LocalFaultError("brand-new", "r")) == 503
    assert status_of(UntrustedInputError("brand-new", "r")) == 422
    assert status_of(MeshnodeError("brand-new", "r")) == 500
    problem = problem_of(RefusedError("brand-new", "why", "do this"))
    assert (problem.type, problem.title) == ("urn:meshnode:problem:brand-new", "Brand new")
    assert (problem.detail, problem.action) == ("why", "do this")
