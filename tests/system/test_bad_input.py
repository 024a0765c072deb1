# SPDX-License-Identifier: AGPL-3.0-only
"""What bad input gets: a 4xx or an exit code with one sentence that says what and where; nothing is lost and nobody crashes."""
import base64
import os
import socket

import pytest
import requests
from testbed import ALL, SITES, wait_until

GOOD = {"resource": "bad-input", "type": "set", "scope": "Nantes", "command": ["true"]}


@pytest.fixture(autouse=True)
def agents_survive(bed):
    before = {site: bed.pid(site) for site in SITES}
    yield
    for site in SITES:
        assert bed.pid(site) == before[site] and bed.ready(site)


@pytest.mark.parametrize("change,status,words", [
    ({"scope": "Nantes & "}, 400, "at character"),
    ({"scope": "Nantes & Renes"}, 400, "Rennes"),
    ({"scope": "Nantes || Rennes"}, 422, "||"),
    ({"scope": "Nantes % Rennes"}, 422, "%"),
    ({"scope": "around: Nantes, 50ms"}, 422, "around"),
    ({"scope": "{nova: Nantes}"}, 422, None),
    ({"scope": "(" * 200 + "Nantes" + ")" * 200}, 400, None),
    ({"scope": "Nantes & " * 1000 + "Nantes"}, (400, 413), None),
    ({"scope": ""}, 400, None),
    ({"resource": ""}, 400, None),
    ({"resource": "x" * 201}, (400, 413), "200"),
    ({"resource": "a\u0000b"}, 400, None),
    ({"resource": "line\nbreak"}, 400, None),
    ({"resource": 7}, 400, "resource"),
    ({"type": ""}, 400, "type"),
    ({"type": "x" * 300}, (400, 413), "type"),
    ({"type": None}, 400, "type"),
    ({"command": []}, 400, "command"),
    ({"command": "true"}, 400, "command"),
    ({"command": [1]}, 400, "command"),
    ({"command": ["x" * 70000]}, 413, None),
    ({"command": ["true"], "http": {"service": "inventory", "method": "GET", "path": "x"}}, 400, None),
    ({"command": None}, 400, None),
    ({"level": "sometimes"}, 400, "level"),
    ({"level": "strong"}, 422, "strong"),
    ({"timeout_ms": -1}, 400, "timeout_ms"),
    ({"timeout_ms": 10**15}, 400, "timeout_ms"),
    ({"config": {"ResolutionMatrix": 1}}, 400, None),
    ({"config": {"ResolutionMatrix": [{"Before": "a", "After": "b", "Result": "keep"}]}}, 400, None),
    ({"config": {"ResolutionMatrix": [{"Before": "a", "After": "b", "Result": "take-both-keep-order"},
                                      {"Before": "b", "After": "a", "Result": "take-both-keep-order"}]}}, (400, 422), None),
    ({"files": [{"name": "a", "content_base64": "###"}]}, 400, None),
    ({"files": [{"name": f"f{i}", "content_base64": ""} for i in range(65)]}, (400, 413), "64"),
    ({"unknown_field": 1}, 400, "unknown_field"),
])
def test_fields(bed, change, status, words):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = bed.http("Nantes", "POST", "/v1/operations", json=body)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    sentence = answer.json()["error"]
    assert sentence and "\n" not in sentence
    assert words is None or words in sentence, sentence


@pytest.mark.parametrize("body,content_type,status", [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"[" * 100000, "application/json", 400),
    (b'{"resource":"a","resource":"b"}', "application/json", 400),
    (b" " * (3 << 20), "application/json", 413),
    (b"{}", "text/plain", 415),
    (b"resource=x", "application/x-www-form-urlencoded", 415),
    (b"--x\r\n", "multipart/form-data", 415),
])
def test_bodies(bed, body, content_type, status):
    answer = bed.http("Nantes", "POST", "/v1/operations", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [
    b"", b"no boundary at all", b"--B\r\n", b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
    b"--B\r\nContent-Disposition: form-data; name=\"command\"\r\n\r\ntrue", b"--B" * 50000,
    b"--B\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--B--\r\n"], ids=range(7))
def test_broken_forms(bed, body):
    answer = bed.http("Nantes", "POST", "/exec/broken", data=body,
                      headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert answer.status_code in (400, 413) and answer.json()["error"], answer.text


@pytest.mark.parametrize("method,path,status", [
    ("GET", "/nothing", 404), ("DELETE", "/v1/operations", 405), ("GET", "/v1/operations/not-a-uuid", 400),
    ("GET", "/v1/operations/00000000-0000-7000-8000-000000000000", 404), ("GET", "/v1/resources/nobody", 404),
    ("GET", "/v1/operations?limit=x", 400), ("GET", "/v1/events?after=-1", 400), ("GET", "/v1/dead/zzz", 404),
    ("GET", "/v1/resources?no=such", 400), ("POST", "/v1/operations?wait=maybe", 400)])
def test_paths(bed, method, path, status):
    answer = bed.http("Nantes", method, path, json={} if method == "POST" else None)
    assert answer.status_code == status and answer.json()["error"], answer.text


def test_no_token(bed):
    host, port = bed.address("Nantes")
    base = f"http://{host}:{port}"
    for path in ("/v1/operations", "/metrics", "/v1/status", "/nothing"):
        answer = requests.get(base + path, timeout=10)
        assert answer.status_code == 401 and "WWW-Authenticate" in answer.headers, path
    assert requests.post(base + "/exec/x", files={"command": (None, "true")}, timeout=10).status_code == 401
    for authorization in ("Bearer wrong", "Basic !!!", "Basic " + base64.b64encode(b"demo:wrong").decode(), "Other x", ""):
        answer = requests.get(base + "/v1/status", headers={"Authorization": authorization}, timeout=10)
        assert answer.status_code == 401, authorization


def test_bearer_token(bed):
    host, port = bed.address("Nantes")
    token = bed.url("Nantes").split("@")[0].rpartition(":")[2]
    answer = requests.get(f"http://{host}:{port}/v1/status", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"},
                                     {"Host": "evil.example:80"}])
