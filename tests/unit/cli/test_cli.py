# SPDX-License-Identifier: AGPL-3.0-only
"""`cheops` as a program: what it sends, prints and exits with, against a double of the agent's API."""
import base64
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import jsonschema
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from api_double import OPERATION, Api, result  # noqa: E402

CHEOPS = os.environ["CHEOPS"]
SOURCE = os.path.join(os.path.dirname(__file__), "..", "..", "..")
EXEC = ["exec", "--id", "greeting", "--type", "set", "--scope", "Nantes & Paris & Rennes"]


OPENAPI = json.load(open(os.path.join(SOURCE, "schema", "openapi.json")))


def conforms(value, name):
    jsonschema.Draft202012Validator(dict(OPENAPI, **{"$ref": f"#/components/schemas/{name}"})).validate(value)


def check_request(request):
    """What the client asks must be in the API's description."""
    for template, calls in OPENAPI["paths"].items():
        call = calls.get(request.method.lower())
        if call and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), request.path):
            known = {p["name"] for p in (OPENAPI["components"]["parameters"][p["$ref"].split("/")[-1]] if "$ref" in p
                                         else p for p in call.get("parameters", []))}
            assert set(request.query) <= known, (template, request.query)
            body = call.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                conforms(request.json, body["schema"]["$ref"].split("/")[-1])
            return
    raise AssertionError(f"{request.method} {request.path} is not in the API's description")


@pytest.fixture
def api():
    double = Api()
    yield double
    double.close()
    for request in double.requests:
        check_request(request)


def test_the_double_speaks_as_the_agent_does(api):
    conforms(api.accepted(), "Accepted")
    conforms(dict(result("Nantes"), answered=1, members=3), "ResultLine")
    conforms(dict(result("Nantes", "failed", reason="x"), answered=1, members=3), "ResultLine")
    conforms(api.completed([result("Nantes"), result("Paris", "failed")]), "CompletedLine")


@pytest.fixture
def env(api, tmp_path):
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CHEOPS_API": api.url, "TERM": "xterm",
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}


def run(env, *args, data=None, timeout=20):
    return subprocess.run([CHEOPS, *args], env=env, input=data, capture_output=True, timeout=timeout,
                          stdin=subprocess.DEVNULL if data is None else None)


def ok(env, *args, **more):
    done = run(env, *args, **more)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout.decode()


def fails(code, env, *args, **more):
    done = run(env, *args, **more)
    assert done.returncode == code, done.stdout.decode() + done.stderr.decode()
    assert done.stderr.startswith(b"cheops: ")
    return done.stderr.decode()


# ---- exec ----

def test_exec_prints_one_line_per_answer(api, env):
    api.script = [(0, result("Nantes", elapsed_ms=4)), (0, result("Paris", elapsed_ms=11)),
                  (0, result("Rennes", elapsed_ms=12))]
    assert ok(env, *EXEC, "--", "sh", "-c", "echo hello > /tmp/$X {f}") == (
        "[1/3] Nantes  done   4 ms\n[2/3] Paris   done  11 ms\n[3/3] Rennes  done  12 ms\n")
    [request] = api.asked("POST", "/v1/operations")
    assert request.json == {"resource": "greeting", "type": "set", "scope": "Nantes & Paris & Rennes",
                            "command": ["sh", "-c", "echo hello > /tmp/$X {f}"]}
    assert request.query == {"wait": "true", "progress": "true", "timeout_ms": "60000"}
    assert len(request.headers["Idempotency-Key"]) == 36


def test_exec_lines_come_as_sites_answer(api, env):
    api.script = [(0, result("Paris")), (1.5, result("Nantes")), (0, result("Rennes"))]
    start = time.monotonic()
    child = subprocess.Popen([CHEOPS, *EXEC, "--", "true"], env=env, stdout=subprocess.PIPE)
    assert child.stdout.readline().startswith(b"[1/3] Paris ")
    assert time.monotonic() - start < 1.4
    assert child.wait(10) == 0
    child.stdout.close()


def test_exec_json_prints_result_lines(api, env):
    api.script.insert(0, (0, result("Nantes", "running")))
    lines = [json.loads(line) for line in ok(env, *EXEC, "-o", "json", "--", "true").splitlines()]
    assert lines == [result("Nantes"), result("Paris"), result("Rennes")]


def test_exec_failure_names_exit_reason_and_site(api, env):
    api.script = [(0, result("Nantes", output="a\nb\n")),
                  (0, result("Paris", "failed", exit_code=3, reason="no such\nfile", output="oops")),
                  (0, result("Rennes", "refused", reason="not allowed", output_cut=True, output="x"))]
    done = run(env, *EXEC, "--", "true")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "[1/3] Nantes  done   4 ms", "    a", "    b",
        "[2/3] Paris   failed 4 ms exit 3: no such\\nfile", "    oops",
        "[3/3] Rennes  refused 4 ms not allowed", "    x", "    … the site cut the output here"]
    assert f"not done on Paris and Rennes; see: cheops op show {OPERATION}" in done.stderr.decode()


@pytest.mark.parametrize("reason, shown", [
    ("exited with status 3", "exit 3"), ("exited with status 3; output cut", "exit 3: output cut"),
    ("exited with status 31", "exit 3: exited with status 31"), ("timed out", "exit 3: timed out"), ("", "exit 3")])
def test_the_exit_code_is_said_once(api, env, reason, shown):
    api.members = ["Nantes"]
    api.script = [(0, result("Nantes", "failed", exit_code=3, reason=reason))]
    assert run(env, *EXEC, "--", "true").stdout.decode() == f"[1/1] Nantes  failed 4 ms {shown}\n"


def test_exec_all_options(api, env, tmp_path):
    (tmp_path / "m.json").write_text('{"ResolutionMatrix": []}')
    ok(env, *EXEC, "--level", "none", "--config", str(tmp_path / "m.json"), "--deadline", "5m", "--timeout=1500ms",
       "--key", "k1", "--", "ls", "--", "-la")
    [request] = api.asked("POST", "/v1/operations")
    assert request.json["level"] == "none" and request.json["timeout_ms"] == 300000
    assert request.json["config"] == {"ResolutionMatrix": []}
    assert request.json["command"] == ["ls", "--", "-la"]
    assert request.query["timeout_ms"] == "1500" and request.headers["Idempotency-Key"] == "k1"


def test_exec_no_wait_prints_the_id(api, env):
    assert ok(env, *EXEC, "--no-wait", "--", "true") == OPERATION + "\n"
    assert json.loads(ok(env, *EXEC, "--no-wait", "-o", "json", "--", "true"))["members"] == api.members
    assert "wait" not in api.requests[0].query


def test_exec_warning_goes_to_stderr(api, env):
    api.warning = "the matrix does not decide yet"
    for more in ([], ["--no-wait"]):
        done = run(env, *EXEC, *more, "--", "true")
        assert (done.returncode, done.stderr) == (0, b"cheops: warning: the matrix does not decide yet\n")


def test_exec_says_that_its_key_was_used(api, env):
    api.duplicate = True
    assert ok(env, *EXEC, "--no-wait", "--", "true") == OPERATION + "\n"
    done = run(env, *EXEC, "--key", "k", "--", "true")
    assert done.returncode == 0 and b"key was used before" in done.stderr


def catches(pid, number):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        mask = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return int(mask, 16) >> (number - 1) & 1


