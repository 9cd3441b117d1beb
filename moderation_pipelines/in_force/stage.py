"""The stage that fixes what a day is computed by."""

from __future__ import annotations

from moderation_pipelines.in_force.tables import HOME_FILES
from moderation_pipelines.tables.in_force import IN_FORCE
from moderation_pipelines.wiring.stage import HomeFile, Stage

STAGE = Stage(
    name="in_force",
    charter="Which files, settings and releases are in force on a day. Not here: what the files mean.",
    phase="day",
    tables=(IN_FORCE, HOME_FILES),
    assets="moderation_pipelines.in_force.assets:build",
    home_files=(HomeFile("settings", "settings.yaml"),),
)
