"""A server on loopback that takes runs as LangSmith does, for its own client to send them to."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from langsmith import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

_INFO = {
    "version": "0.10.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": False,
        "size_limit": 100,
        "size_limit_bytes": 20_000_000,
        "scale_up_nthreads_limit": 1,
        "scale_up_qsize_trigger": 1_000,
        "scale_down_nempty_trigger": 4,
    },
}


class LangSmith:
    """What was sent: the runs by their id, each as it was begun and as it was ended, and how often."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._lock = threading.Lock()

    def take(self, batch: dict[str, Any]) -> None:
        """Take in what one request says."""
        with self._lock:
            for kind, ids in (("post", self.begun), ("patch", self.ended)):
                for run in batch.get(kind) or ():
                    ids.append(run["id"])
                    if kind == "post" and run.get("end_time"):
                        self.ended.append(run["id"])
                    known = self.runs.setdefault(run["id"], {})
                    known.update({name: value for name, value in run.items() if value is not None})

    def models(self) -> list[dict[str, Any]]:
        """The runs of models."""
        return [run for run in self.runs.values() if run["run_type"] == "llm"]


@contextmanager
def langsmith() -> Iterator[tuple[LangSmith, Client]]:
    """The server, and a client that sends to it; what was sent is there after `client.flush()`."""
    kept = LangSmith()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(_INFO)

        def do_POST(self) -> None:
            kept.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer({})

        def _answer(self, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = Client(api_url=f"http://127.0.0.1:{server.server_port}", api_key="x")
    try:
        yield kept, client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()