def test_interrupt_while_standard_input_is_read(env):
    child = subprocess.Popen([CHEOPS, *EXEC, "--file", "f=-", "--", "true"], env=env, stdin=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not catches(child.pid, signal.SIGINT):  # until then it would be killed
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # it reads now, or is about to
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    child.communicate()


def test_exec_timeout(api, env):
    api.script = [(0, result("Nantes")), (0.1, {"operation": OPERATION, "timeout": True, "waiting": ["Paris", "Rennes"]})]
    text = fails(4, env, *EXEC, "--timeout", "1s", "--", "true")
    assert "waiting for Paris and Rennes" in text and f"cheops op watch {OPERATION}" in text


def test_exec_timeout_of_an_agent_that_hangs(api, env):
    api.script = [(0, "hold")]
    assert "goes on" in fails(4, env, *EXEC, "--timeout", "100ms", "--", "true")


def test_exec_in_doubt_is_a_failure_and_not_a_timeout(api, env):
    api.script = [(0, result("Nantes")), (0, result("Paris")), (0, result("Rennes", "in-doubt", reason="machine crashed")),
                  (0, {"operation": OPERATION, "timeout": True, "waiting": ["Rennes"]})]
    assert "not done on Rennes" in fails(1, env, *EXEC, "--", "true")


def test_exec_interrupted_says_that_it_goes_on(api, env):
    api.script = [(0, result("Nantes")), (0, "hold")]
    child = subprocess.Popen([CHEOPS, *EXEC, "--", "true"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, text = child.communicate(timeout=5)
    assert child.returncode == 130
    assert f"the operation goes on, watch it with: cheops op watch {OPERATION}" in text.decode()


def test_exec_survives_a_cut_answer(api, env):
    api.script = [(0, result("Nantes")), (0, "cut")]
    api.watch_script = [(0, result("Nantes")), (0, result("Rennes")), (0, result("Paris"))]
    lines = ok(env, *EXEC, "--", "true").splitlines()
    assert [line.split()[1] for line in lines] == ["Nantes", "Rennes", "Paris"]
    assert len(api.asked("POST", "/v1/operations")) == 1


def test_exec_says_what_is_missing(env):
    text = fails(2, env, "exec")
    assert "--id" in text and "--type" in text and "-- COMMAND" in text


@pytest.mark.parametrize("args, says", [
    (["exec", "--id", "a", "--type", "t", "ls"], "put -- before the command"),
    (["exec", "--id", "a", "--type", "t", "ls", "-la"], "put -- before the command to run: cheops exec … -- ls -la"),
    (["exec", "--idd", "a"], "did you mean --id?"),
    (["exec", "--id"], "--id needs a value"),
    (["exec", "--id", "a", "--id", "b"], "--id was given twice"),
    (["exec", "--follow", "--", "a"], "has no option --follow"),
    (["exec", "--id", "a", "--type", "t", "--timeout", "5h", "--", "x"], "whole number with ms, s or m"),
    (["exec", "--id", "a", "--type", "t", "--timeout", "0s", "--", "x"], "from 1ms"),
    (["exec", "--id", "a", "--type", "t", "--level", "weak", "--", "x"], "none, eventual, transactional or strong"),
    (["exec", "--id", "a", "--type", "t", "--wait", "--no-wait", "--", "x"], "not both"),
    (["exec", "--id", "", "--type", "t", "--", "x"], "cheops: "),
    (["exec", "--id", "a", "--type", "t", "--file", "x", "--", "x"], "NAME=PATH"),
    (["exec", "--id", "a", "--type", "t", "--file", "../x=/etc/passwd", "--", "x"], "file"),
    (["exec", "--id", "a", "--type", "t", "--file", "/x=/etc/passwd", "--", "x"], "file"),
    (["exec", "--id", "a", "--type", "t", "--file", "x=/no/such", "--", "x"], "cannot read /no/such: No such file"),
    (["exec", "--id", "a", "--type", "t", "--file", "x=/etc", "--", "x"], "/etc is a directory"),
    (["exec", "--id", "a", "--type", "t", "--file", "x=/etc/passwd", "--file", "x=/etc/group", "--", "x"], "twice"),
    (["exec", "--id", "a", "--type", "t", "--config", "/etc/passwd", "--", "x"], "is not JSON"),
    (["exec", "--id", "a", "--type", "t", "-o", "yaml", "--", "x"], "text or json"),
    (["exec", "--id", "a", "--type", "t", "--", b"\xff"], "word 1 of the command is not valid UTF-8"),
    (["exce"], "did you mean exec?"),
    (["op"], "show, list, watch"),
    (["op", "wach"], "did you mean watch?"),
    (["op", "show"], "needs ID"),
    (["op", "list", "extra"], "does not take 'extra'"),
    (["op", "list", "--limit", "x"], "whole number"),
    ([], "say what to do"),
    (["--site", "A", "--api", "http://x", "op", "list"], "not both"),
    (["http", "--id", "a", "--type", "t", "PUT"], "needs METHOD SERVICE/PATH"),
    (["http", "--id", "a", "--type", "t", "P-T", "a/b"], "not an HTTP method"),
    (["http", "--id", "a", "--type", "t", "PUT", "/b"], "service/path"),
    (["http", "--id", "a", "--type", "t", "PUT", "http://x/b"], "service/path"),
    (["http", "--id", "a", "--type", "t", "-H", "nope", "PUT", "a/b"], "'Name: value'"),
    (["http", "--id", "a", "--type", "t", "-H", "A: b\r\nC: d", "PUT", "a/b"], "'Name: value'"),
    (["http", "--id", "a", "--type", "t", "--data", "@/no/such", "PUT", "a/b"], "cannot read /no/such"),
    (["show", "--", "x"], "--id"),
    (["show", "--id", "a"], "say what to show"),
    (["show", "--id", "a", "--http", "GET"], "say what to show"),
    (["show", "--id", "a", "--http", "GET", "a/b", "--", "x"], "say what to show"),
    (["completion", "zsh"], "bash only"),
    (["help", "nothing"], "no command 'nothing'"),
])
def test_usage_errors(api, env, args, says):
    assert says in fails(2, env, *args)
    assert api.requests == []


# ---- files ----

def test_small_files_go_inline_and_large_ones_as_blobs(api, env, tmp_path):
    small, middle, large = os.urandom(1000), os.urandom(60 * 1024), os.urandom(3 << 20)
    for name, content in (("s", small), ("m", middle), ("l", large)):
        (tmp_path / name).write_bytes(content)
    ok(env, *EXEC, "--file", f"s.bin={tmp_path}/s", "--file", f"l.bin={tmp_path}/l", "--file", f"m1={tmp_path}/m",
       "--file", f"m2={tmp_path}/m", "--file", f"m3={tmp_path}/m", "--file", "empty=/dev/null", "--", "cat", "{s.bin}")
    [request] = api.asked("POST", "/v1/operations")
    digest = hashlib.sha256(large).hexdigest()
    encoded = base64.b64encode(middle).decode()
    assert request.json["files"] == [
        {"name": "s.bin", "content_base64": base64.b64encode(small).decode()}, {"name": "l.bin", "sha256": digest},
        {"name": "m1", "content_base64": encoded}, {"name": "m2", "content_base64": encoded},
        {"name": "m3", "sha256": hashlib.sha256(middle).hexdigest()}, {"name": "empty", "content_base64": ""}]
    assert api.blobs[digest] == large
    assert api.requests[0].headers["Content-Type"] == "application/octet-stream"


def test_a_file_may_come_from_a_pipe(api, env):
    ok(env, *EXEC, "--file", "in=-", "--", "true", data=b"x" * 70000)
    assert list(api.blobs.values()) == [b"x" * 70000]


def test_upload_that_is_refused_sends_no_operation(api, env, tmp_path):
    (tmp_path / "l").write_bytes(b"x" * (1 << 20))
    api.failures = [(413, {"error": "the file is over 1 KiB", "code": "too big"}, [])]
    assert "over 1 KiB" in fails(3, env, *EXEC, "--file", f"l={tmp_path}/l", "--", "true")
    assert api.asked("POST", "/v1/operations") == []


def test_upload_is_tried_again_from_its_beginning(api, env, tmp_path):
    content = os.urandom(1 << 20)
    (tmp_path / "l").write_bytes(content)
    api.failures = [(503, {"error": "not now", "code": "unavailable"}, [])]
    ok(env, *EXEC, "--file", f"l={tmp_path}/l", "--", "true")
    assert list(api.blobs.values()) == [content]


# ---- http ----

def test_http(api, env, tmp_path):
    (tmp_path / "item.json").write_text('{"name": "é"}')
    args = ["http", "--id", "item-7", "--type", "set", "--scope", "Nantes & Rennes", "put", "inventory/items/7?x=1"]
    ok(env, *args, "--data", f"@{tmp_path}/item.json", "-H", "X-A: 1", "-HX-B:2")
    ok(env, *args, "-d", "-", "-H", "content-type: text/plain", data=b"text")
    ok(env, *args)
    ok(env, *args, "-d", "-", data=b"\xff\xfe")
    ok(env, *args, "-d", "-", data=b"y" * 100000)
    first, second, third, fourth, fifth = [r.json for r in api.asked("POST", "/v1/operations")]
    assert first["http"] == {"method": "PUT", "service": "inventory", "path": "items/7?x=1", "body": '{"name": "é"}',
                             "headers": {"X-A": "1", "X-B": "2", "Content-Type": "application/json"}}
    assert second["http"]["headers"] == {"content-type": "text/plain"} and second["http"]["body"] == "text"
    assert "body" not in third["http"] and third["http"]["headers"] == {}
    assert fourth["http"]["body_file"] == "body"
    assert fourth["files"] == [{"name": "body", "content_base64": "//4="}]
    assert fifth["files"] == [{"name": "body", "sha256": hashlib.sha256(b"y" * 100000).hexdigest()}]


def test_undo(api, env):
    ok(env, *EXEC, "--undo", "sed -i '$ d' {note}", "--", "true")
    rest = ["http", "--id", "item-7", "--type", "set"]
    ok(env, *rest, "--undo", "delete inventory/items/7", "-H", "X-A: 1", "-H", "Content-Type: text/plain", "-d", "x",
       "PUT", "inventory/items/7")
    first, second = [r.json for r in api.asked("POST", "/v1/operations")]
    assert first["command"] == ["true"] and first["undo"] == {"command": ["sed", "-i", "$ d", "{note}"]}
    assert second["undo"] == {"http": {"method": "DELETE", "service": "inventory", "path": "items/7", "headers": {"X-A": "1"}}}
    assert second["http"]["headers"] == {"X-A": "1", "Content-Type": "text/plain"}
    assert "character 5: no shell runs it" in fails(2, env, *EXEC, "--undo", "rm a; ls", "--", "true")
    assert "takes 'METHOD service/path', not 'DELETE'" in fails(2, env, *rest, "--undo", "DELETE", "PUT", "a/b")
    assert "'%' is not an HTTP method" in fails(2, env, *rest, "--undo", "% a/b", "PUT", "a/b")
    assert len(api.asked("POST", "/v1/operations")) == 2


def test_http_failure_shows_the_status(api, env):
    api.members = ["Nantes"]
    api.script = [(0, result("Nantes", "failed", exit_code=404, reason="not found"))]
    done = run(env, "http", "--id", "a", "--type", "t", "PUT", "a/b")
    assert (done.returncode, done.stdout) == (1, b"[1/1] Nantes  failed 4 ms status 404: not found\n")


# ---- refusals, retries, tokens ----

def test_scope_error_has_a_caret(api, env):
    api.failures = [(400, {"error": "unknown site Nates at character 9; did you mean Nantes?", "code": "invalid"}, [])]
    text = fails(3, env, "exec", "--id", "a", "--type", "t", "--scope", '"Évr" & Nates', "--", "true")
    assert text.splitlines()[1:] == ['    "Évr" & Nates', "            ^"]


@pytest.mark.parametrize("status, code", [(400, 3), (403, 3), (404, 3), (409, 3), (422, 3), (500, 6), (504, 4)])
def test_refusals(api, env, status, code):
    api.failures = [(status, {"error": "it says why", "code": "x"}, [])]
    assert fails(code, env, *EXEC, "--", "true") == "cheops: it says why\n"
    assert len(api.requests) == 1


def test_unavailable_is_tried_again_with_the_same_key(api, env):
    api.failures = [(503, {"error": "no database", "code": "unavailable"}, []), "close"]
    ok(env, *EXEC, "--", "true")
    assert len(api.requests) == 3
    assert len({r.headers["Idempotency-Key"] for r in api.requests}) == 1


def test_unavailable_for_good(api, env):
    api.failures = [(503, {"error": "no database", "code": "unavailable"}, [])] * 3
    assert "no database" in fails(6, env, *EXEC, "--", "true")
    assert len(api.requests) == 3


def test_retry_after_is_honoured(api, env):
    api.failures = [(429, {"error": "busy", "code": "busy"}, [("Retry-After", "1")])]
    start = time.monotonic()
    ok(env, *EXEC, "--", "true")
    assert 1 <= time.monotonic() - start < 4


def test_a_requeue_that_broke_is_not_repeated(api, env):
    api.failures = ["close"]
    fails(5, env, "dead", "requeue", "d1")
    assert len(api.requests) == 1


def test_unreachable(env):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    env["CHEOPS_API"] = f"http://cheops:sesame-sesame@127.0.0.1:{port}"
    text = fails(5, env, *EXEC, "--", "true")
    assert f"http://127.0.0.1:{port} (Connection refused)" in text and "sesame" not in text
    assert "unix:/no/such.sock" in fails(5, env, "--api", "unix:/no/such.sock", "op", "list")


def test_an_agent_that_starts_late_is_found(env):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    late = []
    timer = threading.Timer(0.15, lambda: late.append(Api(port)))
    timer.start()
    ok(dict(env, CHEOPS_API=f"http://127.0.0.1:{port}"), *EXEC, "--", "true")
    timer.join()
    late[0].close()


def test_not_an_agent(api, env):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def babble():
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            connection.close()
        thread = threading.Thread(target=babble)
        thread.start()
        text = fails(5, env, "--api", f"http://127.0.0.1:{listener.getsockname()[1]}", "op", "list")
        thread.join()
    assert "not an agent" in text


def test_token_places_and_their_order(api, env, tmp_path):
    api.token = "token-of-the-url"
    api.answers["/v1/operations"] = (200, {"operations": []})
    config = tmp_path / ".config" / "cheops"
    config.mkdir(parents=True)
    text = fails(3, env, "op", "list")
    assert "a token is needed" in text and "CHEOPS_TOKEN" in text
    ok(dict(env, CHEOPS_TOKEN="wrong", CHEOPS_API=api.url.replace("//", "//cheops:token-of-the-url@")), "op", "list")
    ok(dict(env, CHEOPS_TOKEN="token-of-the-url", CHEOPS_TOKEN_FILE="/no/such"), "op", "list")
    other = tmp_path / "other"
    other.write_text("# agent's own form\ncheops:token-of-the-url\n")
    other.chmod(0o600)
    (config / "token").write_text("wrong\n")
    (config / "token").chmod(0o600)
    ok(dict(env, CHEOPS_TOKEN_FILE=str(other)), "op", "list")
    (config / "token").write_text("token-of-the-url\n")
    ok(env, "op", "list")
    (config / "token").chmod(0o644)
    text = fails(2, env, "op", "list")
    assert "chmod 600" in text and "token-of-the-url" not in text
    assert "cannot read /no/such" in fails(2, dict(env, CHEOPS_TOKEN_FILE="/no/such"), "op", "list")
    assert "not printable" in fails(2, dict(env, CHEOPS_TOKEN="a\r\nb"), "op", "list")


def test_site_chooses_the_agent(api, env, tmp_path):
    api.answers["/v1/operations"] = (200, {"operations": []})
    env = dict(env, CHEOPS_API="http://127.0.0.1:1")
    ok(dict(env, CHEOPS_API_SAINT_MALO=api.url), "--site", "Saint-Malo", "op", "list")
    text = fails(2, env, "--site", "Saint-Malo", "op", "list")
    assert "CHEOPS_API_SAINT_MALO" in text and ".config/cheops/sites" in text
    config = tmp_path / ".config" / "cheops"
    config.mkdir(parents=True)
    (config / "sites").write_text(f"# mine\nParis http://127.0.0.1:1\nSaint-Malo  {api.url}\n")
    ok(env, "op", "list", "--site", "Saint-Malo")
    (config / "sites").write_text(f"Saint-Malo {api.url.replace('//', '//u:t@')}\n")
    (config / "sites").chmod(0o644)
    assert "chmod 600" in fails(2, env, "op", "list", "--site", "Saint-Malo")


def test_unix_socket_and_proxies(api, env, tmp_path):
    double = Api(path=str(tmp_path / "agent.sock"))
    double.answers["/v1/operations"] = (200, {"operations": []})
    ok(env, "--api", double.url, "op", "list")
    double.close()
    api.answers["/v1/operations"] = (200, {"operations": []})
    ok(dict(env, http_proxy="http://127.0.0.1:1"), "op", "list")
    for bad in ("ftp://x", "unix:relative", "http://"):
        fails(2, env, "--api", bad, "op", "list")


# ---- show ----

def shown(**sites):
    return (200, {"resource": "r", "differ": True, "sites": sites})


def answer(output, state="done", **more):
    return dict({"state": state, "exit_code": 0, "output": output, "output_cut": False, "reason": None,
                 "duration_ms": 4}, **more)


def test_show_marks_the_site_that_differs(api, env):
    api.answers["/v1/resources/a%2Fb/show"] = shown(Nantes=answer("x\ny\n"), Paris=answer("z\n"), Rennes=answer("x\ny\n"))
    assert ok(env, "show", "--id", "a/b", "--timeout", "2s", "--", "cat", "f") == (
        "Nantes  done 4 ms\n    x\n    y\nParis  done 4 ms  differs\n    z\nRennes  done 4 ms\n    x\n    y\n")
    assert api.requests[0].json == {"command": ["cat", "f"], "timeout_ms": 2000}
    assert json.loads(ok(env, "show", "-o", "json", "--id", "a/b", "--", "x"))["differ"] is True


def test_show_without_a_majority_marks_all(api, env):
    api.answers["/v1/resources/r/show"] = shown(Nantes=answer("x\n"), Paris=answer("z\n"))
    assert ok(env, "show", "--id", "r", "--", "x").count("differs") == 2
    api.answers["/v1/resources/r/show"] = shown(Nantes=answer("x\n"), Paris=answer("x\n"))
    assert "differs" not in ok(env, "show", "--id", "r", "--", "x")


def test_show_names_who_did_not_answer_and_who_failed(api, env):
    silent = {"state": "timeout", "exit_code": None, "output": None, "reason": None}
    api.answers["/v1/resources/r/show"] = shown(Nantes=answer("x\n"), Paris=silent)
    done = run(env, "show", "--id", "r", "--", "x")
    assert done.returncode == 4 and b"no answer from Paris" in done.stderr and b"Paris  no answer\n" in done.stdout
    assert run(env, "show", "-o", "json", "--id", "r", "--", "x").returncode == 4
    api.answers["/v1/resources/r/show"] = shown(Nantes=answer("", "failed", exit_code=2, reason="bad"), Paris=silent)
    done = run(env, "show", "--id", "r", "--http", "GET", "inventory/x")
    assert done.returncode == 1 and b"Nantes  failed 4 ms status 2: bad" in done.stdout
    assert api.requests[-1].json["http"] == {"method": "GET", "service": "inventory", "path": "x", "headers": {}}


# ---- reading ----

OPERATION_JSON = {
    "id": OPERATION, "resource": "greeting", "type": "set", "level": "eventual", "scope": "Nantes & Paris",
    "origin": "Nantes", "principal": "cheops", "driver": "shell", "summary": "sh -c 'echo é'",
    "files": [{"name": "a.bin", "sha256": "00", "size": 20 << 20}], "entered_at": "2026-11-24T03:32:03.123Z",
    "completed": True, "state": "done", "members": ["Nantes", "Paris"],
    "stamp": {"ms": 1700000000000, "counter": 0}, "clock_suspect": False,
    "sites": [result("Nantes", output="hello\n", elapsed_ms=9), result("Paris", unverified=True)]}
SUSPECT_JSON = dict(OPERATION_JSON, stamp={"ms": 1827057600007, "counter": 3}, clock_suspect=True)


def test_op_show(api, env):
    api.answers[f"/v1/operations/{OPERATION}"] = (200, OPERATION_JSON)
    text = ok(env, "op", "show", OPERATION)
    assert re.search(r"^does +sh -c 'echo é'$", text, re.M) and re.search(r"^files +a.bin 20 MiB$", text, re.M)
    assert re.search(r"^entered +2026-11-24T03:32:03.123Z$", text, re.M)
    assert re.search(r"^Paris +done, unverified +0 +3 ms +2026\S+ +-$", text, re.M)
    assert text.endswith("\nNantes:\n    hello\n")
    assert json.loads(ok(env, "op", "show", "-o", "json", OPERATION)) == OPERATION_JSON
    assert "there is no /v1/operations/x" in fails(3, env, "op", "show", "x")
    assert "clock" not in text
    api.answers[f"/v1/operations/{OPERATION}"] = (200, SUSPECT_JSON)
    suspect = r"^clock +clock-suspect: its stamp, 2027-11-24T12:00:00.007Z, led the clock of the site that was asked"
    assert re.search(suspect, ok(env, "op", "show", OPERATION), re.M)


def test_op_list(api, env):
    api.answers["/v1/operations"] = (200, {"operations": [
        OPERATION_JSON, dict(OPERATION_JSON, id="2", resource="日本", summary="a\x1b[31m", type="longer")]})
    lines = ok(env, "op", "list", "--resource", "a&b", "--state", "done", "--before", "9", "--limit", "5").splitlines()
    assert api.requests[0].query == {"limit": "5", "resource": "a&b", "state": "done", "before": "9"}
    assert lines[0].split() == ["OPERATION", "RESOURCE", "TYPE", "STATE", "ORIGIN", "ENTERED", "DOES"]
    assert lines[0].index("TYPE") == lines[1].index("set") == lines[2].index("longer") + 2  # two wide characters
    assert lines[2].endswith("a\\x1b[31m")
    assert len(ok(env, "op", "list", "-o", "json").splitlines()) == 2
    api.answers["/v1/operations"] = (200, {"operations": [SUSPECT_JSON]})
    assert " done, clock-suspect " in ok(env, "op", "list")


def test_op_watch(api, env):
    api.answers[f"/v1/operations/{OPERATION}"] = (200, OPERATION_JSON)
    assert ok(env, "op", "watch", OPERATION).splitlines() == [
        "[1/2] Paris   done   4 ms unverified", "[2/2] Nantes  done   9 ms", "    hello"]
    running = dict(OPERATION_JSON, completed=False, state="running", sites=[result("Nantes"), result("Paris", "running")])
    api.answers[f"/v1/operations/{OPERATION}"] = (200, running)
    api.watch_script = [(0, result("Nantes")), (0.1, result("Paris", "failed", exit_code=1))]
    done = run(env, "op", "watch", OPERATION)
    assert done.returncode == 1 and done.stdout.decode().splitlines() == [
        "[1/2] Nantes  done   4 ms", "[2/2] Paris   failed 4 ms exit 1"]
    api.watch_script = [(0, "hold")]
    assert "waiting for Paris" in fails(4, env, "op", "watch", "--timeout", "200ms", OPERATION)


def resolve_path(operation):
    return f"/v1/operations/{operation}/resolve"


def test_op_resolve_one(api, env):
    api.answers[resolve_path(OPERATION)] = (200, {"operation": OPERATION, "site": "Rennes", "resolution": "done"})
    assert ok(env, "op", "resolve", OPERATION, "--site", "Rennes", "done") == f"{OPERATION} is resolved as done at Rennes\n"
    assert api.requests[-1].json == {"site": "Rennes", "resolution": "done"}
    assert api.requests[-1].query == {"timeout_ms": "30000"}
    assert ok(env, "op", "resolve", "--site=Rennes", "--timeout", "2s", OPERATION, "rerun") == (
        f"{OPERATION} runs again at Rennes\n")
    assert api.requests[-1].query == {"timeout_ms": "2000"}
    assert json.loads(ok(env, "op", "resolve", OPERATION, "failed", "--site", "Rennes", "-o", "json"))["site"] == "Rennes"
    for status, code in ((409, 3), (504, 4), (503, 6)):
        api.failures = [(status, {"error": "Rennes says why", "code": "x"}, ())] * 3
        assert "Rennes says why" in fails(code, env, "op", "resolve", OPERATION, "failed", "--site", "Rennes")
        api.failures = []


def test_op_resolve_asks_the_sites_own_agent_where_it_is_known(api, env, tmp_path):
    api.answers[resolve_path(OPERATION)] = (200, {})
    elsewhere = dict(env, CHEOPS_API="http://127.0.0.1:1", CHEOPS_API_RENNES=api.url)
    ok(elsewhere, "op", "resolve", OPERATION, "--site", "Rennes", "done")
    assert "127.0.0.1:1" in fails(5, elsewhere, "op", "resolve", OPERATION, "--site", "Paris", "done")
    ok(elsewhere, "op", "resolve", OPERATION, "--site", "Paris", "--api", api.url, "done")
    assert api.requests[-1].json["site"] == "Paris"
    assert "no agent is known for the site Paris" in fails(2, elsewhere, "--site", "Paris", "op", "list")


def test_op_resolve_wrong_uses(api, env):
    for args, said in ((["done"], "--site"), (["--site", "R", "done"], "name one operation"),
                       (["--site", "R", OPERATION, "lost"], "done, failed and rerun"),
                       (["--site", "R", "--all", OPERATION, "done"], "does not go together"),
                       (["--site", "R", "--resource", "r", OPERATION, "done"], "does not go together"),
                       (["--site", "R", OPERATION, "done", "--timeout", "soon"], "timeout")):
        assert said in fails(2, env, "op", "resolve", *args), args
    assert api.requests == []


def doubts(api, count):
    """Operations in doubt, in pages as the agent gives them."""
    ids = [f"0190a000-0000-7000-8000-{n:012d}" for n in range(count, 0, -1)]

    def listed(handler, request, *_):
        first = ids.index(request.query["before"]) + 1 if "before" in request.query else 0
        page = ids[first:first + int(request.query["limit"])]
        handler.send_json(200, {"operations": [dict(OPERATION_JSON, id=one) for one in page]})
    api.routes.insert(0, ("GET", "/v1/operations", listed))
    api.answers["/v1/status"] = (200, {"site": "Rennes"})
    for one in ids:
        api.answers[resolve_path(one)] = (200, {"operation": one, "site": "Rennes", "resolution": "done"})
    return ids[::-1]


def test_op_resolve_many(api, env):
    ids = doubts(api, 1203)
    api.answers[resolve_path(ids[7])] = (409, {"error": "it is done at Rennes", "code": "conflict"})
    done = run(env, "op", "resolve", "--all", "--site", "Rennes", "done")
    assert done.returncode == 3 and b"it is done at Rennes" in done.stderr
    assert done.stdout.decode() == "1202 of 1203 executions in doubt at Rennes are resolved as done\n"
    assert [r.path for r in api.asked("POST", ".*")] == [resolve_path(one) for one in ids]
    pages = api.asked("GET", "/v1/operations")
    assert len(pages) == 3 and {p.query["site"] for p in pages} == {"Rennes"}
    assert {p.query["state"] for p in pages} == {"in-doubt"} and "resource" not in pages[0].query


def test_op_resolve_a_resource(api, env):
    ids = doubts(api, 3)
    lines = ok(env, "op", "resolve", "--resource", "a&b", "--site", "Rennes", "rerun", "-o", "json").splitlines()
    assert [json.loads(line)["operation"] for line in lines] == ids
    assert api.asked("GET", "/v1/operations")[0].query["resource"] == "a&b"
    # It stops where there is no sense in going on, and says what was asked.
    api.answers["/v1/status"] = (200, {"site": "Nantes"})
    api.answers[resolve_path(ids[1])] = (504, {"error": "Rennes did not answer", "code": "timed out"})
    done = run(env, "op", "resolve", "--resource", "a", "--site", "Rennes", "failed")
    assert done.returncode == 4 and b"ask the agent of Rennes" in done.stderr
    assert done.stdout == b"1 of 3 executions in doubt at Rennes are resolved as failed\n"


def test_what_is_in_doubt_says_what_to_do(api, env):
    doubted = dict(OPERATION_JSON, state="in-doubt", sites=[result("Nantes"), result(
        "Paris", "in-doubt", reason="its runner is gone")])
    hint = f"cheops op resolve {OPERATION} --site Paris done|failed|rerun"
    api.answers[f"/v1/operations/{OPERATION}"] = (200, doubted)
    text = ok(env, "op", "show", OPERATION)
    assert "In doubt at Paris: its runner is gone." in text and hint in text
    api.answers["/v1/status"] = (200, {"site": "Paris"})
    api.answers["/v1/operations"] = (200, {"operations": [doubted]})
    api.answers["/v1/resources/greeting"] = (200, {"id": "greeting", "state": "in-doubt"})
    assert hint in ok(env, "resource", "show", "greeting")
    assert api.requests[-1].query == {"state": "in-doubt", "limit": "5", "site": "Paris", "resource": "greeting"}


@pytest.mark.parametrize("operation", [{}, [], 7, None, {"members": [1, None]}, {"members": 3, "sites": [1, {}]},
                                       {"sites": [{"site": "X", "state": 1}], "members": ["X"]}])
def test_answers_that_make_no_sense_do_no_harm(api, env, operation):
    """An agent of another release, or something else on its port."""
    for path in (f"/v1/operations/{OPERATION}", "/v1/operations", "/v1/resources", "/v1/resources/x", "/v1/sites",
                 "/v1/dead", "/v1/dead/x", "/v1/doctor", "/v1/scope/explain", "/v1/resources/x/show",
                 "/v1/resources/x/history", "/v1/resources/x/plan", "/v1/resources/x/diff"):
        api.answers[path] = (200, operation)
    api.watch_script = [(0, {"what": "ever"}), (0, {"completed": True})]
    for args in (["op", "show", OPERATION], ["op", "watch", "--timeout", "1s", OPERATION], ["op", "list"],
                 ["resource", "list"], ["resource", "show", "x"], ["site", "list"], ["dead", "list"],
                 ["dead", "show", "x"], ["doctor"], ["scope", "explain", "x"], ["show", "--id", "x", "--", "x"],
                 ["resource", "history", "x"], ["resource", "plan", "x", "--type", "t"], ["resource", "diff", "x"]):
        for form in ("text", "json"):
            assert run(env, "-o", form, *args).returncode in (0, 1, 4, 5), args


def test_resources(api, env):
    resource = {"id": "greeting", "level": "eventual", "scope": "Nantes & Paris", "members": ["Nantes", "Paris"],
                "config": {"ResolutionMatrix": []}, "config_version": 1, "created_at": "2026-11-24T03:32:03.123Z",
                "created_by": {"origin": "Nantes"}, "merged": False, "operations": 3, "last_operation": OPERATION,
                "state": "ready", "diverged": None}
    conforms(resource, "Resource")
    api.answers["/v1/resources"] = (200, {"resources": [resource]})
    api.answers["/v1/resources/greeting"] = (200, resource)
    assert re.search(r"^greeting +ready +eventual +3 +2026\S+ +Nantes +Nantes Paris$", ok(env, "resource", "list"), re.M)
    assert re.search(r'^matrix +{"ResolutionMatrix":\[\]}$', ok(env, "resource", "show", "greeting"), re.M)
    assert json.loads(ok(env, "-o", "json", "resource", "list")) == resource
    ok(env, "resource", "list", "--after", "x y", "--limit", "3")
    assert api.requests[-1].query == {"limit": "3", "after": "x y"}


def entry(number, **more):
    return dict({"place": number, "id": f"0190a000-0000-7000-8000-{number:012}", "type": "set", "origin": "Nantes",
                 "entered_at": "2026-11-24T03:32:03.123Z", "principal": "anna", "summary": "touch /tmp/a", "reason": None,
                 "state": "done", "run": 1, "applied": True, "undoing": False}, **more)


def test_history(api, env):
    why = "superseded by 0190a000-0000-7000-8000-000000000002 (take-one set/set)"
    operations = [entry(1), entry(2, run=3), entry(3, state=None, applied=False), entry(4, undoing=True),
                  entry(5, state="delivered", run=2, applied=False),
                  entry(6, place=None, state="superseded", reason=why),
                  entry(7, place=None, state="superseded", applied=False, reason=why),
                  entry(8, place=None, state="superseded", run=0, applied=False, reason="x\x1b[2J")]
    history = {"resource": "greeting", "site": "Nantes", "total": 12, "left_out": 4, "forgotten": 3,
               "operations": operations}
    conforms(history, "History")
    api.answers["/v1/resources/greeting/history"] = (200, history)
    done = run(env, "resource", "history", "greeting")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, api.requests[-1].query) == (0, {"limit": "200"})
    assert b"the oldest operations are left out, 4 of them" in done.stderr
    assert b"3 operations before these are forgotten" in done.stderr
    here = [re.split("  +", line.strip())[4] for line in lines if "anna" in line]
    assert here == ["done", "done, run 3", "-", "undoing", "runs again", "superseded, in effect", "undone", "superseded"]
    assert lines[lines.index(next(line for line in lines if "000000000006" in line)) + 1] == "    " + why
    assert lines[-1] == r"    x\x1b[2J"
    history.update(left_out=0, forgotten=0)
    assert [json.loads(line) for line in ok(env, "-o", "json", "resource", "history", "greeting").splitlines()] == operations
    ok(env, "resource", "history", "greeting", "--limit", "9")
    assert api.requests[-1].query == {"limit": "9"}


def plan_of(**more):
    return {"state": "done", "reason": None, "plan": dict(
        {"plan": "append", "now": "nothing", "why": None, "place": 3, "reason": None, "displaces": [], "displaces_count": 0,
         "undo": [], "undo_count": 0, "run": [{"operation": None, "type": "set", "new": True, "again": False}], "run_count": 1,
         "again": 0, "order_assumed": False}, **more)}


def test_plan(api, env):
    old = {"operation": OPERATION, "type": "add"}
    answer = {"resource": "greeting", "type": "set", "sites": {
        "Nantes": plan_of(displaces=[old] * 7, displaces_count=9),
        "Rennes": plan_of(plan="compensate", undo=[old], run=[dict(old, new=False, again=True)], undo_count=1, again=1, order_assumed=True),
        "Paris": plan_of(plan="diverged", why="operation x (add) ran here, can't be undone", place=None, reason="superseded by y"),
        "Brest": {"state": "refused", "plan": None, "reason": 'this site has no driver "cheops"'}}}
    conforms(answer, "PlanAnswer")
    api.answers["/v1/resources/greeting/plan"] = (200, answer)
    text = ok(env, "resource", "plan", "greeting", "--type", "set", "--undo", "rm a", "--", "touch", "a")
    assert api.requests[-1].json == {"type": "set", "command": ["touch", "a"], "undo": {"command": ["rm", "a"]},
                                     "timeout_ms": 20000}
    assert re.search(rf"^Nantes +append +3 +9 +0 +1 +0\n(    displaces {OPERATION} \(add\)\n){{5}}    \.\.\. 9 in all\n"
                     r"    runs the new one \(set\)$", text, re.M)
    assert f"    undoes {OPERATION} (add)\n    runs {OPERATION} (add) again\n    some stay in another order" in text
    assert re.search(r"^Paris +diverged +- .*\n    operation x .*undone\n    the new one: superseded by y$", text, re.M)
    assert re.search(r'^Brest +unknown( +-)+\n    this site has no driver "cheops"$', text, re.M)
    assert json.loads(ok(env, "-o", "json", "resource", "plan", "greeting", "--type", "set")) == answer
    answer["sites"]["Paris"] = {"state": "timeout", "plan": None, "reason": "the site did not answer in time"}
    assert fails(4, env, "resource", "plan", "greeting", "--type", "set") == "cheops: no answer from Paris\n"
    assert "lacks --type" in fails(2, env, "resource", "plan", "greeting")
    assert "goes with a command" in fails(2, env, "resource", "plan", "greeting", "--type", "set", "--undo", "x")


def knows(**more):
    return {"state": "done", "reason": None, "knows": dict(
        {"level": "eventual", "vector": [{"origin": "Nantes", "incarnation": 1, "n": 4}], "vector_entries": 1,
         "vector_digest": "cd" * 32, "forgotten": 0, "forgotten_digest": "ef" * 32, "operations": 4,
         "sequence": 3, "digest": "ab" * 32, "waiting": 0, "plan": "nothing", "to_undo": 0, "to_run": 0, "diverged": None,
         "degraded": False, "order_assumed": False, "deleted": False}, **more)}


def test_diff(api, env):
    answer = {"resource": "greeting", "same": True, "sites": {"Nantes": knows(), "Rennes": knows(order_assumed=True, forgotten=7)},
              "answers": None, "groups": None}
    conforms(answer, "DiffAnswer")
    api.answers["/v1/resources/greeting/diff"] = (200, answer)
    text = ok(env, "resource", "diff", "greeting")
    assert api.requests[-1].json == {"timeout_ms": 20000}
    assert re.search(r"^Nantes +4 +3 +abababababab +nothing +Nantes:4$", text, re.M)
    assert "    7 before these are forgotten" in text and "    order assumed: some ran" in text and text.endswith("\nAll members know the same.\n")
    done = {"state": "done", "exit_code": 0, "output": "1\n", "output_cut": False, "reason": None, "duration_ms": 3}
    other = dict(done, state="failed", exit_code=1, output="", reason="exit code 1")
    answer.update(answers={"Nantes": done, "Rennes": done, "Paris": other}, groups=[["Nantes", "Rennes"], ["Paris"]])
    answer["sites"]["Paris"] = knows(plan="append", to_run=2, waiting=1, degraded=True, diverged="it can't be undone")
    conforms(answer, "DiffAnswer")
    shown = run(env, "resource", "diff", "greeting", "--timeout", "3s", "--", "cat", "x")
    text = shown.stdout.decode()
    assert (shown.returncode, api.requests[-1].json) == (1, {"timeout_ms": 3000, "command": ["cat", "x"]})
    assert "Their applications answer differently:\nNantes, Rennes\n    1\nParis  failed: exit code 1\n" in text
    assert "append: undo 0, run 2" in text and "    diverged: it can't be undone\n" in text
    assert "    1 wait for operations" in text and "    degraded: " in text
    answer.update(same=None, answers=None, groups=None)
    answer["sites"]["Paris"] = {"state": "timeout", "knows": None, "reason": "the site did not answer in time"}
    assert fails(4, env, "resource", "diff", "greeting") == "cheops: no answer from Paris\n"
    answer.update(same=False)
    assert run(env, "-o", "json", "resource", "diff", "greeting").returncode == 1
    run(env, "resource", "diff", "greeting", "--http", "GET", "inventory/items/7")
    assert api.requests[-1].json["http"]["path"] == "items/7"
    assert "usage: cheops resource diff ID" in fails(2, env, "resource", "diff", "greeting", "--http")


def test_site_list(api, env):
    api.answers["/v1/sites"] = (200, {"sites": [
        {"site": "Nantes", "self": True, "state": "up", "since": None, "waiting": 0, "software": "0.1.0"},
        {"site": "Rennes", "self": False, "link": "shovel", "state": "down", "since": "2026-11-24T03:32:03.123Z",
         "heard_at": "2026-11-24T03:31:00.000Z", "round_trip_ms": 1.25, "waiting": 12,
         "oldest_at": "2026-11-24T03:32:04.000Z", "version": 3, "version_min": 3, "software": None,
         "problem": "speaks wire versions 3 to 4, here 1 to 2: upgrade this site",
         "marks": {"out": {"operation": 5}, "in": {"operation": 4}},
         "streams": [{"key": "operation", "mark": 5, "sent": 9, "last": 17, "messages": 2},
                     {"key": "ack", "mark": 3, "sent": 3, "last": 3, "messages": 0}]}]})
    lines = ok(env, "site", "list").splitlines()
    assert lines[1].split() == ["Nantes", "here", "-", "-", "-", "-", "0", "-", "0.1.0"]
    assert lines[2].split()[:5] == ["Rennes", "down", "2026-11-24T03:32:03.123Z", "shovel", "1.25"]
    assert lines[2].split()[-3:] == ["12", "2026-11-24T03:32:04.000Z", "-"]
    assert lines[3] == "Rennes speaks wire versions 3 to 4, here 1 to 2: upgrade this site"
    assert lines[4] == "" and lines[5].split() == ["SITE", "STREAM", "ARRIVED", "SENT", "MADE", "WAITING", "IN", "MESSAGES", "TAKEN"]
    assert [line.split() for line in lines[6:]] == [["Rennes", "operation", "5", "9", "17", "12", "2", "4"],
                                                    ["Rennes", "ack", "3", "3", "3", "0", "0", "-"]]


def event(number):
    return {"number": number, "at": "2026-11-24T03:32:03.123Z", "kind": "operation.accepted", "site": "Nantes",
            "resource": "greeting", "operation": OPERATION, "data": {"a": 1} if number == 1 else {}}


def test_events(api, env):
    api.answers["/v1/events"] = (200, {"events": [event(n) for n in range(1, 251)]})
    lines = ok(env, "events").splitlines()
    assert len(lines) == 250 and lines[0].split() == [
        "1", "2026-11-24T03:32:03.123Z", "operation.accepted", "Nantes", "greeting", OPERATION, '{"a":1}']
    assert [json.loads(x)["number"] for x in ok(env, "events", "--after", "247", "-o", "json").splitlines()] == [248, 249, 250]
    assert len(ok(env, "events", "--limit", "120").splitlines()) == 120


def test_events_follow_goes_on_after_a_lost_connection(api, env):
    api.answers["/v1/events"] = (200, {"events": [event(1), event(2)]})
    api.event_script = ["cut"]
    child = subprocess.Popen([CHEOPS, "events", "--after", "1", "--follow"], env=env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    assert child.stdout.readline().split()[0] == b"2"
    api.answers["/v1/events"] = (200, {"events": [event(1), event(2), event(3)]})
    assert child.stdout.readline().split()[0] == b"3"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=5)
    assert child.returncode == 130
    assert [r.query["after"] for r in api.asked("GET", "/v1/events")] == ["1", "2"]


def test_scope_explain(api, env):
    api.answers["/v1/scope/explain"] = (200, {
        "scope": "Nantes & *", "sites": ["Nantes", "Paris"], "why": ["Nantes is named", "* is every known site"],
        "tree": {"kind": "and", "children": [{"kind": "site", "name": "Nantes", "weight": 1}, {"kind": "all"}]}})
    text = ok(env, "scope", "explain", "Nantes&*")
    assert api.requests[0].json == {"scope": "Nantes&*"}
    assert text.endswith("\nand\n  site Nantes\n  all\n") and "sites        Nantes, Paris\n" in text
    api.failures = [(400, {"error": "expected a site at character 8", "code": "malformed"}, [])]
    assert fails(3, env, "scope", "explain", "Nantes&").endswith("    Nantes&\n           ^\n")


def test_dead(api, env):
    letter = {"id": "d1", "reason": "no key", "queue": "cheops.Nantes.requests", "routing_key": "request",
              "exchange": "cheops.site.Nantes", "message_id": None, "at": "2026-11-24T03:32:03.123Z", "body_bytes": 5}
    api.answers.update({"/v1/dead": (200, {"dead": [letter]}), "/v1/dead/d1/requeue": (200, {"ok": True}),
                        "/v1/dead/d1": (200, dict(letter, body_base64=base64.b64encode(b"\x81hi\n!").decode()))})
    assert re.search(r"^d1 +2026\S+ +cheops.Nantes.requests +request +5 +no key$", ok(env, "dead", "list"), re.M)
    assert ok(env, "dead", "show", "d1").endswith("000000  81 68 69 0a 21" + " " * 33 + "  .hi.!\n")
    assert ok(env, "dead", "requeue", "d1") == "d1 is back in its queue\n"
    api.answers["/v1/dead/d1"] = (204, None)
    assert ok(env, "dead", "drop", "d1") == "d1 is gone\n"
    assert api.requests[-1].method == "DELETE"


def test_doctor(api, env):
    checks = [{"check": "broker", "ok": True, "detail": "connected", "advice": None}]
    api.answers["/v1/doctor"] = (200, {"ok": True, "checks": checks})
    assert ok(env, "doctor") == "ok    broker           connected\n"
    checks.append({"check": "clock", "ok": False, "detail": "12 s ahead", "advice": "start chrony"})
    api.answers["/v1/doctor"] = (200, {"ok": False, "checks": checks})
    done = run(env, "doctor")
    assert done.returncode == 1 and b"FAIL  clock            12 s ahead\n" in done.stdout and b"start chrony" in done.stdout


# ---- matrices: no agent is asked ----

def rows(*pairs):
    return [{"Before": before, "After": after, "Result": "take-" + result} for before, after, result in pairs]


MATRIX = {"ResolutionMatrix": rows(("set", "set", "one"), ("set", "add", "both-keep-order")), "version": 2,
          "types": {"add": {"idempotent": True}}}


@pytest.fixture
def no_agent(env):
    return dict(env, CHEOPS_API="http://127.0.0.1:1")


def test_matrix_check_shows_what_is_decided(no_agent, tmp_path):
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps(MATRIX, indent=2))
    text = ok(no_agent, "matrix", "check", str(path))
    assert text == ok(no_agent, "matrix", "check", "-", data=json.dumps(MATRIX).encode())
    assert text.splitlines() == [
        "version      2", "establish    delete, set", "idempotent   add",
        "notes        (add, set) was added as take-both-reverse-order, the mirror of row 2",
        "             (add, add) is not listed: assumed to commute", "",
        "BEFORE  add    delete  set", "add     (any)  one     rev", "delete  one    one     one",
        "set     keep   one     one", "",
        "one: take-one; any, keep, rev: take-both-any-order, -keep-order, -reverse-order",
        "(any): not listed, assumed to commute"]


def test_matrix_check_as_json(no_agent):
    checked = json.loads(ok(no_agent, "matrix", "check", "-", "-o", "json", data=json.dumps(MATRIX).encode()))
    assert checked["matrix"] == dict(MATRIX, ResolutionMatrix=rows(
        ("add", "set", "both-reverse-order"), ("set", "add", "both-keep-order"), ("set", "set", "one")))
    conforms(checked["matrix"], "ResolutionMatrix")
    assert checked["establish"] == ["delete", "set"] and checked["idempotent"] == ["add"]
    assert len(checked["notes"]) == 2
    again = json.dumps(checked["matrix"]).encode()
    assert json.loads(ok(no_agent, "matrix", "check", "-", "-o", "json", data=again))["matrix"] == checked["matrix"]


def test_matrix_check_keeps_to_80_columns(no_agent):
    for count, grid in ((7, True), (8, True), (30, False)):
        pairs = rows(*((f"t{i}", f"t{i + 1}", "both-reverse-order") for i in range(count - 1)))
        text = ok(no_agent, "matrix", "check", "-", data=json.dumps({"ResolutionMatrix": pairs}).encode())
        table = text[text.index("BEFORE"):].splitlines()
        assert all(len(line) <= 80 for line in table)
        assert table[0].split() == (["BEFORE", "delete"] + [f"t{i}" for i in range(count)] if grid
                                    else ["BEFORE", "AFTER", "RESULT"])
        assert len(table) == (count + 2 + 3 if grid else 2 * (count - 1) + 1)


@pytest.mark.parametrize("data, says", [
    (b"", "is not JSON"),
    (b"[]", "the configuration must be"),
    (b'{"ResolutionMatrix":[]}\0', "standard input is not JSON: it has a byte 0"),
    (b'{"ResolutionMatrix":[]}' + b" " * 65536, "the resolution matrix in standard input is over 64 KiB"),
    (json.dumps({"ResolutionMatrix": rows(("a", "b", "both-keep-order"), ("b", "a", "both-keep-order"))}).encode(),
     "contradicts itself: a before b (row 1) and b before a (row 2)"),
    (json.dumps({"ResolutionMatrix": rows(("a", "b", "on"))}).encode(), 'did you mean "take-one"?'),
    (json.dumps({"ResolutionMatrix": [], "types": {"a": {"replaces": True}}}).encode(),
     "allowed are replace, idempotent"),
])
def test_matrix_check_refuses(no_agent, data, says):
    assert says in fails(2, no_agent, "matrix", "check", "-", data=data)


def test_matrix_check_needs_a_file_that_is_there(no_agent):
    assert "cannot read /no/such: No such file" in fails(2, no_agent, "matrix", "check", "/no/such")
    assert "/etc is a directory" in fails(2, no_agent, "matrix", "check", "/etc")
    fails(2, no_agent, "matrix", "check")


# ---- help, completion, manual ----

def verbs(env):
    block = ok(env, "help").split("explains one):\n")[1].split("\n\n")[0]
    return [m.group(1) for m in re.finditer(r"^  (\S+(?: [a-z]+)?)(?:  |$)", block, re.M)]


def test_every_verb_has_help_and_is_in_the_manual(env):
    manual = open(os.path.join(SOURCE, "agent", "doc", "cheops.1")).read().replace("\\-", "-")
    names = verbs(env)
    assert len(names) == 25
    for name in names:
        assert ok(env, *name.split(), "--help") == ok(env, "help", *name.split())
        assert f"cheops {name}" in ok(env, *name.split(), "-h")
        assert f"cheops {name}" in manual, name
    for option in set(re.findall(r"--[a-z-]+(?= |$)", "".join(ok(env, *n.split(), "-h") for n in names), re.M)):
        assert option in manual, option
    assert "op show" in ok(env, "op", "--help")
    assert ok(env, "version") == ok(env, "--version") and ok(env, "version").startswith("cheops ")


def test_manual_formats_without_complaint():
    for page in ("cheops.1", "cheops-agent.8"):
        done = subprocess.run(["man", "--warnings=all", "-l", os.path.join(SOURCE, "agent", "doc", page)],
                              env=dict(os.environ, MANPAGER="cat", MANWIDTH="80"), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()


def complete(env, *words):
    script = 'eval "$("$CHEOPS" completion bash)"; COMP_WORDS=("$CHEOPS" "$@"); COMP_CWORD=$#; _cheops; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script, "bash", *words], env=dict(env, CHEOPS=CHEOPS), capture_output=True, timeout=20)
    assert done.stderr == b""
    return done.stdout.decode().split()


def test_completion(api, env, tmp_path):
    api.answers["/v1/operations"] = (200, {"operations": [OPERATION_JSON]})
    api.answers["/v1/resources"] = (200, {"resources": [{"id": "green"}, {"id": "red"}]})
    api.answers["/v1/sites"] = (200, {"sites": [{"site": "Nantes"}, {"site": "Rennes"}]})
    assert complete(env, "e") == ["exec", "events"]
    assert complete(env, "op", "") == ["show", "list", "watch", "resolve"]
    assert complete(env, "op", "resolve", "") == ["done", "failed", "rerun", OPERATION]
    assert complete(env, "op", "show", "") == [OPERATION]
    assert complete(env, "--api", api.url, "resource", "show", "g") == ["green"]
    assert complete(env, "exec", "--id", "r") == ["red"]
    assert complete(env, "exec", "--le") == ["--level"]
    assert complete(env, "exec", "--level", "e") == ["eventual"]
    assert complete(env, "-o", "") == ["text", "json"]
    assert complete(env, "--site", "N") == ["Nantes"]
    assert complete(env, "exec", "--config", "/etc/host") and complete(env, "exec", "--file", "n=/etc/host")
    assert complete(dict(env, CHEOPS_API="http://127.0.0.1:1"), "op", "show", "") == []
    assert "__ids" not in complete(env, "")


# ---- terminal ----

def on_terminal(env, *args, columns=80, rows=24, during=None):
    """Runs on a terminal of its own; returns what it wrote and its exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        time.sleep(0.1)  # the parent sets the size first
        os.execve(CHEOPS, [CHEOPS, *args], env)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    seen, end = b"", time.monotonic() + 15
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if not data:
                break
            seen += data
        if during is not None and during(fd, seen):
            during = None
    os.close(fd)
    return seen.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Screen:
    """As much of a terminal as the program uses."""

    def __init__(self, text):
        self.lines, self.row = [""], 0
        for part in re.finditer(r"\033\[(\d*)([A-Za-z])|(\n)|(\r)|([^\033\n\r]+)", text):
            number, letter, newline, _, plain = part.groups()
            if letter == "A":
                self.row -= int(number)
                assert self.row >= 0
            elif letter == "K":
                self.lines[self.row] = ""
            elif newline:
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif plain:
                self.lines[self.row] += plain


def test_terminal_rows_are_updated_in_place(api, env):
    evil = "a\x1b]0;t\x07\n"
    api.script = [(0.3, result("Paris", "queued")), (0.3, result("Paris", "running")),
                  (0.2, result("Rennes", output=evil)), (0, result("Nantes", output=evil, elapsed_ms=1200)),
                  (0.3, result("Paris", "failed", exit_code=3, reason="no"))]
    text, code = on_terminal(env, *EXEC, "--", "true")
    assert code == 1
    for state in ("accepted", "queued", "running"):
        assert re.search(r"\[-/3\] Paris   \033\[2m" + state, text), text
    assert Screen(text).lines[:5] == [
        "[2/3] Nantes  done 1200 ms", "[3/3] Paris   failed  4 ms exit 3: no",
        "[1/3] Rennes  done    4 ms", "Nantes, Rennes:", "    a\\x1b]0;t\\x07"], Screen(text).lines
    assert "\x1b]" not in text and "\x07" not in text


def test_terminal_without_color(api, env):
    text, _ = on_terminal(dict(env, NO_COLOR="1"), *EXEC, "--", "true")
    assert not re.search(r"\033\[\d*m", text) and "\033[2K" in text


@pytest.mark.parametrize("how", [{"TERM": "dumb"}, {"rows": 3}])
def test_terminal_that_cannot_update_gets_plain_lines(api, env, how):
    rows = how.get("rows", 24)
    text, code = on_terminal(dict(env, TERM=how.get("TERM", "xterm"), NO_COLOR="1"), *EXEC, "--", "true", rows=rows)
    assert (text, code) == ("[1/3] Nantes  done   4 ms\n[2/3] Paris   done   4 ms\n[3/3] Rennes  done   4 ms\n", 0)


def test_terminal_width_is_kept(api, env):
    api.script = [(0, result("Nantes", "failed", exit_code=1, reason="long " * 40)), (0, result("Paris")), (0, result("Rennes"))]
    text, _ = on_terminal(dict(env, NO_COLOR="1"), *EXEC, "--", "true", columns=40)
    assert all(len(line) <= 39 for line in Screen(text).lines[:3]) and "…" in Screen(text).lines[0]


def test_terminal_that_is_resized_goes_on_in_plain_lines(api, env):
    api.script = [(0, result("Nantes")), (1.5, result("Paris")), (0, result("Rennes"))]

    def shrink(fd, seen):
        if b"Nantes" not in seen:
            return False
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        return True
    text, code = on_terminal(dict(env, NO_COLOR="1"), *EXEC, "--", "true", during=shrink)
    assert code == 0 and re.search(r"\n\[2/3\] Paris   done   4 ms\n\[3/3\] Rennes  done   4 ms\n$", text)


def test_terminal_shows_side_by_side_when_it_fits(api, env):
    api.answers["/v1/resources/r/show"] = shown(Nantes=answer("x\ny\n"), Paris=answer("日\n"), Rennes=answer("x\ny\n"))
    text, _ = on_terminal(dict(env, NO_COLOR="1"), "show", "--id", "r", "--", "x")
    assert [line.rstrip() for line in text.splitlines()] == [
        "Nantes  done 4 ms │ Paris  done 4 ms  differs │ Rennes  done 4 ms",
        "x                 │ 日                        │ x",
        "y                 │                           │ y"]
    text, _ = on_terminal(dict(env, NO_COLOR="1"), "show", "--id", "r", "--", "x", columns=40)
    assert "│" not in text and "Paris  done 4 ms  differs\n    日\n" in text


def test_terminal_times_are_relative_and_tables_fit(api, env):
    api.answers["/v1/operations"] = (200, {"operations": [dict(
        OPERATION_JSON, summary="word " * 40,
        entered_at=time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 7)))]})
    text, _ = on_terminal(dict(env, NO_COLOR="1"), "op", "list", columns=100)
    assert re.search(r"\b[78] s ago  word", text) and all(len(line) <= 100 for line in text.splitlines())
