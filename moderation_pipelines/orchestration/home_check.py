"""Everything a person edits in a home, checked at once: policies, prompts, examples, judges, eval-set specs."""

from __future__ import annotations

from collections.abc import Callable

from moderation_pipelines.eval_sets.release import broken_releases
from moderation_pipelines.eval_sets.specs import load_specs
from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.ingest.landing import misplaced
from moderation_pipelines.judging.judges_file import load_judges
from moderation_pipelines.policies.policy import Policies, load_policies, load_policies_leniently
from moderation_pipelines.prompting.library import all_prompts, changed_since_published
from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.tables.warehouse import Warehouse


def all_problems(home: Home) -> list[Problem]:
    """Every mistake in the home's files, sorted by file and line. Parts that rest on broken policies are still checked
    for the policies that are sound."""
    problems: list[Problem] = []
    policies, broken = load_policies_leniently(home)
    problems += broken

    def collect(part: Callable[[], object]) -> None:
        try:
            part()
        except UserError as error:
            problems.extend(error.problems)

    def prompts() -> None:
        found = all_prompts(home, policies)
        problems.extend(changed_since_published(home, policies, found, Warehouse(home).scan(PROMPTS)))

    collect(lambda: load_specs(home, policies))
    collect(prompts)
    if len(policies):
        collect(lambda: load_judges(home, policies))
    problems += misplaced(home)
    problems += broken_releases(home)
    return sorted(set(problems), key=lambda p: (p.file, p.line or 0, p.message))


def checked_policies(home: Home) -> Policies:
    """The home's policies, or :class:`UserError` with every mistake in the home's files."""
    problems = all_problems(home)
    if problems:
        raise UserError(problems)
    return load_policies(home)
