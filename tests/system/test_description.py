# SPDX-License-Identifier: AGPL-3.0-only
"""schema/asyncapi.json and schema/wire.md say the same: the examples of both are valid, and are each other's."""
import base64
import json
import re
from pathlib import Path

import jsonschema
import msgpack
import pytest

SCHEMA = Path(__file__).resolve().parents[2] / "schema"
API = json.loads((SCHEMA / "asyncapi.json").read_text())
MESSAGES = API["components"]["messages"]
DESCRIBED = dict(re.findall(r"```hex ([a-z-]+)\n([0-9a-f \n]+)\n```", (SCHEMA / "wire.md").read_text()))


def text(value):
    """bin as the API writes it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: text(inner) for name, inner in value.items()}
    return [text(inner) for inner in value] if isinstance(value, list) else value


def validate(message, payload):
    schema = {"allOf": [MESSAGES[message]["payload"]], "components": API["components"]}
    jsonschema.Draft7Validator(schema).validate(payload)


@pytest.mark.parametrize("message", MESSAGES)
def test_examples_are_valid(message):
    for example in MESSAGES[message]["examples"]:
        validate(message, example["payload"])


@pytest.mark.parametrize("name, message", [("request", "request"), ("request-http", "request"),
                                           ("request-undo", "request"), ("accepted", "accepted"),
                                           ("refused", "refused"), ("result", "result"), ("completed", "completed")])
def test_examples_are_the_same(name, message):
    payload = text(msgpack.unpackb(bytes.fromhex(DESCRIBED[name]), raw=False))
    validate(message, payload)
    assert payload in [example["payload"] for example in MESSAGES[message]["examples"]]


@pytest.mark.parametrize("payload", [
    {"resource": "web", "type": "set"},
    {"resource": "web", "type": "set", "command": ["x"], "http": {"service": "s", "method": "GET", "path": ""}},
    {"resource": "../x", "type": "set", "command": ["x"]},
    {"resource": "web", "type": "set", "command": "echo"},
    {"resource": "web", "type": "set", "command": ["x"], "files": [{"name": "../x", "content": ""}]},
    {"resource": "web", "type": "set", "http": {"service": "s", "method": "GET", "path": "/x"}},
    {"resource": "web", "type": "set", "command": ["x"], "undo": ["x"]},
    {"resource": "web", "type": "set", "command": ["x"], "undo": {}},
])
def test_bad_requests_are_invalid(payload):
    with pytest.raises(jsonschema.ValidationError):
        validate("request", payload)


def test_references_lead_somewhere():
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(API)):
        target = API
        for part in reference.split("/"):
            target = target[part]
