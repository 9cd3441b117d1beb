"""Judges configured in ``prompts/judges.yaml``, asked over the wire."""

from __future__ import annotations

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.tasks import Asked, JudgeKind, ScoringTask
from moderation_pipelines.policies.policy import Policy
from moderation_pipelines.prompting.prompts import load_prompt


class EndpointJudges(JudgeKind):
    """Every judge of the file that judges the policy. One whose prompt has mistakes is left out, and said."""

    def tasks(self, asked: Asked, release: Release, policy: Policy) -> tuple[list[ScoringTask], list[str]]:
        tasks: list[ScoringTask] = []
        notes: list[str] = []
        for judge_id, judge in asked.judges.judges.items():
            if judge.policies is not None and policy.id not in judge.policies:
                continue
            try:
                prompt = load_prompt(asked.home, policy, judge.prompt)
            except UserError as error:
                notes.append(f"{judge_id} is not asked about {release.name}: {error}")
                continue
            endpoint = asked.judges.endpoints[judge.endpoint]
            tasks.append(ScoringTask(judge_id, judge, endpoint, release, policy, prompt, self, profile_of(endpoint)))
        return tasks, notes


KIND = EndpointJudges()
