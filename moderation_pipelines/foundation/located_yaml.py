"""YAML read safely, with the line every value stands on, so that messages can name it.

Aliases are refused (a few bytes of them can stand for gigabytes) and so are repeated keys, of which YAML would
silently keep the last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean

Step = str | int
_KEY_LIMIT = 256
_DEPTH = 200

# Keys whose value may hold a secret by mistake: it is never shown; this says how to fix it.
SECRETIVE = {
    "api_key_env": "give the name of an environment variable in capitals, e.g. OPENAI_API_KEY",
    "base_url": "give an address like https://host/v1, without key or password",
}


@dataclass
class Located:
    """Plain data from a YAML file, and the line of each value by its path."""

    file: str
    value: Any
    lines: dict[tuple[Step, ...], int] = field(default_factory=dict)

    def line(self, path: tuple[Step, ...]) -> int | None:
        """The line of the value at ``path``, or of the nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def problem(self, path: tuple[Step, ...], message: str) -> Problem:
        return Problem(self.file, self.line(path), message)


def parse_yaml(text: str, file: str, line_offset: int = 0) -> Located:
    """Parse one document. Raises :class:`UserError` with file and line for broken YAML, aliases, repeated keys."""
    problems: list[Problem] = []
    located = Located(file, None)
    constructor = yaml.constructor.SafeConstructor()

    def build(node: yaml.Node, path: tuple[Step, ...], inside: tuple[int, ...]) -> Any:
        located.lines.setdefault(path, node.start_mark.line + 1 + line_offset)
        if isinstance(node, yaml.MappingNode):
            out: dict[str, Any] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1 + line_offset
                if not isinstance(key_node, yaml.ScalarNode):
                    problems.append(Problem(file, line, "a key must be plain text"))
                    continue
                key = key_node.value
                if len(key) > _KEY_LIMIT or any("\ud800" <= c <= "\udfff" for c in key):
                    problems.append(Problem(file, line, f"a key must be text of at most {_KEY_LIMIT} characters"))
                    continue
                if key in out:
                    problems.append(Problem(file, line, f'key "{key}" stands twice; keep one'))
                    continue
                located.lines[(*path, key)] = line
                out[key] = build(value_node, (*path, key), inside)
            return out
        if isinstance(node, yaml.SequenceNode):
            return [build(child, (*path, i), inside) for i, child in enumerate(node.value)]
        line = node.start_mark.line + 1 + line_offset
        if any("\ud800" <= c <= "\udfff" for c in node.value):
            problems.append(Problem(file, line, "holds a lone surrogate escape; write the whole character"))
            return None
        try:
            return constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, LookupError):
            problems.append(Problem(file, line, f"value cannot be read as {node.tag.rpartition(':')[2]}; quote it"))
            return None

    if _too_nested(text):
        raise UserError([Problem(file, None, "nested too deeply")])
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = (event.start_mark.line if event.start_mark else 0) + 1 + line_offset
                raise UserError([Problem(file, line, f'alias "*{event.anchor}" is not allowed; write the value out')])
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
        where = None if mark is None else mark.line + 1 + line_offset
        raise UserError([Problem(file, where, f"not valid YAML: {_in_words(said)}")]) from None
    except RecursionError:
        raise UserError([Problem(file, None, "nested too deeply")]) from None
    if node is not None:
        try:
            located.value = build(node, (), ())
        except RecursionError:
            raise UserError([Problem(file, None, "nested too deeply")]) from None
    if problems:
        raise UserError(problems)
    return located


def _too_nested(text: str) -> bool:
    """Whether brackets stand in each other deeper than anybody writes; the parser takes the square of that."""
    depth = 0
    for sign in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if sign[0] in "[{" else max(0, depth - 1)
        if depth > _DEPTH:
            return True
    return False


# What the parser says, by how it begins, and what a person can do about it.
_SAID = {
    "mapping values are not allowed": 'a value holds ": " itself; put the value in quotes, e.g. title: "a: b"',
    "found character '\\t'": "a tab is used for indentation; use spaces",
    "found character": "a value begins with a character that YAML reserves; put it in quotes",
    "could not find expected ':'": 'a line is neither "key: value" nor part of a list; is a ":" or a space missing?',
    "found unexpected end of stream": "a quote is opened and not closed",
    "expected ',' or": "a [ or { is not closed, or a comma is missing before this line",
    "expected <block end>": "this line is not indented like the lines around it, or a quote before it is not closed",
    "expected the node content": "a value is missing here, or a character is misplaced",
    "special characters are not allowed": "it holds control characters; save it again as plain UTF-8 text",
    "found unknown escape": "a \\ in double quotes; write \\\\ or use single quotes",
    "expected a single document": "the file has more than one YAML document (---); keep one",
    "but found another document": "the file has more than one YAML document (---); keep one",
}


