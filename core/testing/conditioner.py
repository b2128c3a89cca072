"""A small conditioner without weights, for tests of strategies that need one."""

from __future__ import annotations

from typing import ClassVar

from ..api.conditioner import Conditioner, Fixed, Prepared
from ..api.model_view import ModelView
from ..api.ports import ContextTokens
from ..scene.record import record
from ..scene.scene import Scene


@record
class SecondPrompt(Conditioner):
    """Attends to another prompt's text states too; absent, to the empty prompt's, so that absent is not off.

    Args:
        prompt: what is attended to beside the scene's own.
    """

    name: ClassVar[str] = "second_prompt"
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    prompt: str = "two boats at night"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        present, null = (model.text.encode(model.text.tokens(text)) for text in (self.prompt, ""))
        return Fixed((ContextTokens(present),), (ContextTokens(null),))
