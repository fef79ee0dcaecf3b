"""Origins of pages that may open a connection to the viewer."""

import contextlib
import functools
import ipaddress
import platform
from collections.abc import Collection, Iterator
from http import HTTPStatus
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from mmcity.utils.dependencies import import_library


def is_own_origin(origin: str | None, address: str, others: Collection[str] = ()) -> bool:
    """Whether a page was served by the viewer itself, or is one of those named.

    A page of another site in the user's browser could else look at and change what is shown; a
    name of a foreign domain that leads to this machine does not make its pages own ones.

    Args:
        origin: Header ``Origin`` of the request: scheme, host and port of the page; None for
            programs that are no browsers.
        address: Header ``Host``, host and port that the request was sent to.
        others: Further origins. Defaults to none.
    """
    if origin is None or origin.rstrip("/") in {other.rstrip("/") for other in others}:
        return True
    parts = urlsplit(origin)
    if parts.netloc.lower() != address.lower() or not parts.hostname:
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(parts.hostname)
        return True  # no one else's name
    return parts.hostname in ("localhost", platform.node().lower())


@contextlib.contextmanager
def only_own_origins(others: Collection[str] = ()) -> Iterator[None]:
    """Servers of ``websockets`` that start within it answer foreign pages with status 403.

    viser has no option for that.
    """
    server = import_library("websockets.asyncio.server", "viewer")
    serve = server.serve

    @functools.wraps(serve)
    def serve_own(*args: Any, process_request=None, **kwargs: Any):
        def check(connection, request):
            headers = request.headers
            is_socket = headers.get("Upgrade", "").lower() == "websocket"
            own = is_own_origin(headers.get("Origin"), headers.get("Host", ""), others)
            if own or not is_socket:
                return None if process_request is None else process_request(connection, request)
            text = "foreign origin: name it by the option origins of the viewer\n"
            return connection.respond(HTTPStatus.FORBIDDEN, text)

        return serve(*args, process_request=check, **kwargs)

    with mock.patch.object(server, "serve", serve_own):
        yield