def _in_words(said: str) -> str:
    return next((words for start, words in _SAID.items() if said.startswith(start)), said or "it cannot be parsed")


def read_text(path: Path, file: str) -> str:
    """A text file's content; a file that cannot be read or is not UTF-8 is a :class:`UserError`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError([Problem(file, line, "not UTF-8; save the file as UTF-8")]) from None
    except OSError as error:
        raise UserError([Problem(file, None, f"cannot be read: {error.strerror}")]) from None


def model_problems(
    error: ValidationError, located: Located, model: type[BaseModel], inside: tuple[Step, ...] = ()
) -> list[Problem]:
    """Pydantic's complaints as problems with file, line and how to fix it. ``inside``: where the model stands in the
    file."""
    found = []
    errors = error.errors(include_url=False)
    for item in errors:
        path = tuple(item["loc"])
        if any(len(other["loc"]) > len(path) and tuple(other["loc"])[: len(path)] == path for other in errors):
            continue  # what pydantic says of the whole follows from what is wrong inside
        where: tuple[Step, ...] = tuple(p for p in path if isinstance(p, str | int))
        dotted = ".".join(str(p) for p in where)
        kind, given = item["type"], item.get("input")
        if kind == "extra_forbidden":
            known = _known_keys(model, where[:-1])
            message = f'key "{where[-1]}" is not known{did_you_mean(str(where[-1]), known)}'
        elif kind == "missing":
            message = f'"{dotted}" is missing'
        elif kind == "literal_error":
            allowed = str(item.get("ctx", {}).get("expected", "")).replace("'", '"')
            message = f'"{dotted}" is {given!r}; allowed: {allowed}'
        elif kind.startswith("value_error") and not (where and where[-1] in SECRETIVE):
            message = f'"{dotted}": {item["msg"].removeprefix("Value error, ")}'
        elif kind in ("tuple_type", "list_type"):
            message = f'"{dotted}" is {given!r:.60}: give a list, e.g. [{given!r:.40}]'
        elif kind == "string_type" and isinstance(given, bool | int | float):
            hint = f'quote it: "{"no" if given is False else "yes" if given is True else given}"'
            message = f'"{dotted}" is {given!r}, not text; {hint}'
        elif where and where[-1] in SECRETIVE:
            ours = (
                item["msg"].removeprefix("Value error, ").lower()
                if kind.startswith("value_error")
                else _asked(item, [])
            )
            message = f'"{dotted}": {ours}; {SECRETIVE[str(where[-1])]}'
        else:
            message = f'"{dotted}" is {repr(given)[:60]}; it {_asked(item, _known_keys(model, where))}'
        found.append(located.problem((*inside, *where), message))
    return found


def _asked(item: Any, keys: Sequence[str]) -> str:
    """What a value must be, in our words, by the kind of pydantic's complaint. ``keys``: those a mapping may have."""
    limits = item.get("ctx", {})
    words = {
        "int": "must be a whole number",
        "float": "must be a number",
        "finite_number": "must be a number",
        "bool": "must be true or false",
        "string_too_short": "must not be empty",
        "string_too_long": f"must have at most {limits.get('max_length')} characters",
        "string": "must be text",
        "too_short": f"must have at least {limits.get('min_length')} entries",
        "too_long": f"must hold at most {limits.get('max_length')}",
        "greater_than_equal": f"must be {limits.get('ge')} or more",
        "greater_than": f"must be more than {limits.get('gt')}",
        "less_than_equal": f"must be {limits.get('le')} or less",
        "less_than": f"must be less than {limits.get('lt')}",
        "date": "must be a date like 2026-11-21",
        "model": "must be a mapping" + (f" with the keys {', '.join(keys)}" if keys else ""),
        "dict": "must be a mapping",
        "list": "must be a list",
        "tuple": "must be a list",
    }
    kind = item["type"]
    return next((asked for start, asked in words.items() if kind.startswith(start)), "is not valid here")


def _known_keys(model: type[BaseModel], path: tuple[Step, ...]) -> list[str]:
    """Keys allowed at ``path`` inside a model, following nested models and lists of them."""
    current: Any = model
    free_key = False
    for step in path:
        if isinstance(step, int) or free_key:
            free_key = False
            continue
        fields = getattr(current, "model_fields", {})
        if step not in fields:
            return []
        annotation = fields[step].annotation
        current, free_key = _inner_model(annotation), getattr(annotation, "__origin__", None) is dict
    return [f.alias or name for name, f in getattr(current, "model_fields", {}).items()]


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (inner := _inner_model(argument)) is not None:
            return inner
    return None
