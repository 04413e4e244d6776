"""The description says what the routes do."""

import json
from typing import Any

from gateway.web.app import description

from .world import World


def _operations() -> Any:
    paths: Any = description()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_openapi_3_1_and_served_without_a_token(gateway: World) -> None:
    """Client generators fetch it first."""
    served = gateway.ask("GET", "//gateway/openapi.json")
    assert served.status_code == 200
    assert served.json()["openapi"].startswith("3.1")
    assert served.json() == json.loads(json.dumps(description()))


def test_every_operation_of_the_api_names_its_permission_and_its_problems() -> None:
    """What a caller must be able to handle is written down."""
    for path, method, operation in _operations():
        if not path.startswith("/api/"):
            continue
        assert operation["x-permission"], (path, method)
        assert operation["security"] == [{"token": []}]
        assert {"401", "403", "503"} <= set(operation["responses"])
        assert ("{" in path) == ("404" in operation["responses"]), path
        problem = operation["responses"]["401"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}


def test_every_reference_leads_somewhere() -> None:
    """Generators stop at the first that does not."""
    document = description()
    text = json.dumps(document)
    schemas: Any = document["components"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas["schemas"]
    assert "HTTPValidationError" not in text


def test_operation_ids_are_unique() -> None:
    """They become the names of functions."""
    names = [operation["operationId"] for _, _, operation in _operations()]
    assert len(names) == len(set(names))


def test_the_form_of_a_document_is_described() -> None:
    """It is read by hand, so the description is by hand too."""
    paths: Any = description()["paths"]
    form = paths["/api/v1/documents"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["file"]
    assert {"file", "sidecar"} == set(form["schema"]["properties"])
