# SPDX-License-Identifier: AGPL-3.0-only
"""The HTTP door: the JSON API, the prototype's forms with curl, server-sent events, metrics, and the http driver."""
import json
import socket
import subprocess
import time

import pytest
import requests
from testbed import ALL, SITES, wait_until


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", *arguments], stdout=subprocess.PIPE, text=True,
                          timeout=60, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def events(bed, site, path, seconds=30, headers=None):
    """(event, data, id) of a stream of server-sent events, as they come."""
    answer = bed.http(site, "GET", path, stream=True, timeout=seconds,
                      headers={"Accept": "text/event-stream", **(headers or {})})
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
    fields = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line:
            name, _, value = line.partition(":")
            fields[name] = fields.get(name, "") + value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("event"), json.loads(fields["data"]), fields.get("id")
            fields = {}


def test_exec_form_answers_line_by_line(bed, rid):
    status, body = curl("-F", "command=echo hi from $CHEOPS_SITE", "-F", "sites=Nantes&Rennes&Paris", "-F", "type=set",
                        bed.url("Nantes", f"/exec/{rid}"))
    assert status == 200, body
    lines = [json.loads(line) for line in body.splitlines()]
    assert {line["Site"] for line in lines} == set(SITES) and len(lines) == 3
    for line in lines:
        assert line["Status"] == "OK" and line["Type"] == "REPLY" and line["ResourceId"] == rid and line["RequestId"]
        assert sorted(line["Locations"]) == sorted(SITES)
        assert line["Cmd"]["Input"] == "echo hi from $CHEOPS_SITE"
        assert line["Cmd"]["Output"] == f"hi from {line['Site']}\n"
    assert len({line["RequestId"] for line in lines}) == 1


def test_exec_form_says_ko(bed, rid):
    status, body = curl("-F", "command=[ $CHEOPS_SITE = Nantes ]", "-F", "sites=Nantes&Rennes", "-F", "type=set",
                        bed.url("Nantes", f"/exec/{rid}"))
    assert status == 200
    assert {line["Site"]: line["Status"] for line in map(json.loads, body.splitlines())} == {"Nantes": "OK", "Rennes": "KO"}


def test_exec_form_with_file_and_config(bed, rid, tmp_path):
    (tmp_path / "data.txt").write_text("content of the file\n")
    matrix = json.dumps({"ResolutionMatrix": [{"Before": "set", "After": "set", "Result": "take-one"}]})
    status, body = curl("--form-string", "command=cat data.txt; cat {data.txt}", "-F", "sites=Nantes&Paris", "-F", "type=set",
                        "-F", f"config={matrix}", "-F", f"data.txt=@{tmp_path}/data.txt", bed.url("Nantes", f"/exec/{rid}"))
    assert status == 200, body
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["Cmd"]["Output"] for line in lines] == ["content of the file\n" * 2] * 2


def test_show_form(bed, rid):
    curl("-F", "command=true", "-F", "sites=Nantes&Rennes&Paris", "-F", "type=set", bed.url("Nantes", f"/exec/{rid}"))
    status, body = curl("-F", "command=echo $CHEOPS_SITE", bed.url("Rennes", f"/show/{rid}"))
    assert status == 200
    assert json.loads(body) == {site: {"Status": "OK", "Output": site + "\n"} for site in SITES}


@pytest.mark.parametrize("form", [
    {}, {"command": "true"}, {"sites": "Nantes"}, {"command": "true", "sites": "Nantes", "config": "{"},
    {"command": "true", "sites": "Nantes", "config": '{"ResolutionMatrix":[{"Before":"a","After":"b","Result":"no-such"}]}'},
    {"command": "true", "sites": "Nantes & "}, {"command": "true", "sites": "Nowhere"},
])
def test_bad_forms_get_one_sentence(bed, rid, form):
    answer = bed.http("Nantes", "POST", f"/exec/{rid}", files={name: (None, value) for name, value in form.items()} or
                      {"unused": (None, "x")})
    assert answer.status_code == 400, answer.text
    assert len(answer.text.strip().splitlines()) == 1


def test_wait_streams_results(bed, rid):
    answer = bed.http("Nantes", "POST", "/v1/operations?wait=true&timeout_ms=20000", stream=True, json={
        "resource": rid, "type": "set", "scope": ALL, "command": ["sh", "-c", "[ $CHEOPS_SITE = Nantes ] || sleep 1"]})
    assert answer.status_code == 200
    arrivals = [(time.monotonic(), json.loads(line)) for line in answer.iter_lines(chunk_size=1) if line]
    lines = [line for _, line in arrivals]
    assert lines[0]["resource"] == rid and lines[-1]["completed"] is True and lines[-1]["state"] == "done"
    by_site = {line["site"]: at for at, line in arrivals if line.get("site") and line.get("state") == "done"}
    assert set(by_site) == set(SITES)
    assert by_site["Paris"] - by_site["Nantes"] > 0.5, "each site's result comes when it is there"


