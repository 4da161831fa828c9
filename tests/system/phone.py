"""Runs in a host, where messages and commit statuses go to: phone.py PORT FILE

It appends each request to FILE as one line of JSON, {path, headers, body}, and answers: not while FILE.hang is there.
"""

import http.server
import json
import os
import sys
import time
from pathlib import Path


class _Phone(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        heard = {"path": self.path, "headers": dict(self.headers.items()), "body": body}
        with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(heard)}\n")
        while os.path.exists(f"{sys.argv[2]}.hang"):
            time.sleep(0.05)
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Phone).serve_forever()
