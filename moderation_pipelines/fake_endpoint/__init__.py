"""A local endpoint that speaks the OpenAI interface and misbehaves to plan: for testing a set-up, and this project.

``plan`` says what it shall do, ``answers`` works out each answer, ``files`` keeps batches, ``server`` is the wire.
Deterministic by item and attempt; it counts what it served and what it billed.
"""

from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import FAULTS, Plan, load_plan
from moderation_pipelines.fake_endpoint.server import serve, serving_fake

__all__ = ["FAULTS", "FakeEndpoint", "Plan", "load_plan", "serve", "serving_fake"]
