"""The document of the protocol is that of its messages, and whole."""

import json
from pathlib import Path
from typing import Any

from stream.asyncapi import document

FILE = Path(__file__).parent.parent / "docs" / "asyncapi.json"


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for child in node.values() for ref in references(child)]
    if isinstance(node, list):
        return [ref for child in node for ref in references(child)]
    return []


def test_the_document_has_not_drifted() -> None:
    """If this fails: python -m stream.asyncapi > docs/asyncapi.json"""
    assert json.loads(FILE.read_text()) == document()


def test_every_reference_leads_somewhere_and_all_messages_are_told() -> None:
    whole = document()
    for reference in references(whole):
        node: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    messages = whole["components"]["messages"]
    assert {"query.create", "query.cancel", "answer.done", "session.created"} <= messages.keys()
    assert all(message["summary"] for message in messages.values())
    stream, ingest = (whole["channels"][name]["messages"].keys() for name in ("stream", "ingest"))
    assert ingest == {"picture", "ingest.ready", "frame.ack", "error"}
    assert stream == messages.keys() - {"picture", "ingest.ready", "frame.ack"}
