"""MACE: a rater either knows or guesses."""

from __future__ import annotations

from moderation_pipelines.consensus.confusion_models import mace
from moderation_pipelines.consensus.method import confusion_method

METHOD = confusion_method("mace", 6, mace)
