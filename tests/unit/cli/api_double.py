# SPDX-License-Identifier: AGPL-3.0-only
"""A double of the agent's HTTP API, as far as the client needs it: it records what it was asked and plays what a test
put into it. Nothing is executed."""
import hashlib
import json
import re
import socket
import socketserver
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPERATION = "0190a000-0000-7000-8000-000000000001"


def result(site, state="done", **more):
    line = {"operation": OPERATION, "resource": "greeting", "site": site, "state": state, "run": 1,
            "exit_code": 0 if state == "done" else -1, "output": "", "output_cut": False, "reason": None,
            "unverified": False, "started_at": "2026-11-24T03:32:03.123Z", "duration_ms": 3, "elapsed_ms": 4}
    line.update(more)
    return line


class Request:
    def __init__(self, method, path, query, headers, body):
        self.method, self.path, self.query, self.headers, self.body = method, path, query, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *args):
        pass

    def address_string(self):
        return "client"

    def send_json(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, content_type):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_stream(self):
        self.wfile.write(b"0\r\n\r\n")

    def handle_any(self):
        api = self.server.api
        url = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(self.command, url.path, dict(urllib.parse.parse_qsl(url.query)), self.headers,
                          self.rfile.read(length))
        with api.lock:
            api.requests.append(request)
            scripted = api.failures.pop(0) if api.failures else None
        if scripted is not None:
            if scripted == "close":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, value, headers = scripted
            self.send_json(status, value, headers)
            return
        if api.token and self.headers.get("Authorization") != "Bearer " + api.token:
            self.send_json(401, {"error": "a token is needed", "code": "not authenticated"})
            return
        for method, pattern, answer in api.routes:
            match = re.fullmatch(pattern, url.path)
            if method == self.command and match:
                answer(self, request, *[urllib.parse.unquote(group) for group in match.groups()])
                return
        self.send_json(404, {"error": "there is no " + url.path, "code": "not found"})

    do_GET = do_POST = do_DELETE = handle_any


class TcpServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("unix", 0)


class Api:
    """What a test sets: members, script ([(delay_s, line or "cut" or "hold")]), answers (path -> (status, value)),
    failures (answers to the next requests, whatever they are), token."""

    def __init__(self, port=0, path=None):
        self.lock = threading.Lock()
        self.requests, self.failures, self.answers = [], [], {}
        self.token = None
        self.members = ["Nantes", "Paris", "Rennes"]
        self.script = [(0, result(site)) for site in self.members]
        self.watch_script = None
        self.warning, self.duplicate = None, False
        self.blobs = {}
        self.event_script = []
        self.routes = [
            ("POST", r"/v1/operations", self.create),
            ("GET", r"/v1/operations/([^/]+)/watch", self.watch),
            ("POST", r"/v1/blobs", self.blob),
            ("GET", r"/v1/events", self.events),
            ("GET", r"(/.*)", self.canned),
            ("POST", r"(/.*)", self.canned),
            ("DELETE", r"(/.*)", self.canned),
        ]
        self.server = UnixServer(path, Handler) if path else TcpServer(("127.0.0.1", port), Handler)
        self.server.api = self
        self.port = None if path else self.server.server_address[1]
        self.url = "unix:" + path if path else f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method, path):
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    def accepted(self):
        return {"operation": OPERATION, "resource": "greeting", "scope": " & ".join(self.members),
                "members": self.members, "duplicate": self.duplicate, "warning": self.warning}

    def completed(self, lines):
        failed = [line["site"] for line in lines if line["state"] != "done"]
        return {"operation": OPERATION, "resource": "greeting", "completed": True,
                "state": "failed" if failed else "done", "answered": len(self.members),
                "members": len(self.members), "failed": failed}

    def play(self, script, send):
        """Returns False when the connection was cut."""
        final = {}
        for delay, line in script:
            time.sleep(delay)
            if line == "cut":
                return False
            if line == "hold":
                time.sleep(10)
                return False
            send(line)
            if "site" in line and line["state"] in ("done", "failed", "refused"):
                final[line["site"]] = line
        if not script or not isinstance(script[-1][1], dict) or "timeout" not in script[-1][1]:
            send(self.completed(list(final.values())))
        return True

    def create(self, handler, request):
        if request.query.get("wait") != "true":
            handler.send_json(202, self.accepted())
            return
        handler.begin_stream("application/x-ndjson")
        handler.chunk(json.dumps(self.accepted()).encode() + b"\n")
        if self.play(self.script, lambda line: handler.chunk(json.dumps(line).encode() + b"\n")):
            handler.end_stream()
        else:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

    def watch(self, handler, request, operation):
        handler.begin_stream("text/event-stream")
        handler.chunk(b": hello\n\n")

        def send(line):
            kind = "completed" if line.get("completed") else "result"
            handler.chunk(f"event: {kind}\ndata: {json.dumps(line)}\n\n".encode())
        if self.play(self.script if self.watch_script is None else self.watch_script, send):
            handler.end_stream()
        else:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

    def blob(self, handler, request):
        sha256 = hashlib.sha256(request.body).hexdigest()
        self.blobs[sha256] = request.body
        handler.send_json(201, {"sha256": sha256, "size": len(request.body)})

    def events(self, handler, request):
        after = int(request.query.get("after", 0))
        past = [e for e in self.answers["/v1/events"][1]["events"] if e["number"] > after]
        if request.query.get("follow") != "true":
            page = past[:int(request.query["limit"])]
            handler.send_json(200, {"events": page, "last": page[-1]["number"] if page else after, "oldest": 1})
            return
        handler.begin_stream("text/event-stream")
        for event in past:
            handler.chunk(f"id: {event['number']}\ndata: {json.dumps(event)}\n\n".encode())
        step = self.event_script.pop(0) if self.event_script else "hold"
        if step == "hold":
            time.sleep(10)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def canned(self, handler, request, _):
        path = request.path
        if path not in self.answers:
            handler.send_json(404, {"error": f"there is no {path}", "code": "not found"})
            return
        status, value = self.answers[path]
        if value is None:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            handler.send_json(status, value)
