"""YAML read safely, with the line every value stands on, so that messages can name it.

Aliases are refused (a few bytes of them can stand for gigabytes) and so are repeated keys, of which YAML would
silently keep the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean

Step = str | int

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
                if key in out:
                    problems.append(Problem(file, line, f'key "{key}" stands twice; keep one'))
                    continue
                located.lines[(*path, key)] = line
                out[key] = build(value_node, (*path, key), inside)
            return out
        if isinstance(node, yaml.SequenceNode):
            return [build(child, (*path, i), inside) for i, child in enumerate(node.value)]
        try:
            return constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, AttributeError, LookupError):
            line = node.start_mark.line + 1 + line_offset
            problems.append(Problem(file, line, f"value cannot be read as {node.tag.rpartition(':')[2]}; quote it"))
            return None

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = (event.start_mark.line if event.start_mark else 0) + 1 + line_offset
                raise UserError([Problem(file, line, f'alias "*{event.anchor}" is not allowed; write the value out')])
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
        where = None if mark is None else mark.line + 1 + line_offset
        raise UserError([Problem(file, where, f"not valid YAML: {what}")]) from None
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
        elif kind in ("string_type", "dict_type", "model_type") and isinstance(given, bool | int | float):
            hint = f'quote it: "{"no" if given is False else "yes" if given is True else given}"'
            message = f'"{dotted}" is {given!r}, not text; {hint}'
        elif where and where[-1] in SECRETIVE:
            message = f'"{dotted}": {item["msg"].removeprefix("Value error, ").lower()}; {SECRETIVE[str(where[-1])]}'
        else:
            shown = repr(given)[:60]
            message = f'"{dotted}" is {shown}: {item["msg"][0].lower()}{item["msg"][1:]}'
        found.append(located.problem((*inside, *where), message))
    return found


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
