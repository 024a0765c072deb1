# SPDX-License-Identifier: AGPL-3.0-only
"""Checks an answer of the HTTP door against schema/openapi.json.

    check("GET", "/v1/sites?x=y", 200, headers, body)

raises Mismatch, which says where, unless the path and method are described, the status is, its content type is, and the
body fits the schema. A media type with "x-lines" carries a JSON value per line; of text/event-stream the schema describes
the data of each event.
"""
import functools
import json
import pathlib
import re

import jsonschema

DESCRIPTION = pathlib.Path(__file__).resolve().parents[2] / "schema" / "openapi.json"
METHODS = ("get", "put", "post", "delete", "patch")


class Mismatch(AssertionError):
    pass


@functools.lru_cache(maxsize=None)
def description():
    return json.loads(DESCRIPTION.read_text(encoding="utf-8"))


def resolve(node):
    while "$ref" in node:
        target = description()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def find_path(path):
    """The description of a path; one without parameters wins."""
    path = path.partition("?")[0]
    for template, item in sorted(description()["paths"].items(), key=lambda entry: "{" in entry[0]):
        pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part)
                          for part in re.split(r"(\{[^}]+\})", template))
        if re.fullmatch(pattern, path):
            return item
    raise Mismatch(f"{path} is not described")


def validate(value, schema, where):
    whole = {**schema, "components": description()["components"]}
    errors = sorted(jsonschema.Draft202012Validator(whole).iter_errors(value), key=lambda error: list(error.path))
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        raise Mismatch(f"{where}: at /{'/'.join(map(str, error.absolute_path))}: {error.message}")


def values_of(body, content_type, media, where):
    """The JSON values that a body carries."""
    text = body.decode("utf-8") if isinstance(body, bytes) else body
    if content_type == "text/event-stream":
        pieces = ["\n".join(line.partition(":")[2] for line in block.split("\n") if line.startswith("data:"))
                  for block in text.replace("\r\n", "\n").split("\n\n")]
        pieces = [piece for piece in pieces if piece]
    elif media.get("x-lines"):
        pieces = text.splitlines()
    elif content_type == "application/json":
        pieces = [text]
    else:
        return [text]
    try:
        return [json.loads(piece) for piece in pieces]
    except ValueError as error:
        raise Mismatch(f"{where}: the body is not JSON: {error}") from error


def check(method, path, status, headers, body):
    where = f"{method} {path} {status}"
    item = find_path(path)
    operation = item.get("get" if method == "HEAD" else method.lower())
    if operation is None and status != 405:
        raise Mismatch(f"{where}: the method is not described")
    responses = operation["responses"] if operation else next(iter(item.values()))["responses"]
    if str(status) not in responses:
        raise Mismatch(f"{where}: the status is not described")
    content = resolve(responses[str(status)]).get("content", {})
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type not in content:
        raise Mismatch(f"{where}: content type {content_type!r} is not described")
    if method != "HEAD":
        for value in values_of(body, content_type, content[content_type], where):
            validate(value, resolve(content[content_type]["schema"]), where)