def test_foreign_pages_are_refused(bed, headers):
    for method, path in (("GET", "/v1/status"), ("POST", "/exec/x")):
        answer = bed.http("Nantes", method, path, headers=headers)
        assert answer.status_code in (400, 403, 421), (method, answer.text)
        assert answer.json()["error"]


@pytest.mark.parametrize("text", [
    b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/operations HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/operations HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"\x00" * 100,
    b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 20000 + b"\r\n",
    b"POST /v1/operations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZZ\r\n"])
def test_not_even_http(bed, text):
    with socket.create_connection(bed.address("Nantes"), timeout=10) as connection:
        try:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except OSError:
            answer = b""
        assert answer == b"" or answer.split(b" ")[1][:1] in (b"4", b"5"), answer[:200]


@pytest.mark.parametrize("arguments,exit_code,words", [
    (("exec", "--id", "x", "--", "true"), 2, "type"),
    (("exec", "--type", "set", "--", "true"), 2, "id"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nantes &", "--", "true"), 3, "character"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nants", "--", "true"), 3, "Nantes"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nantes", "--file", "a=/no/such/file", "--", "true"), 2, "/no/such/file"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nantes", "--file", "../x=/etc/hostname", "--", "true"), (2, 3), "name"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nantes", "--timeout", "soon", "--", "true"), 2, "timeout"),
    (("exec", "--id", "x", "--type", "set", "--scope", "Nantes"), 2, None),
    (("exce", "--id", "x"), 2, "exec"),
    (("op", "show", "nonsense"), (2, 3), None),
    (("op", "show", "00000000-0000-7000-8000-000000000000"), 3, None),
    (("resource", "show", "nobody"), 3, "nobody"),
    (("events", "--after", "x"), 2, "after"),
    (("dead", "drop", "0123456789abcdef"), 3, None),
    (("http", "--id", "x", "--type", "set", "--scope", "Nantes", "PUT", "inventory/items/1", "--data", "@/no/such"), 2, "/no/such"),
])
def test_command_line(bed, arguments, exit_code, words):
    result = bed.cli(*arguments)
    assert result.exit_code in (exit_code if isinstance(exit_code, tuple) else (exit_code,)), result
    assert result.err.startswith("cheops: ") and result.out == "", result
    assert words is None or words in result.err, result


def test_wrong_token_on_the_command_line(bed):
    host, port = bed.address("Nantes")
    result = bed.cli("op", "list", environment={"CHEOPS_API_NANTES": f"http://demo:wrong-wrong-wrong-wrong@{host}:{port}"})
    assert result.exit_code == 3 and "wrong-wrong" not in result.err, result


@pytest.mark.parametrize("command,state,words", [
    (("no-such-command-anywhere",), "failed", "no-such-command-anywhere"),
    (("sh", "-c", "exit 137"), "failed", None),
    (("sh", "-c", "kill -KILL $$"), "failed", None),
    (("/",), "failed", None)])
def test_commands_that_fail(bed, rid, command, state, words):
    result = bed.run(rid, *command, scope="Nantes & Rennes")
    assert result.exit_code == 1
    for line in result.sites.values():
        assert line["state"] == state and line["reason"]
        assert words is None or words in line["reason"] + line["output"]
    if "137" in command[-1] or "KILL" in command[-1]:
        assert {line["exit_code"] for line in result.sites.values()} == {137}
    assert bed.run(rid, "true", scope=None).exit_code == 0, "one failure never marks another operation"


def test_hanging_command_ends_with_its_whole_group(bed, rid, shared):
    script = f"sh -c 'echo $$ > {shared}/$CHEOPS_SITE; exec sleep 600' & trap '' TERM; sleep 600"
    result = bed.run(rid, "sh", "-c", script, scope="Nantes & Paris", options=("--deadline", "1s"), seconds=40)
    assert result.exit_code == 1
    for site in ("Nantes", "Paris"):
        assert result.sites[site]["state"] == "failed" and "timed out" in result.sites[site]["reason"], result
        child = int((shared / site).read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_children_left_behind_are_ended(bed, rid, shared):
    result = bed.run_ok(rid, "sh", "-c", f"sleep 600 & echo $! > {shared}/pid; echo done", scope="Nantes", seconds=30)
    assert result.sites["Nantes"]["output"] == "done\n"

    def gone():
        try:
            with open(f"/proc/{(shared / 'pid').read_text().strip()}/stat", encoding="utf-8") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return not os.path.exists(f"/proc/{(shared / 'pid').read_text().strip()}")
    wait_until(gone, what="the child is ended")


def test_flood_of_output_is_cut_and_marked(bed, rid):
    before = bed.rss_kib("Nantes")
    result = bed.run_ok(rid, "sh", "-c", "yes | head -c 30000000", scope="Nantes & Rennes")
    for line in result.sites.values():
        assert line["output_cut"] is True and len(line["output"]) <= 65536
    assert bed.rss_kib("Nantes") - before < 8192


def test_output_that_is_not_text(bed, rid):
    line = bed.run_ok(rid, "printf", r"a\377\000b", scope="Nantes").sites["Nantes"]
    assert base64.b64decode(line["output_base64"]) == b"a\xff\0b"


def test_scope_of_everybody_is_still_fine(bed, rid):
    assert bed.run(rid, "true", scope=ALL).exit_code == 0
