"""The few-shot library of a policy: ``prompts/<policy>/examples.jsonl``, one example per line."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean, shown
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import read_text
from moderation_pipelines.policies.policy import Policy

_KEYS = ("text", "label", "rationale", "context", "locale", "item_id")


@dataclass(frozen=True)
class Example:
    """One worked example. Its text, and any item with the same normalised text, never enters an eval set."""

    text: str
    label: str
    rationale: str = ""
    context: str = ""
    locale: str = ""
    item_id: str = ""

    @property
    def text_sha256(self) -> str:
        # Imported here: the scoring engine reads prompts and has no use for what ingestion needs.
        from moderation_pipelines.foundation.text import text_sha256

        return text_sha256(self.text)


def load_examples(home: Home, policy: Policy) -> list[Example]:
    """The policy's examples in file order; none without a file. Raises :class:`UserError` with every bad line."""
    path = home.prompts / policy.id / "examples.jsonl"
    if not path.exists():
        return []
    file = home.relative(path)
    examples, problems = [], []
    for number, line in enumerate(read_text(path, file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            problems.append(Problem(file, number, f"not valid JSON at column {error.colno}; one object per line"))
            continue
        if not isinstance(value, dict):
            problems.append(Problem(file, number, 'must be an object like {"text": …, "label": …}'))
            continue
        found = [f'key "{k}" is not known{did_you_mean(k, _KEYS)}' for k in value if k not in _KEYS]
        found += [f'"{k}" must be text' for k in _KEYS if k in value and not isinstance(value[k], str)]
        found += [f'"{k}" is missing' for k in ("text", "label") if not value.get(k)]
        label = value.get("label")
        if isinstance(label, str) and label and label not in policy.label_ids:
            hint = did_you_mean(label, policy.label_ids)
            found.append(f'label {shown(label, policy.label_ids)} is not in policy "{policy.id}"{hint}')
        problems += [Problem(file, number, message) for message in found]
        if not found:
            examples.append(Example(**value))
    if problems:
        raise UserError(problems)
    return examples
