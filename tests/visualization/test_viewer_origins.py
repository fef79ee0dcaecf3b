"""Pages of other sites do not reach the viewer of a user's browser."""

import platform
import socket

import pytest

from mmcity.visualization.viewer.origins import is_own_origin

HERE = "127.0.0.1:18085"


@pytest.mark.parametrize(
    ("origin", "address", "is_own"),
    [
        (None, HERE, True),  # no browser
        (f"http://{HERE}", HERE, True),
        ("http://localhost:9000", "localhost:9000", True),  # a forwarded port
        ("http://[::1]:8080", "[::1]:8080", True),
        (f"http://{platform.node()}:8080".lower(), f"{platform.node()}:8080", True),
        ("https://twin.example.org", "twin.example.org", True),  # named
        ("http://evil.example", HERE, False),
        ("http://localhost:3000", HERE, False),  # another server of this machine
        ("http://evil.example:18085", "evil.example:18085", False),  # its name leads here
        ("null", HERE, False),
        ("", HERE, False),
    ],
)
def test_origins(origin, address, is_own):
    assert is_own_origin(origin, address, ["https://twin.example.org/"]) == is_own


def test_only_own_pages_open_a_connection():
    viser = pytest.importorskip("viser", reason="viser is not installed")
    from mmcity.visualization.viewer import Viewer

    viewer = Viewer(port=18085, origins=["https://twin.example.org"])
    address = ("127.0.0.1", viewer.server.get_port())

    def ask(origin: str | None) -> str:
        lines = [
            *("GET / HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket"),
            *("Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            *("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: viser-v{viser.__version__}"),
            *([] if origin is None else [f"Origin: {origin}"]),
        ]
        with socket.create_connection(address, timeout=20) as link:
            link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return link.recv(300).decode("latin-1").splitlines()[0]

    try:
        assert "403" in ask("http://evil.example")
        for origin in (None, f"http://{address[0]}:{address[1]}", "https://twin.example.org"):
            assert "101" in ask(origin)
    finally:
        viewer.close()
