"""The fake endpoint's wire: HTTP/1.1 on 127.0.0.1, with resets, stalls and bodies that dribble."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httptools

from moderation_pipelines.fake_endpoint.answers import Said
from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint

HOST = "127.0.0.1"


class _Connection(asyncio.Protocol):
    """One connection: requests are answered one after the other."""

    def __init__(self, endpoint: FakeEndpoint) -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._headers, self._body = b"", {}, []  # type: ignore[var-annotated]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        if name.lower() == b"expect":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        work = self._answer(method, self._url.decode("latin-1"), self._headers, b"".join(self._body))
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._begin()

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        said = await self.endpoint.handle(method, path, headers, body)
        if self.transport.is_closing():
            return
        plan = self.endpoint.plan
        if said.how == "reset":
            self.transport.abort()
            return
        if said.how == "stall":
            await asyncio.sleep(plan.stall_seconds)
        head = _head(said)
        if said.how in ("slow", "reset_in_body"):
            middle = max(1, len(said.body) // 2)
            self.transport.write(head + said.body[:middle])
            await asyncio.sleep(plan.slow_body_seconds if said.how == "slow" else 0.01)
            if said.how == "reset_in_body":
                self.transport.abort()
                return
            self.transport.write(said.body[middle:])
            return
        if not self.transport.is_closing():
            self.transport.write(head + said.body)


def _head(said: Said) -> bytes:
    lines = [f"HTTP/1.1 {said.status} {'OK' if said.status == 200 else 'Planned'}", "content-type: application/json"]
    lines += [f"content-length: {len(said.body)}", *(f"{k}: {v}" for k, v in said.headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def serve(
    endpoint: FakeEndpoint, port: int, started: Any = None, stop: asyncio.Event | None = None, secure: Any = None
) -> None:
    """Serve on a port of 127.0.0.1 (0: a free one) until ``stop`` is set. ``started`` hears the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(endpoint), HOST, port, backlog=4096, ssl=secure)
    if started is not None:
        started(server.sockets[0].getsockname()[1])
    try:
        await (stop or asyncio.Event()).wait()
    finally:
        server.close()


@contextmanager
def serving_fake(endpoint: FakeEndpoint, secure: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve in a thread while the block runs. Yields the base URL, ending in /v1."""
    from moderation_pipelines.judging.calls.engine import run_async

    ready = threading.Event()
    where: dict[str, Any] = {}

    async def main() -> None:
        where["loop"], where["stop"] = asyncio.get_running_loop(), asyncio.Event()

        def started(port: int) -> None:
            where["port"] = port
            ready.set()

        await serve(endpoint, 0, started, where["stop"], secure)

    thread = threading.Thread(target=lambda: run_async(main()), name="fake-endpoint", daemon=True)
    thread.start()
    if not ready.wait(30):
        raise RuntimeError("the fake endpoint did not start")
    try:
        yield f"{'https' if secure else 'http'}://{HOST}:{where['port']}/v1"
    finally:
        where["loop"].call_soon_threadsafe(where["stop"].set)
        thread.join(timeout=30)
