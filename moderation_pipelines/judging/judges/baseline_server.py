"""An OpenAI-compatible endpoint on loopback that serves the baseline judge, for as long as a block runs.

It speaks chat completions, so the baseline goes through the same client as any LLM.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moderation_pipelines.judging.judges.baseline import BaselineModel

Send = Callable[[dict[str, Any]], Any]
_ITEM = re.compile(r"<item ([0-9a-f]+)>\n(.*)\n</item \1>", re.DOTALL)
_CONTEXT = re.compile(r"\A\[context\]\n.*?\n\[/context\]\n", re.DOTALL)


class BaselineApp:
    """The ASGI application: /v1/chat/completions and /v1/models."""

    def __init__(self, models: Mapping[str, BaselineModel]) -> None:
        self.models = models
        self.served = 0

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        status, answer = self.respond(scope["method"], scope["path"], body)
        payload = json.dumps(answer, ensure_ascii=False).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """(HTTP status, JSON answer) of one request."""
        if method == "GET" and path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
        if method != "POST" or path != "/v1/chat/completions":
            return 404, _error("no such address", "not_found")
        try:
            asked = json.loads(body)
            content = asked["messages"][-1]["content"]
            model = self.models.get(asked["model"])
        except (ValueError, KeyError, IndexError, TypeError):
            return 400, _error("not a chat completion request", "invalid_request")
        if model is None:
            return 404, _error("no such model", "model_not_found")
        match = _ITEM.search(content)
        if match is None:
            return 400, _error("the last message holds no item", "invalid_request")
        text = _CONTEXT.sub("", match.group(2))
        label, p = model.answer(text)
        self.served += 1
        said = {"label": label, "p_violating": round(p, 6), "rationale": "character n-grams"}
        return 200, {
            "id": f"chatcmpl-{self.served}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": json.dumps(said)},
                }
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI app on a free port of 127.0.0.1 while the block runs. Yields its base URL, ending in /v1."""
    import uvicorn

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise RuntimeError("the baseline endpoint did not start")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
