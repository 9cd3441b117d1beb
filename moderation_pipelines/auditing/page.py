"""The validation page of a release: one HTML file that opens offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moderation_pipelines.rendering.pages import render

if TYPE_CHECKING:
    from moderation_pipelines.eval_sets.release import Candidate


def release_page(candidate: Candidate, version: str, results: list[dict[str, Any]]) -> str:
    """The page for a candidate and its audit; failed expectations first, critical before warnings."""
    rank = {"critical": 0, "warning": 1}
    critical = [r for r in results if not r["passed"] and r["severity"] == "critical"]
    warning = [r for r in results if not r["passed"] and r["severity"] == "warning"]
    ordered = sorted(results, key=lambda r: (r["passed"], rank[r["severity"]]))
    return render(
        "validation.html",
        {
            "name": candidate.spec.name,
            "version": version,
            "policy_title": candidate.policy.title,
            "rows": candidate.items.height,
            "results": ordered,
            "passed": not critical,
            "n_critical": len(critical),
            "n_warning": len(warning),
            "content_sha256": candidate.content_sha256,
        },
    )
