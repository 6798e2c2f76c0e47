"""/openapi.json says of every path of the API what it is for, and shows the shapes that are declared."""

from starlette.routing import Route

from ingress.api_operations import ANSWERS
from ingress.app import create_app
from ingress.openapi import document
from ingress.pages.access import is_page


def test_every_path_is_in_it() -> None:
    """With a sentence of its own, its parameters, its key, and no pages."""
    app = create_app()
    found = document(app.routes)
    paths = {route.path.replace(":path}", "}") for route in app.routes if isinstance(route, Route) and not is_page(route.path)}
    assert set(found["paths"]) == paths
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"].endswith((".", ";")) or " " in operation["summary"], (path, method)
            assert sum(each["in"] == "path" for each in operation.get("parameters", [])) == path.count("{")
    assert "security" not in found["paths"]["/livez"]["get"]
    assert found["paths"]["/admin/queues/restart"]["post"]["security"] == [{"key": []}]


def test_declared_shapes_are_shown() -> None:
    """Each with fields under the names they have in JSON."""
    found = document(create_app().routes)
    for path in ANSWERS:
        assert found["paths"][path]["get"]["responses"]["2XX"]["content"]["application/json"]["schema"]
    assert set(found["components"]["schemas"]["Cache"]["properties"]) == {"hits", "misses", "hitRate", "keys"}
