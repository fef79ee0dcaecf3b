"""A server of one file, and an index of published weights that names it."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

from mmcity.utils import published_weights
from mmcity.utils.published_weights import PublishedWeights

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks


class WeightsServer(ThreadingHTTPServer):
    """Serves one file, with ranges; cuts the first answers off after ``cut`` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.tag, self.cuts, self.requests = CONTENT, '"a"', [], []
        self.knows_ranges = True


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if self.path != "/weights.pth":
            self.send_error(404)
            return
        start = 0
        is_same = self.headers.get("If-Range", server.tag) == server.tag
        if wanted and server.knows_ranges and is_same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)


def weights_of(server, **changes) -> PublishedWeights:
    url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    return PublishedWeights(**{"name": "town", "page": "http://page", "url": url, **changes})


def index_in(folder, monkeypatch, **entry):
    """Let the index hold one entry."""
    (folder / "configs").mkdir(exist_ok=True)
    entry = {"Name": "town", "Page": "http://page", **entry}
    text = yaml.safe_dump({"Collections": [{"Name": "a"}], "Models": [], "Weights": [entry]})
    (folder / "configs" / "metafile.yml").write_text(text)
    (folder / "model-index.yml").write_text("Import: [configs/metafile.yml]\n")
    monkeypatch.setattr(published_weights, "find_root", lambda: folder)
