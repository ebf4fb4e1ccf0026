"""``websocket.md``: the channels and messages of the AsyncAPI document."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import yaml  # type: ignore[import-untyped]

from reference_pages.markdown import code, note, table

__all__ = ["page"]

_HEAD = """\
# WebSocket

This page is made from [asyncapi.yaml](../asyncapi.yaml), which the service serves at
`/asyncapi.yaml`. [Streams](../how-to/streams.md) has programs.

"""


def page() -> str:
    """Return the page."""
    source = files("financial_data_service.server.stream") / "asyncapi.yaml"
    document = yaml.safe_load(source.read_text("utf-8"))
    text: str = note("`asyncapi.yaml`") + _HEAD + document["info"]["description"].strip() + "\n\n"
    for channel in document["channels"].values():
        text += f"## {channel['address']}\n\n{channel['description'].strip()}\n\n"
        text += _query(channel)
        text += "".join(_message(document, name) for name in channel["messages"])
    return text.replace("**Close codes**", "## Close codes").rstrip() + "\n"


def _query(channel: dict[str, Any]) -> str:
    query = channel.get("bindings", {}).get("ws", {}).get("query", {}).get("properties", {})
    if not query:
        return ""
    return table(
        ["query parameter", "type", "meaning"],
        ([code(name), each["type"], each.get("description", "")] for name, each in query.items()),
    )


def _message(document: dict[str, Any], name: str) -> str:
    message = document["components"]["messages"][name]
    text = f"### `{message['name']}`\n\n{message['summary']}"
    for description in (message.get("description"), message["payload"].get("description")):
        if description:
            text += f" {' '.join(description.split())}"
    text += "\n\n"
    for example in message.get("examples", []):
        text += f"```json\n{json.dumps(example['payload'], ensure_ascii=False)}\n```\n\n"
    return text
