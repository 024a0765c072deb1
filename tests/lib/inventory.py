#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""The demo's application: a REST service that keeps items, one independent instance on every site.

usage: inventory.py PORT DIRECTORY

PUT /items/ID with a JSON object stores it (201, or 200 when it was there), GET /items/ID answers it, DELETE removes it (204), GET
/items lists the ids. Errors are {"error": "..."}: 400, 404, 405, 413. An item is a file of DIRECTORY. It knows nothing of
other sites.
"""
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEM_MAX_BYTES = 1 << 20
ITEM_PATH = re.compile(r"/items/([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory = ""

    def answer(self, status, body=None):
        text = b"" if body is None else json.dumps(body).encode() + b"\n"
        self.send_response(status)
        if text:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def item(self):
        match = ITEM_PATH.fullmatch(self.path.partition("?")[0])
        if match is None:
            self.answer(404, {"error": f"no such path: {self.path}"})
            return None
        return os.path.join(self.directory, match[1])

    def do_GET(self):
        if self.path == "/items":
            self.answer(200, {"items": sorted(os.listdir(self.directory))})
            return
        path = self.item()
        if path is None:
            return
        try:
            with open(path, encoding="utf-8") as file:
                self.answer(200, json.load(file))
        except FileNotFoundError:
            self.answer(404, {"error": "no such item"})

    def do_PUT(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > ITEM_MAX_BYTES:
            self.close_connection = True
            self.answer(413, {"error": f"a body of at most {ITEM_MAX_BYTES} bytes, with its length, is expected"})
            return
        body = self.rfile.read(int(length))
        path = self.item()
        if path is None:
            return
        try:
            item = json.loads(body)
        except ValueError as error:
            self.answer(400, {"error": f"not JSON: {error}"})
            return
        existed = os.path.exists(path)
        with open(path + "~", "w", encoding="utf-8") as file:
            json.dump(item, file)
        os.replace(path + "~", path)
        self.answer(200 if existed else 201, item)

    def do_DELETE(self):
        path = self.item()
        if path is None:
            return
        try:
            os.unlink(path)
        except FileNotFoundError:
            self.answer(404, {"error": "no such item"})
            return
        self.answer(204)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Handler.directory = os.path.abspath(sys.argv[2])
    os.makedirs(Handler.directory, exist_ok=True)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
