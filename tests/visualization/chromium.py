"""A headless Chromium that is driven through its debugging port."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


def find_browser() -> str:
    """Path of a browser; skips the test where there is none."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium here (Debian: apt-get install chromium)")


class Page:
    """One page of a browser of its own.

    Args:
        url: To open.
        size: Width and height of the window.
    """

    def __init__(self, url: str, size: tuple[int, int] = (960, 640)) -> None:
        from websockets.sync.client import connect

        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                find_browser(),
                *_OPTIONS,
                f"--window-size={size[0]},{size[1]}",
                f"--user-data-dir={self._folder.name}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._number = 0
        self.errors: list[str] = []
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            target = next(t for t in json.load(answer) if t["type"] == "page")
        self._socket = connect(target["webSocketDebuggerUrl"], max_size=None)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=20)
        self._folder.cleanup()

    def _port(self) -> int:
        file = Path(self._folder.name) / "DevToolsActivePort"
        for _ in range(300):
            if file.is_file() and file.read_text().strip():
                return int(file.read_text().splitlines()[0])
            time.sleep(0.1)
        raise TimeoutError("the browser did not open its debugging port")

    def call(self, method: str, **params):
        """Answer of one command; events that come meanwhile are noted."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message.get("result", {})
            self._note(message)

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("text")))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            texts = [str(a.get("value", a.get("description"))) for a in params["args"]]
            self.errors.append(" ".join(texts))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    def wait(self, seconds: float) -> None:
        """Let the page work, and note what it says."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.call("Runtime.evaluate", expression="1")
            time.sleep(0.2)

    def text_with(self, wanted: str, seconds: float = 40) -> str:
        """Text of the page once it holds ``wanted``, or after so long: a busy machine is slow."""
        end = time.monotonic() + seconds
        shown = "document.body ? document.body.innerText : ''"  # none before the page is there
        text = self.evaluate(shown)
        while wanted not in text and time.monotonic() < end:
            self.wait(0.5)
            text = self.evaluate(shown)
        return text

    def evaluate(self, expression: str):
        """Value of a JavaScript expression, waited for if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return answer["result"].get("value")

    def screenshot(self):
        """``(H, W, 3)`` uint8 picture of the window."""
        import cv2
        import numpy as np

        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
