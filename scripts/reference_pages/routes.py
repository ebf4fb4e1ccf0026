"""``routes.md``: every route with its parameters, bodies and replies, from the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from reference_pages.markdown import code, note, table

__all__ = ["page"]

Examples = dict[tuple[str, str], str]

_BATCH = {"symbol": "AAPL", "values": [189.5, 189.7, 189.6], "from_sequence": 0}

_TARGETS = {
    ("post", "/add_batch/"): "/add_batch/",
    ("get", "/values/{symbol}"): "/values/AAPL?last=2",
    ("get", "/stats/{symbol}/{k}"): "/stats/AAPL/3",
    ("get", "/stats/{symbol}"): "/stats/AAPL",
    ("get", "/stats/"): "/stats/?k=1",
    ("get", "/verify/{symbol}/{k}"): "/verify/AAPL/3",
    ("get", "/symbols"): "/symbols",
    ("get", "/livez"): "/livez",
    ("get", "/readyz"): "/readyz",
    ("delete", "/symbols/{symbol}"): "/symbols/AAPL",
}
"""Route → the target of an example, in the order in which they are requested."""

_HEAD = """\
# Routes

Every route, from the OpenAPI document at the default settings. [HTTP](http.md) has an overview and
the conventions, [Errors](errors.md) what each error means.

"""


def page() -> str:
    """Return the page."""
    document = create_app().openapi()
    text = note("the OpenAPI document") + _HEAD
    examples = asyncio.run(_examples())
    for tag in document["tags"]:
        operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        text += f"## {tag['name'].capitalize()}\n\n{tag['description']}\n\n"
        text += "".join(_operation(*each, examples) for each in operations)
    return text.rstrip() + "\n"


async def _examples() -> Examples:
    """Return requests and their replies, from a service with one symbol and three windows."""
    examples = {}
    app = create_app(Settings(largest_window=1000))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        for (method, path), target in _TARGETS.items():
            batch = _BATCH if target == "/add_batch/" else None
            reply = await client.request(method.upper(), target, json=batch)
            reply.raise_for_status()
            request = f"{method.upper()} {target}" + (f"\n{json.dumps(batch)}" if batch else "")
            examples[method, path] = f"```\n{request}\n```\n\n```json\n{reply.text}\n```\n\n"
    return examples


def _operation(method: str, path: str, operation: dict[str, Any], examples: Examples) -> str:
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
    if (method, path) in examples:
        text += examples[method, path]
    return text


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
