"""Files and batches of the fake endpoint, in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from moderation_pipelines.fake_endpoint.answers import Said, draw, error
from moderation_pipelines.fake_endpoint.plan import Plan

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
Line = Callable[[str, dict[str, Any]], Said]


@dataclass
class _Batch:
    id: str
    file: str
    url: str
    polls: int = 0
    status: str = "validating"
    output: str | None = None
    errors: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})
    metadata: dict[str, str] = field(default_factory=dict)


class BatchStore:
    """Uploads, batches and their results. A batch ends after ``batch_polls`` looks at it, as the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, _Batch] = {}

    def stats(self) -> dict[str, int]:
        return {"files": len(self.files), "batches": len(self.batches)}

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes, line: Line) -> Said:
        parts = path.split("/")[2:]
        if method == "POST" and parts == ["files"]:
            content = _uploaded(headers.get("content-type", ""), body)
            if content is None:
                return error(400, "no file in the form", "invalid_request")
            name = self._keep(content)
            return Said(200, orjson.dumps({"id": name, "object": "file", "bytes": len(content), "purpose": "batch"}))
        if method == "GET" and len(parts) == 3 and parts[0] == "files" and parts[2] == "content":
            found = self.files.get(parts[1])
            return error(404, "no such file", "not_found") if found is None else Said(200, found)
        if method == "POST" and parts == ["batches"]:
            asked = orjson.loads(body)
            if asked["input_file_id"] not in self.files:
                return error(400, "no such file", "invalid_request")
            name = f"batch_{len(self.batches) + 1:04d}"
            made = _Batch(name, asked["input_file_id"], asked["endpoint"], metadata=asked.get("metadata") or {})
            self.batches[name] = made
            return Said(200, orjson.dumps(self._shown(made)))
        if method == "GET" and parts == ["batches"]:
            listed = [self._shown(b) for b in reversed(self.batches.values())]
            return Said(200, orjson.dumps({"object": "list", "data": listed, "has_more": False}))
        batch = self.batches.get(parts[1]) if len(parts) >= 2 and parts[0] == "batches" else None
        if batch is None:
            return error(404, "no such batch", "not_found")
        if method == "POST" and parts[2:] == ["cancel"]:
            self._finish(batch, line, "cancelled", self.plan.batch_share)
        elif method == "GET":
            self._look(batch, line)
        return Said(200, orjson.dumps(self._shown(batch)))

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1:04d}"
        self.files[name] = content
        return name

    def _look(self, batch: _Batch, line: Line) -> None:
        if batch.status not in ("validating", "in_progress"):
            return
        batch.polls += 1
        if batch.polls <= self.plan.batch_polls:
            batch.status = "in_progress"
            return
        self._finish(batch, line, self.plan.batch_ends, self.plan.batch_share)

    def _finish(self, batch: _Batch, line: Line, status: str, share: float) -> None:
        if batch.status not in ("validating", "in_progress"):
            return
        lines = [x for x in self.files[batch.file].split(b"\n") if x.strip()]
        batch.counts["total"] = len(lines)
        batch.status = status
        if status == "failed":
            return
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for raw in lines:
            entry = orjson.loads(raw)
            name = entry["custom_id"]
            if share < 1 and draw(self.plan, "batch", name) >= share:
                if status == "expired":
                    late = {"code": "batch_expired", "message": "not done in time"}
                    bad.append({"id": name, "custom_id": name, "response": None, "error": late})
                continue
            said = line(entry["url"], entry["body"])
            response = {"status_code": said.status, "request_id": f"req_{name[:8]}", "body": orjson.loads(said.body)}
            out = {"id": name, "custom_id": name, "response": response, "error": None}
            (good if said.status == 200 else bad).append(out)
        batch.counts |= {"completed": len(good), "failed": len(bad)}
        # Results come in no order.
        good.sort(key=lambda r: draw(self.plan, "order", str(r["custom_id"])))
        batch.output = self._keep(b"\n".join(orjson.dumps(r) for r in good) + b"\n") if good else None
        batch.errors = self._keep(b"\n".join(orjson.dumps(r) for r in bad) + b"\n") if bad else None

    def _shown(self, batch: _Batch) -> dict[str, Any]:
        errors = {"data": [{"code": "invalid_file", "message": "as planned"}]}
        return {
            "id": batch.id, "object": "batch", "endpoint": batch.url, "input_file_id": batch.file,
            "status": batch.status, "output_file_id": batch.output, "error_file_id": batch.errors,
            "request_counts": batch.counts, "metadata": batch.metadata, "completion_window": "24h",
            "errors": errors if batch.status == "failed" else None,
        }  # fmt: skip


def _uploaded(content_type: str, body: bytes) -> bytes | None:
    """The file of a multipart form, or None."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    for part in body.split(b"--" + found.group(1).encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    return None
