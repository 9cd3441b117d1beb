"""One call on the wire: prepared bytes out; status, headers and body back, or why none came.

``SdkTransport`` is the official client with its retries off. ``DirectTransport`` is aiohttp alone: a third of the
processor time a call, for local servers that are faster than the client. Both send the same bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlparse

from moderation_pipelines.judging.judges_file import Endpoint

LOOPBACK = ("127.0.0.1", "localhost", "::1")
Broken = Literal["timeout", "refused", "unresolved", "certificate", "tls", "connection", "client"]


@dataclass(slots=True)
class Reply:
    """An HTTP answer, whatever its status. Header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(Exception):
    """No answer came. ``kind`` says why; ``sent`` is False only if the request surely never reached the endpoint."""

    def __init__(self, kind: Broken, message: str, sent: bool = True) -> None:
        super().__init__(message)
        self.kind, self.message, self.sent = kind, message, sent


class Transport(Protocol):
    """A way for requests to go."""

    async def post(self, path: str, body: bytes) -> Reply: ...
    async def close(self) -> None: ...


def on_this_machine(url: str) -> bool:
    return (urlparse(url).hostname or "") in LOOPBACK


def transport_for(endpoint: Endpoint, key: str) -> DirectTransport | SdkTransport:
    """The transport an endpoint asks for. To be made inside a running event loop."""
    return DirectTransport(endpoint, key) if endpoint.transport == "direct" else SdkTransport(endpoint, key)


def _why(error: BaseException, url: str) -> NoReply:
    """A connection's failure in plain words, found anywhere along its chain of causes."""
    import aiohttp

    host = urlparse(url).netloc
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
            return NoReply("certificate", f"the certificate of {host} is not accepted", sent=False)
        broken = seen.os_error if isinstance(seen, aiohttp.ClientConnectorError) else None
        if isinstance(seen, aiohttp.ClientConnectorSSLError) or isinstance(broken, ssl.SSLError):
            return NoReply("tls", f"no secure connection to {host} (is it plain http?)", sent=False)
        if isinstance(seen, aiohttp.ClientConnectorDNSError):
            return NoReply("unresolved", f"the name {host} cannot be resolved", sent=False)
        if isinstance(seen, ConnectionRefusedError | aiohttp.ClientConnectorError):
            return NoReply("refused", f"no connection to {host}", sent=False)
        seen = seen.__cause__ or seen.__context__
    return NoReply("connection", "the connection broke before the answer was complete")


def _timed_out(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class DirectTransport:
    """aiohttp, keep-alive, as many connections as there are workers."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        import aiohttp

        self._base, self._seconds = endpoint.base_url, endpoint.timeout_seconds
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        self._errors = (aiohttp.ClientError, OSError, ValueError)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_seconds),
            trust_env=not on_this_machine(endpoint.base_url),
            skip_auto_headers=("user-agent",),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def post(self, path: str, body: bytes) -> Reply:
        return await self._call("POST", path, data=body)

    async def get(self, path: str) -> Reply:
        return await self._call("GET", path)

    async def upload(self, name: str, content: Any) -> Reply:
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content, filename=name, content_type="application/jsonl")
        headers = {"authorization": self._headers["authorization"]}
        return await self._call("POST", "/files", data=form, headers=headers, seconds=3600)

    async def download(self, path: str, to: Path) -> int:
        """Stream a body into a file. Returns the status."""
        import aiohttp

        try:
            timeout = aiohttp.ClientTimeout(total=3600)
            async with self._session.get(self._base + path, headers=self._headers, timeout=timeout) as response:
                with to.open("wb") as stream:
                    async for part in response.content.iter_chunked(1 << 16):
                        stream.write(part)
                return response.status
        except TimeoutError:
            raise NoReply("timeout", "no answer within an hour") from None
        except self._errors as error:
            raise _why(error, self._base) from None

    async def _call(self, method: str, path: str, seconds: float | None = None, **more: Any) -> Reply:
        import aiohttp

        more.setdefault("headers", self._headers)
        if seconds is not None:
            more["timeout"] = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(method, self._base + path, allow_redirects=False, **more) as response:
                body = await response.read()
                return Reply(response.status, response.headers, body)
        except TimeoutError:
            raise NoReply("timeout", f"no answer within {seconds or self._seconds:g} s") from None
        except self._errors as error:
            raise _why(error, self._base) from None

    async def close(self) -> None:
        await self._session.close()


class SdkTransport:
    """The official client (``openai``) over aiohttp with prepared bytes; its own retries are off."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        import httpx2
        import openai

        self._base, self._seconds = endpoint.base_url, endpoint.timeout_seconds
        self._answer, self._errors = httpx2.Response, openai
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30)
        http_client = openai.DefaultAioHttpClient(
            limits=limits, trust_env=not on_this_machine(self._base), follow_redirects=False
        )
        self._client = openai.AsyncOpenAI(
            api_key=key, base_url=self._base, max_retries=0, timeout=self._seconds, http_client=http_client
        )
        self._options: Any = {"headers": {"content-type": "application/json"}}

    async def post(self, path: str, body: bytes) -> Reply:
        return await self._call(
            self._client.post(path, content=body, cast_to=self._answer, options=self._options), self._seconds
        )

    async def get(self, path: str) -> Reply:
        return await self._call(self._client.get(path, cast_to=self._answer), self._seconds)

    async def upload(self, name: str, content: Any) -> Reply:
        body, files = {"purpose": "batch"}, [("file", (name, content, "application/jsonl"))]
        options: Any = {"headers": {"content-type": "multipart/form-data"}, "timeout": 3600}
        call = self._client.post("/files", cast_to=self._answer, body=body, files=files, options=options)
        return await self._call(call, 3600)

    async def _call(self, call: Any, seconds: float) -> Reply:
        try:
            async with asyncio.timeout(seconds):
                answer = await call
        except TimeoutError:
            raise NoReply("timeout", f"no answer within {seconds:g} s") from None
        except self._errors.APIStatusError as error:
            answer = error.response
        except self._errors.APIConnectionError as error:
            # The client calls every failure of a connection a timeout: its causes tell which it was.
            if _timed_out(error):
                raise NoReply("timeout", f"no answer within {seconds:g} s") from None
            raise _why(error, self._base) from None
        except (self._errors.APIError, ValueError):
            raise NoReply("client", "the client could not read the answer") from None
        return Reply(answer.status_code, answer.headers, answer.content)

    async def close(self) -> None:
        await self._client.close()
