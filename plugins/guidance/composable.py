"""Composable Diffusion: AND and NOT of prompts (Liu et al. 2022, arXiv 2206.01714, equations 11 and 12)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Guidance, LinearForm, Plugin, Prompt, Step, SubjectPhrase, UserError, hookimpl, record

if TYPE_CHECKING:
    from weft.plugin import Conditioner, Scene


@record
class Composable(Guidance):
    """Adds up what several prompts pull away from the null: null + sum of weight * (prompt - null).

    A positive weight is AND, a negative one NOT. Each prompt is read with the conditioners of the form. Without
    ``subjects`` and ``prompts`` it is classifier-free guidance of scale ``scene``.

    Args:
        scene: weight of the scene's own prompt; 0 costs no evaluation.
        subjects: a weight for each subject of the scene, in order, which is read as its phrase alone.
        prompts: weights by prompt.
        negative_prompt: what the null branch reads.

    Raises:
        UserError: on `generate`, when a scene has not as many subjects as there are weights.
    """

    name: ClassVar[str] = "composable"
    neutral: ClassVar[Mapping[str, Any]] = {"scene": 1.0, "subjects": (), "prompts": {}}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    scene: Annotated[float, Field(description="weight of the scene's own prompt")] = 7.5
    subjects: Annotated[tuple[float, ...], Field(description="a weight for each subject, in order")] = ()
    prompts: Mapping[str, float] = Field(default_factory=dict, description="weights of further prompts")
    negative_prompt: Annotated[str, Field(description="what the null branch reads")] = ""

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        for scene in scenes:
            if self.subjects and len(scene.subjects) != len(self.subjects):
                expected = f"{len(scene.subjects)} weights, one for each subject of '{scene.prompt}'"
                raise UserError("composable, field 'subjects'", expected, str(len(self.subjects)))

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        weights: list[tuple[Prompt, float]] = [
            *((SubjectPhrase(number), weight) for number, weight in enumerate(self.subjects)),
            *self.prompts.items(),
        ]
        total = self.scene * form
        for prompt, weight in weights:
            total = total + weight * self._reading(form, prompt)
        rest = 1.0 - math.fsum([self.scene, *(weight for _, weight in weights)])
        return total + rest * LinearForm.of(form.null(self.negative_prompt))

    @staticmethod
    def _reading(form: LinearForm, prompt: Prompt) -> LinearForm:
        # a branch that reads another prompt already, such as the null of an earlier strategy, keeps it
        return form.map(lambda branch: branch.reading(prompt) if branch.prompt is None else branch)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Composable]
