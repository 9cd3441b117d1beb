"""The home: one folder with everything the pipeline reads or writes, and the settings that go with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moderation_pipelines.foundation.errors import UserError


@dataclass(frozen=True)
class Home:
    """The folder layout. Every path the project touches is named here, once."""

    root: Path
    prompts_folder: Path | None = None

    @property
    def prompts(self) -> Path:
        """What people edit; of a home as it was in force on a day, the files of that day."""
        return self.root / "prompts" if self.prompts_folder is None else self.prompts_folder

    @property
    def judges_file(self) -> Path:
        return self.prompts / "judges.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def drops(self) -> Path:
        return self.data / "drops"

    @property
    def warehouse(self) -> Path:
        return self.data / "warehouse"

    @property
    def eval_sets(self) -> Path:
        return self.warehouse / "eval_sets"

    @property
    def candidates(self) -> Path:
        """Eval-set candidates that failed their audit, kept with the validation page that says why."""
        return self.warehouse / "_candidates"

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    @property
    def ledger(self) -> Path:
        return self.warehouse / "_ledger" / "ledger.sqlite"

    @property
    def batch_files(self) -> Path:
        """Files of batches until they are collected. They hold item text."""
        return self.warehouse / "_ledger" / "batches"

    @property
    def dagster_home(self) -> Path:
        return self.data / "dagster_home"

    def relative(self, path: Path) -> str:
        """A path as people read it: relative to the home where it lies inside, never with surrogates."""
        if self.prompts_folder is not None and path.is_relative_to(self.prompts_folder):
            path = self.root / "prompts" / path.relative_to(self.prompts_folder)
        try:
            text = str(path.relative_to(self.root))
        except ValueError:
            text = str(path)
        return text.encode("utf-8", "backslashreplace").decode()


def repository_root() -> Path:
    """The checkout this package is imported from, or the working folder when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def find_home(explicit: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Home:
    """The home to use: the one given, else MODERATION_HOME, else the repository root."""
    environ = os.environ if environ is None else environ
    chosen = explicit or environ.get("MODERATION_HOME") or repository_root()
    try:
        root = Path(chosen).expanduser().resolve()
    except (RuntimeError, OSError):
        raise UserError(f"home {chosen} cannot be found; name a folder") from None
    if not root.is_dir():
        raise UserError(f"home {root} is not a folder; create it, or name another with --home or MODERATION_HOME")
    return Home(root)