def test_progress_and_events_as_server_sent_events(bed, rid):
    last = bed.last_event("Nantes")
    created = bed.http("Nantes", "POST", "/v1/operations", json={
        "resource": rid, "type": "set", "scope": ALL, "command": ["sleep", "0.3"]})
    assert created.status_code == 202, created.text
    operation = created.json()["operation"]
    done = set()
    for name, data, _ in events(bed, "Nantes", f"/v1/operations/{operation}/watch"):
        if name == "completed":
            assert data["state"] == "done"
            break
        if data["state"] == "done":
            done.add(data["site"])
    assert done == set(SITES)
    for _, event, number in events(bed, "Nantes", "/v1/events?follow=true", headers={"Last-Event-ID": str(last)}):
        assert int(number) == event["number"] == last + 1
        last = event["number"]
        if event["kind"] == "operation.completed" and event["operation"] == operation:
            break


def test_health_and_metrics(bed):
    host, port = bed.address("Nantes")
    for path in ("healthz", "readyz"):
        assert requests.get(f"http://{host}:{port}/{path}", timeout=10).status_code == 200
    assert bed.metric("Nantes", "store_up") == bed.metric("Nantes", "broker_up") == 1
    before = bed.metric("Nantes", "operations_accepted_total")
    bed.run_ok("metrics-resource", "true", scope="Nantes")
    assert bed.metric("Nantes", "operations_accepted_total") == before + 1


def test_rest_operations_reach_the_applications(bed, rid):
    path = f"inventory/items/{rid}"
    put = bed.cli("http", "--id", rid, "--type", "set", "--scope", "Nantes & Rennes", "-o", "json", "PUT", path,
                  "--data", '{"name": "bolt"}')
    assert put.exit_code == 0 and set(put.sites) == {"Nantes", "Rennes"}, put
    assert {line["exit_code"] for line in put.sites.values()} == {201}
    for site in ("Nantes", "Rennes"):
        item = bed.directory / site / "inventory" / rid
        assert json.loads(item.read_text()) == {"name": "bolt"}
    assert not (bed.directory / "Paris" / "inventory" / rid).exists()
    gone = bed.cli("http", "--id", rid, "--type", "delete", "DELETE", path)
    assert gone.exit_code == 0, gone
    missing = bed.cli("http", "--id", rid, "--type", "delete", "DELETE", path, "-o", "json")
    assert missing.exit_code == 1 and missing.sites["Nantes"]["exit_code"] == 404, missing


def test_rest_body_from_a_file(bed, rid, tmp_path):
    body = {"text": "x" * 300000}
    (tmp_path / "item.json").write_text(json.dumps(body))
    put = bed.cli("http", "--id", rid, "--type", "set", "--scope", "Paris & Rennes", "PUT", f"inventory/items/{rid}",
                  "--data", f"@{tmp_path}/item.json", site="Paris")
    assert put.exit_code == 0, put
    assert json.loads((bed.directory / "Rennes" / "inventory" / rid).read_text()) == body


def test_unknown_service_is_refused(bed, rid):
    refused = bed.cli("http", "--id", rid, "--type", "set", "--scope", "Nantes", "PUT", "nothere/items/7", "--data", "{}")
    assert refused.exit_code == 3 and "nothere" in refused.err, refused


def test_openapi_describes_the_answers(bed, rid):
    openapi_check = pytest.importorskip("openapi_check")
    bed.run_ok(rid, "true")
    operation = bed.history("Nantes", rid)[0]["id"]
    for path in ("/v1/operations", f"/v1/operations/{operation}", "/v1/resources", f"/v1/resources/{rid}",
                 f"/v1/resources/{rid}/history", "/v1/sites", "/v1/events", "/v1/dead", "/v1/doctor", "/v1/status",
                 "/v1/operations/00000000-0000-7000-8000-000000000000"):
        answer = bed.http("Nantes", "GET", path)
        openapi_check.check("GET", path, answer.status_code, answer.headers, answer.content)


def test_slow_client_costs_nothing(bed, rid):
    """Who connects and says half a request, and who does not read, holds nobody up."""
    held = []
    for _ in range(20):
        connection = socket.create_connection(bed.address("Nantes"))
        connection.sendall(b"POST /v1/operations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        held.append(connection)
    started = time.monotonic()
    bed.run_ok(rid, "true", scope="Nantes")
    assert time.monotonic() - started < 5
    for connection in held:
        connection.close()
    wait_until(lambda: bed.metric("Nantes", "http_connections") <= 2, what="connections are gone")
