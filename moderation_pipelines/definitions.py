"""What Dagster loads: ``workspace.yaml`` and ``[tool.dagster]`` name this module. The graph is in
``orchestration/``."""

from moderation_pipelines.orchestration.definitions import build_defs, defs

__all__ = ["build_defs", "defs"]
