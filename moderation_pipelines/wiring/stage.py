"""What a stage is: a folder, and one line in ``orchestration/stages.py``. Everything else is derived from this.

Belongs here: the shape of a stage. Not here: any stage. Parts that cost time to import are references
(``package.module:name``), resolved when they are used; a test resolves them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

from moderation_pipelines.foundation.errors import Problem
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.registry import resolve
from moderation_pipelines.tables.table import Table

Phase = Literal["day", "line"]


@dataclass(frozen=True)
class HomeFile:
    """Files of ``prompts/`` a person edits: what kind they are of and where they lie.

    ``pattern``: a glob relative to ``prompts/``. ``in_force``: whether a day is computed by them, so that their bytes
    are kept for it.
    """

    kind: str
    pattern: str
    in_force: bool = True


@dataclass(frozen=True)
class Command:
    """A command of the command line: its name, what it does in one sentence, and the function (or Typer app) behind
    it."""

    name: str
    help: str
    run: str

    def load(self) -> Any:
        return resolve(self.run)


@dataclass(frozen=True)
class Stage:
    """One stage of the line.

    ``charter``: what belongs in it and what does not. ``phase``: ``day`` tables are made for every day, ``line`` ones
    for the newest. ``assets``: reference to ``build(days) -> list of assets``. ``home_files``: what a person edits
    for it, and ``problems``: reference to ``(home) -> list of Problem`` that checks them. ``thresholds``: a pydantic
    model of its limits, overridable in ``prompts/settings.yaml``. ``sections`` and ``advice``: references to
    functions of ``(warehouse, day)`` for the report. ``commands``: its part of the command line.
    """

    name: str
    charter: str
    phase: Phase = "line"
    tables: tuple[Table, ...] = ()
    assets: str | None = None
    home_files: tuple[HomeFile, ...] = ()
    problems: str | None = None
    thresholds: type | None = None
    sections: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    commands: tuple[Command, ...] = field(default=())

    @property
    def code_version(self) -> str:
        """Changes whenever a source file of the stage does; empty for a stage without assets."""
        return "" if self.assets is None else sources_version(self.assets.partition(":")[0].rpartition(".")[0])

    def build_assets(self, days: Any) -> list[Any]:
        return [] if self.assets is None else list(resolve(self.assets)(days))

    def home_problems(self, home: Home) -> list[Problem]:
        """Every mistake in the files a person edits for this stage."""
        try:
            return [] if self.problems is None else list(resolve(self.problems)(home))
        except Exception as error:  # noqa: BLE001 - a stage of another package that fails is told, the others go on
            return [Problem("prompts", None, f"stage {self.name} cannot check its files ({type(error).__name__})")]


def _sources(folder: Traversable, within: str = "") -> Iterator[tuple[str, bytes]]:
    for path in folder.iterdir():
        name = f"{within}{path.name}"
        if path.is_dir():
            yield from _sources(path, f"{name}/")
        elif name.endswith(".py"):
            yield name, path.read_bytes()


@cache
def sources_version(package: str) -> str:
    """A hash over the source files of a package, those of its folders too."""
    digest = hashlib.sha256()
    for name, source in sorted(_sources(files(package))):
        digest.update(name.encode() + b"\x00" + source + b"\x00")
    return digest.hexdigest()[:12]
