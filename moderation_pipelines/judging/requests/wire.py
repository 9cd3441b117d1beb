"""The bytes on the wire: what a judge is sent for an item, and the identity of that request.

The body is built once for judge and policy, with a hole for the item: the constant part comes first and is hashed
once. The bytes are those the official client would send for the same arguments (a test holds it to that).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from moderation_pipelines.judging.capabilities import Profile
from moderation_pipelines.judging.judges_file import Api, Judge
from moderation_pipelines.judging.requests.outcomes import LabelSet, answer_schema
from moderation_pipelines.prompting.prompts import Prompt, fenced_item

KEY_VERSION = 2
PATHS: dict[str, str] = {"chat": "/chat/completions", "responses": "/responses", "decisions": "/decisions"}
_HOLE = "\x00item\x00"
_REPAIR = (
    "Your answer could not be read. Answer the same question again with one JSON object and nothing else: "
    '{"label": one of LABELS, "clause": the id of the clause it rests on or "", "evidence": the words of the item it '
    'rests on or "", "p_violating": a number from 0 to 1, "rationale": one short sentence}'
)


@dataclass(frozen=True)
class RequestTemplate:
    """Requests of one judge with one prompt: everything but the item.

    ``asked`` names who is asked (the endpoint's address, or the baseline). The key covers its version, the interface,
    who is asked, how the answer is read, and the exact body with model, schema and parameters; not timeout, retries,
    concurrency, or whether it goes by batch. ``salt`` sets apart what is asked again on purpose.
    """

    api: Api
    asked: str
    body_with_hole: dict[str, Any]
    labels: LabelSet
    salt: str = ""

    @cached_property
    def _parts(self) -> tuple[bytes, bytes]:
        head, tail = _bytes(self.body_with_hole).split(_bytes(_HOLE))
        return head, tail

    @cached_property
    def _hash(self) -> Any:
        reading = [list(self.labels.ids), sorted(self.labels.violating), list(self.labels.clauses)]
        identity = json.dumps([KEY_VERSION, self.api, self.asked, reading, self.salt], ensure_ascii=False)
        started = hashlib.blake2b(identity.encode("utf-8", "surrogatepass") + b"\0", digest_size=16)
        started.update(self._parts[0])
        return started

    @property
    def path(self) -> str:
        return PATHS[self.api]

    @cached_property
    def constant_bytes(self) -> int:
        return sum(len(p) for p in self._parts)

    def item(self, text: str, context: str | None) -> bytes:
        """An item as it stands in the body: fenced, as a JSON string."""
        # A copy: what orjson returns holds on to 4 KB however short it is.
        return b'"' + orjson.dumps(fenced_item(text, context))[1:]

    def key(self, item: bytes) -> bytes:
        """Identity of the request for an item (16 bytes)."""
        hashed = self._hash.copy()
        hashed.update(item)
        hashed.update(self._parts[1])
        return bytes(hashed.digest())

    def body(self, item: bytes) -> bytes:
        """The exact bytes to send for an item."""
        head, tail = self._parts
        return head + item + tail

    def repair_body(self, item: bytes, answer: str) -> bytes | None:
        """The body that shows the judge its unreadable answer and asks once more; None where that cannot be done."""
        if self.api == "decisions":
            return None
        head, tail = self._parts
        asked = _REPAIR.replace("LABELS", json.dumps(list(self.labels.ids), ensure_ascii=False))
        said = orjson.dumps(answer[:2000].encode("utf-8", "replace").decode())
        return b"%s%s},{\"role\":\"assistant\",\"content\":%s},{\"role\":\"user\",\"content\":%s%s" % (
            head, item, said, orjson.dumps(asked), tail,
        )  # fmt: skip


def _bytes(value: Any) -> bytes:
    """JSON as the official client writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def request_template(
    api: Api, judge: Judge, profile: Profile, prompt: Prompt, labels: LabelSet, asked: str, salt: str = ""
) -> RequestTemplate:
    """The template of a judge's requests, within what the endpoint can do."""
    make = {"chat": _chat, "responses": _responses, "decisions": _decisions}[api]
    return RequestTemplate(api, asked, make(judge, profile, prompt, labels), labels, salt)


def _chat(judge: Judge, profile: Profile, prompt: Prompt, labels: LabelSet) -> dict[str, Any]:
    # In the order in which the official client sends a chat completion's arguments.
    body: dict[str, Any] = {
        "model": judge.model,
        "messages": [{"role": "system", "content": prompt.system}, {"role": "user", "content": _HOLE}],
    }
    if profile.logprobs:
        body["logprobs"] = True
    body[profile.max_tokens_field] = judge.max_tokens
    if profile.json_schema:
        schema = {"name": "judgement", "strict": True, "schema": answer_schema(labels)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if profile.seed:
        body["seed"] = judge.seed
    if profile.temperature:
        body["temperature"] = judge.temperature
    if profile.logprobs:
        body["top_logprobs"] = 20
    return body


def _responses(judge: Judge, profile: Profile, prompt: Prompt, labels: LabelSet) -> dict[str, Any]:
    body: dict[str, Any] = {"model": judge.model}
    if profile.logprobs:
        body["include"] = ["message.output_text.logprobs"]
    body |= {
        "input": [{"role": "user", "content": _HOLE}],
        "instructions": prompt.system,
        "max_output_tokens": judge.max_tokens,
        "store": False,
    }
    if profile.temperature:
        body["temperature"] = judge.temperature
    if profile.json_schema:
        schema = {"type": "json_schema", "name": "judgement", "strict": True, "schema": answer_schema(labels)}
        body["text"] = {"format": schema}
    if profile.logprobs:
        body["top_logprobs"] = 20
    return body


def _decisions(judge: Judge, profile: Profile, prompt: Prompt, labels: LabelSet) -> dict[str, Any]:
    choices = [{"value": label} for label in labels.ids]
    question = {"choices": choices, "instructions": prompt.system, "type": "choice", "name": "label"}
    return {"model": judge.model, "input": _HOLE, "questions": [question]}
