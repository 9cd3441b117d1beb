"""The stage of prompts."""

from __future__ import annotations

from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.wiring.stage import HomeFile, Stage

STAGE = Stage(
    name="prompting",
    charter="Prompt versions, compiled and written, and few-shot examples. Not here: who is asked.",
    tables=(PROMPTS,),
    assets="moderation_pipelines.prompting.assets:build",
    home_files=(HomeFile("prompt", "*/v[0-9]*.md"), HomeFile("examples", "*/examples.jsonl")),
    problems="moderation_pipelines.prompting.library:home_problems",
)
