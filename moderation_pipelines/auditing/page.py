"""The page of an audit: one HTML file that opens offline."""

from __future__ import annotations

from typing import Any

from moderation_pipelines.rendering.pages import render


def audit_page(
    name: str, version: str, policy_title: str, rows: int, content_sha256: str, results: list[dict[str, Any]]
) -> str:
    """The page of what was audited and how: failed expectations first, critical before warnings."""
    rank = {"critical": 0, "warning": 1}
    critical = [r for r in results if not r["passed"] and r["severity"] == "critical"]
    warning = [r for r in results if not r["passed"] and r["severity"] == "warning"]
    return render(
        "validation.html",
        {
            "name": name,
            "version": version,
            "policy_title": policy_title,
            "rows": rows,
            "results": sorted(results, key=lambda r: (r["passed"], rank[r["severity"]])),
            "passed": not critical,
            "n_critical": len(critical),
            "n_warning": len(warning),
            "content_sha256": content_sha256,
        },
    )
