# SPDX-License-Identifier: AGPL-3.0-only
"""schema/openapi.json describes every route of the door and no other, and its checker notices what does not fit."""
import json
import pathlib
import re
import sys

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import openapi_check  # noqa: E402

JSON = {"Content-Type": "application/json"}
ID = "0192f000-0000-7000-8000-000000000001"
RESULT = {"site": "Nantes", "state": "done", "run": 1, "exit_code": 0, "output": "", "output_cut": False, "reason": None,
          "unverified": False, "started_at": "2026-11-24T03:32:03.123Z", "duration_ms": 4, "elapsed_ms": 7}
LINE = {"operation": ID, "resource": "web", "answered": 1, "members": 3, **RESULT}
COMPLETED = {"operation": ID, "resource": "web", "completed": True, "state": "done", "answered": 3, "members": 3,
             "failed": []}


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


def routes():
    text = (ROOT / "agent" / "gateway" / "routes.c").read_text(encoding="utf-8")
    rows = re.findall(r'\{EVHTTP_REQ_(\w+), "([^"]+)", GATEWAY_(\w+)_BODY,\s*(true|false), (NULL|"[^"]*")', text)
    return {(method.lower(), path): (body, opened == "true", params.strip('"').split() if params != "NULL" else [])
            for method, path, body, opened, params in rows}


def described():
    return {(method, path): operation for path, item in openapi_check.description()["paths"].items()
            for method, operation in item.items()}


def test_every_route_is_described_and_no_other():
    assert len(routes()) > 20
    assert routes().keys() == described().keys()


def test_bodies_security_and_parameters_agree():
    bodies = {"JSON": "application/json", "FORM": "multipart/form-data", "RAW": "application/octet-stream"}
    for key, (body, opened, params) in routes().items():
        operation = described()[key]
        assert list(operation.get("requestBody", {}).get("content", {})) == ([bodies[body]] if body != "NO" else []), key
        assert (operation.get("security") == []) == opened, key
        assert {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"} == set(params), key
        holes = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert holes == set(re.findall(r"\{(\w+)\}", key[1])), key


def test_schemas_are_schemas_and_references_lead_somewhere():
    whole = openapi_check.description()
    for schema in whole["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(whole))):
        assert openapi_check.resolve({"$ref": reference})


def test_what_fits_passes():
    openapi_check.check("GET", "/healthz", 200, JSON, b'{"ok": true}')
    openapi_check.check("GET", "/v1/operations?limit=1", 200, JSON, '{"operations": []}')
    openapi_check.check("HEAD", "/healthz", 200, {"content-type": "application/json"}, b"")
    openapi_check.check("GET", "/v1/resources/a%20b", 404, JSON, '{"error": "no", "code": "not found"}')
    openapi_check.check("DELETE", "/healthz", 405, JSON, '{"error": "no", "code": "invalid argument"}')
    openapi_check.check("POST", "/v1/operations", 200, {"Content-Type": "application/x-ndjson"}, lines(LINE, COMPLETED))
    openapi_check.check("GET", f"/v1/operations/{ID}/watch", 200, {"Content-Type": "text/event-stream"},
                        f"retry: 2000\n\n: x\n\nevent: result\ndata: {json.dumps(LINE)}\n\n")


@pytest.mark.parametrize("method, path, status, headers, body, said", [
    ("GET", "/v1/nowhere", 200, JSON, "{}", "is not described"),
    ("PUT", "/healthz", 200, JSON, "{}", "method"),
    ("GET", "/healthz", 302, JSON, "{}", "status"),
    ("GET", "/healthz", 200, {"Content-Type": "text/html"}, "{}", "content type"),
    ("GET", "/healthz", 200, JSON, "{", "not JSON"),
    ("GET", "/healthz", 200, JSON, '{"ok": false}', "True was expected"),
    ("GET", "/v1/operations", 200, JSON, '{"operations": [], "more": 1}', "more"),
    ("GET", "/v1/resources", 401, JSON, '{"error": 5, "code": "x"}', "/error"),
    ("POST", "/v1/operations", 200, {"Content-Type": "application/x-ndjson"},
     lines(LINE, {**COMPLETED, "state": "so-so"}), "not valid"),
    ("GET", f"/v1/operations/{ID}/watch", 200, {"Content-Type": "text/event-stream"},
     f"data: {json.dumps({**LINE, 'run': -1})}\n\n", "/run"),
])
def test_what_does_not_fit_is_noticed(method, path, status, headers, body, said):
    with pytest.raises(openapi_check.Mismatch, match=said):
        openapi_check.check(method, path, status, headers, body)
