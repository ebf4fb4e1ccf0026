"""``routes.md``: every route with its parameters, bodies and replies, from the OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

from financial_data_service.server.app import create_app
from reference_pages.markdown import code, note, table

__all__ = ["page"]

_HEAD = """\
# Routes

Every route, from the OpenAPI document at the default settings. [HTTP](http.md) has an overview and
the conventions, [Errors](errors.md) what each error means.

"""


def page() -> str:
    """Return the page."""
    document = create_app().openapi()
    text = note("the OpenAPI document") + _HEAD
    for tag in document["tags"]:
        operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        text += f"## {tag['name'].capitalize()}\n\n{tag['description']}\n\n"
        text += "".join(_operation(*each) for each in operations)
    return text.rstrip() + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    text = f"### {method.upper()} {path}\n\n{_unwrapped(operation['description'])}\n\n"
    parameters = operation.get("parameters", [])
    if parameters:
        text += table(["parameter", "in", "type", "meaning"], map(_parameter, parameters))
    bodies = operation.get("requestBody", {}).get("content", {})
    if bodies:
        text += f"Request body: {', '.join(map(code, bodies))}.\n\n"
    text += table(
        ["status", "body", "meaning"], map(_reply, sorted(operation["responses"].items()))
    )
    example = _example(operation)
    return text + (f"```json\n{example}\n```\n\n" if example else "")


def _unwrapped(text: str) -> str:
    """Return paragraphs of one line each, as Markdown that is shown with its line breaks needs."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _parameter(parameter: dict[str, Any]) -> list[str]:
    schema = parameter["schema"]
    kinds = [schema, *schema.get("anyOf", [])]
    kind = next(each["type"] for each in kinds if "type" in each)
    choices = next((each["enum"] for each in kinds if "enum" in each), None)
    if choices:
        kind = ", ".join(map(code, choices))
    if schema.get("default") is not None:
        kind += f", default {schema['default']:,}"
    if parameter.get("required"):
        kind += ", required"
    return [code(parameter["name"]), parameter["in"], kind, parameter.get("description", "")]


def _reply(reply: tuple[str, dict[str, Any]]) -> list[str]:
    status, content = reply
    meaning = content["description"].replace("Successful Response", "success")
    return [status, ", ".join(map(code, content.get("content", {}))), meaning]


def _example(operation: dict[str, Any]) -> str | None:
    """Return an example of the reply on success, if the document has one."""
    for status in ("201", "200"):
        body = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
        if "example" in body:
            return json.dumps(body["example"], ensure_ascii=False)
    return None
