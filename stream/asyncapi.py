"""The AsyncAPI 3 document of ivl.v1, made from its messages.

python -m stream.asyncapi > docs/asyncapi.json
"""

import json
from typing import Any, get_args

from stream.protocol import (
    CLIENT_MESSAGES,
    PROTOCOL,
    SERVER_MESSAGES,
    AnyClientMessage,
    AnyServerMessage,
)
from stream.version import VERSION

_DEFINITIONS = "#/components/schemas/{model}"
# What the server says only where pictures are pushed.
_INGEST = ("ingest.ready", "frame.ack")

_PICTURE = {
    "name": "picture",
    "summary": "A binary frame: one JPEG, PNG or WebP picture.",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}


def document() -> dict[str, Any]:
    """Everything a client needs to know, as AsyncAPI 3.0."""
    schemas: dict[str, Any] = {}
    for messages in (CLIENT_MESSAGES, SERVER_MESSAGES):
        schemas |= messages.json_schema(ref_template=_DEFINITIONS)["$defs"]
    client, server = (_by_type(any_of) for any_of in (AnyClientMessage, AnyServerMessage))
    to_askers = [name for name in server if name not in _INGEST]
    to_pusher = [*_INGEST, "error"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Questions about live streams",
            "version": VERSION,
            "description": f"Websocket subprotocol {PROTOCOL}; one JSON object a text frame.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": {"local": {"host": "127.0.0.1:8765", "protocol": "ws"}},
        "defaultContentType": "application/json",
        "channels": {
            "stream": _channel("/v1/stream", [*client, *to_askers]),
            "ingest": _channel("/v1/ingest/{name}", ["picture", *to_pusher])
            | {"parameters": {"name": {"description": "the stream that takes the pictures"}}},
        },
        "operations": {
            "fromClient": _operation("receive", "stream", [*client]),
            "fromServer": _operation("send", "stream", to_askers),
            "fromPusher": _operation("receive", "ingest", ["picture"]),
            "toPusher": _operation("send", "ingest", to_pusher),
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "summary": _summary(name, model),
                    "payload": {"$ref": _DEFINITIONS.format(model=model.__name__)},
                }
                for name, model in (client | server).items()
            }
            | {"picture": _PICTURE},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _by_type(any_of: Any) -> dict[str, Any]:
    """The messages of one direction by their `type`."""
    models = get_args(any_of)
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}


def _summary(name: str, model: Any) -> str:
    """What its docstring says first."""
    return " ".join((model.__doc__ or name).split("\n\n")[0].split())


def _channel(address: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET"}},
    }


def _operation(action: str, channel: str, messages: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=1))
