"""Dawid-Skene: a confusion matrix a rater."""

from __future__ import annotations

from moderation_pipelines.consensus.confusion_models import dawid_skene
from moderation_pipelines.consensus.method import confusion_method

METHOD = confusion_method("dawid_skene", 5, dawid_skene)
