"""The OpenAPI document says which operations need the API key; without a key it names none."""

from __future__ import annotations

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.middleware import KEY


def test_the_document_says_what_needs_the_key() -> None:
    with InProcess(create_app(Settings(largest_window=1000, api_key=KEY))) as client:  # type: ignore[arg-type]
        document = client.get("/openapi.json").json()
        assert client.get("/openapi.json").json() == document
    assert set(document["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    assert document["security"] == [{"ApiKey": []}, {"Bearer": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_open = path in ("/livez", "/readyz")
            assert (operation.get("security") == []) == is_open
            assert ("401" in operation["responses"]) == (not is_open)
    with InProcess(create_app(Settings(largest_window=1000))) as client:
        document = client.get("/openapi.json").json()
    assert "security" not in document
    assert "securitySchemes" not in document.get("components", {})
