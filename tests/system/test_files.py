# SPDX-License-Identifier: AGPL-3.0-only
"""Files travel with operations, whole, whatever their size, and the agents' memory does not follow it."""
import hashlib
import os
import threading
import time

import pytest
from testbed import ALL, SITES, wait_until

BIG_BYTES = 20 << 20


class RssWatch(threading.Thread):
    """The highest resident size of each agent while it runs."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.going = bed, True
        self.before = {site: bed.rss_kib(site) for site in SITES}
        self.highest = dict(self.before)

    def run(self):
        while self.going:
            for site in SITES:
                self.highest[site] = max(self.highest[site], self.bed.rss_kib(site))
            time.sleep(0.02)

    def grown_kib(self):
        self.going = False
        self.join()
        return {site: self.highest[site] - self.before[site] for site in SITES}


def test_small_file(bed, rid, tmp_path):
    path = tmp_path / "in put.txt"
    path.write_bytes(b"\x00\xff small")
    result = bed.run_ok(rid, "sha256sum", "{config.bin}", options=("--file", f"config.bin={path}"))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert {line["output"].split()[0] for line in result.sites.values()} == {expected}


def test_20_mib_on_three_sites_with_flat_memory(bed, rid, tmp_path):
    path = tmp_path / "big"
    path.write_bytes(os.urandom(BIG_BYTES))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    bed.run_ok(rid, "true")  # what a first operation needs is not the file's doing
    watch = RssWatch(bed)
    watch.start()
    result = bed.run_ok(rid, "sha256sum", "{big}", options=("--file", f"big={path}"), site="Rennes", seconds=120)
    grown = watch.grown_kib()
    assert {line["output"].split()[0] for line in result.sites.values()} == {expected}
    assert max(grown.values()) < BIG_BYTES / 1024 / 2, grown


def test_several_files_and_braces(bed, rid, tmp_path):
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    result = bed.run_ok(rid, "sh", "-c", "cat {a.txt} {b.txt}; echo '{other}' '{{'; ls",
                        options=("--file", f"a.txt={tmp_path}/a", "--file", f"b.txt={tmp_path}/b"))
    for line in result.sites.values():
        assert line["output"].startswith("AB{other} {\n"), line
        assert "a.txt" in line["output"] and "b.txt" in line["output"]


def test_working_directory_is_private_and_removed(bed, rid):
    result = bed.run_ok(rid, "sh", "-c", "umask; pwd; stat -c %a .; touch left-behind")
    directories = [line["output"].split()[1] for line in result.sites.values()]
    assert len(set(directories)) == 3
    assert all(line["output"].split()[2] == "700" for line in result.sites.values())
    wait_until(lambda: not any(os.path.exists(directory) for directory in directories), what="directories are removed")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".hidden", "-option", "x" * 300])
def test_bad_file_names_are_refused(bed, rid, tmp_path, name):
    path = tmp_path / "f"
    path.write_text("x")
    answer = bed.http("Nantes", "POST", "/v1/operations", json={
        "resource": rid, "type": "set", "scope": ALL, "command": ["true"],
        "files": [{"name": name, "content_base64": "eA=="}]})
    assert answer.status_code == 400 and "name" in answer.json()["error"], answer.text
    form = bed.http("Nantes", "POST", f"/exec/{rid}", data={"command": "true", "sites": "Nantes"},
                    files={"x": (name or "\x01", b"x")})
    assert form.status_code == 400, form.text


def test_same_name_twice_is_refused(bed, rid):
    answer = bed.http("Nantes", "POST", "/v1/operations", json={
        "resource": rid, "type": "set", "scope": ALL, "command": ["true"],
        "files": [{"name": "a", "content_base64": "eA=="}, {"name": "a", "content_base64": "eQ=="}]})
    assert answer.status_code == 400, answer.text


def test_unknown_blob_is_refused(bed, rid):
    answer = bed.http("Nantes", "POST", "/v1/operations", json={
        "resource": rid, "type": "set", "scope": ALL, "command": ["true"], "files": [{"name": "a", "sha256": "0" * 64}]})
    assert 400 <= answer.status_code < 500 and "error" in answer.json(), answer.text
