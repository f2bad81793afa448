"""A search engine over HTTP, for clients of the published `/retrieve` servers and for ours."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from refine_env.retrieval.base import Retriever
from refine_env.retrieval.service import Refusal, ServerConfig, Service, encode
from refine_env.retrieval.wire import CHECK_HEADER, TOKEN_VARIABLE, check_of

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.auto import AutoHTTPProtocol
except ImportError as error:
    raise ImportError(
        f"the server needs {error.name}, which is not installed: pip install 'refine-env[serve]'"
    ) from error

logger = logging.getLogger(__name__)

__all__ = ["ServerConfig", "create_app", "serve"]


def create_app(
    build: Callable[[], Retriever],
    config: ServerConfig | None = None,
    on_loaded: Callable[[Exception | None], None] = lambda error: None,
) -> ASGIApp:
    """The application. `build` makes the engine after the start, in the background; `on_loaded` is
    told of its success (None) or failure.
    """
    service = Service(config or ServerConfig())
    token = os.environ.get(TOKEN_VARIABLE, "").encode()

    async def load() -> None:
        try:
            await service.load(build)
        except Exception as error:
            on_loaded(error)
        else:
            on_loaded(None)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(load()), asyncio.create_task(service.batcher.run())]
        yield
        for task in tasks:
            task.cancel()

    async def retrieve(request: Request) -> Response:
        started = time.perf_counter()
        try:
            _check_token(request, token)
            if service.retriever is None:
                raise Refusal(503, "the index is still loading")
            body = await _read_body(request, service)
            keys, request_crc = service.keys(body), zlib.crc32(body)
            del body  # it may be large, and the answer may take its time
            answers = await service.answers(keys)
            answer = b'{"result":[' + b",".join(answers) + b"]}"
            response = _json(answer, headers={CHECK_HEADER: check_of(request_crc, answer)})
        except Refusal as refusal:
            response = _refused(refusal)
        except ClientDisconnect:
            response = Response(status_code=400)
        except Exception:
            logger.exception("a request failed")
            response = _refused(Refusal(500, "the server failed; its log says why"))
        service.counters.answered(response.status_code, time.perf_counter() - started)
        return response

    async def health(request: Request) -> Response:
        if service.retriever is None:
            return _json(b'{"status":"loading"}', 503, {"Retry-After": "1"})
        return _json(encode({"status": "ready", "index": service.index_id}))

    async def metrics(request: Request) -> Response:
        try:
            _check_token(request, token)
        except Refusal as refusal:
            return _refused(refusal)
        return Response(
            service.counters.text(service.gauges()), media_type="text/plain; version=0.0.4"
        )

    routes = [
        Route("/retrieve", retrieve, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    others = Starlette(routes=routes, lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", "/retrieve"):
            # Past routing and error pages, which cost more than the answer and are not needed.
            response = await retrieve(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


def serve(
    build: Callable[[], Retriever],
    config: ServerConfig | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until a signal (SIGINT, SIGTERM) comes. Says where it listens, and when it is ready.

    Raises `OSError` when the address is taken, and what `build` raises.
    """
    config = config or ServerConfig()
    failures: list[Exception] = []
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.create_server((config.host, config.port), family=family, backlog=2048) as listener:
        host = f"[{config.host}]" if ":" in config.host else config.host
        url = f"http://{host}:{listener.getsockname()[1]}"

        def on_loaded(error: Exception | None) -> None:
            if error is None:
                announce(f"ready: {url}/retrieve")
                return
            failures.append(error)
            server.should_exit = True

        announce(f"listening at {url}, loading the index")
        if not _is_local(config.host) and not os.environ.get(TOKEN_VARIABLE):
            announce(f"anyone who can reach {config.host} may search: ${TOKEN_VARIABLE} is not set")
        app = create_app(build, config, on_loaded)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_connections(config.idle_seconds),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=config.max_connections,
                timeout_graceful_shutdown=config.stop_seconds,
            )
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if failures:
        raise failures[0]


def _connections(idle_seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's connections, of which those that only stay are closed: it bounds the time between
    two requests, but waits for ever for a first one, for a head that has begun, and for a client
    that does not read. Each of them would take one of `max_connections`.
    """
    base: Any = AutoHTTPProtocol

    class Connection(base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._look_again((None, 0))

        def connection_lost(self, error: Exception | None) -> None:
            self._look.cancel()
            super().connection_lost(error)

        def _look_again(self, before: tuple[Any, int]) -> None:
            self._look = self.loop.call_later(idle_seconds, self._close_if_idle, before)

        def _close_if_idle(self, before: tuple[Any, int]) -> None:
            waits = self.cycle is None or self.cycle.response_complete
            unread = self.transport.get_write_buffer_size()
            now = (self.cycle if waits or unread else object(), unread)
            if now == before:
                self.transport.abort()
            else:
                self._look_again(now)

    return Connection


async def _read_body(request: Request, service: Service) -> bytes:
    most, most_arriving = service.config.max_body_bytes, service.config.max_arriving_bytes
    too_large = Refusal(413, f"the request has more than {most} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(service.config.body_seconds):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                service.arriving_bytes += len(part)
                if size > most:
                    raise too_large
                # Alone it is taken whatever its size, or it never would be.
                if service.arriving_bytes > max(most_arriving, size):
                    raise Refusal(503, "the server is busy: too much is arriving")
    except TimeoutError:
        raise Refusal(408, "the request took too long to arrive") from None
    finally:
        service.arriving_bytes -= size
    return b"".join(parts)


def _check_token(request: Request, token: bytes) -> None:
    if not token:
        return
    given = request.headers.get("authorization", "").encode("latin-1")
    if not hmac.compare_digest(given, b"Bearer " + token):
        raise Refusal(401, "a bearer token is needed")


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _refused(refusal: Refusal) -> Response:
    headers = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}
    return _json(encode(refusal.fields), refusal.status, headers.get(refusal.status))


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
