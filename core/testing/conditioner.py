"""A small conditioner without weights, for tests of strategies that need one."""

from __future__ import annotations

from typing import ClassVar

from ..conditioner import Conditioner, Fixed, Prepared
from ..host import Host
from ..ports import ContextTokens
from ..records import record
from ..scene import Scene


@record
class SecondPrompt(Conditioner):
    """Attends to another prompt's text states too; absent, to the empty prompt's, so that absent is not off.

    Args:
        prompt: what is attended to beside the scene's own.
    """

    name: ClassVar[str] = "second_prompt"

    prompt: str = "two boats at night"

    def prepare(self, scene: Scene, host: Host) -> Prepared:
        present, null = (host.text.encode(host.text.tokens(text)) for text in (self.prompt, ""))
        return Fixed((ContextTokens(present),), (ContextTokens(null),))
