"""{{ about }}"""

from __future__ import annotations

from typing import ClassVar

from weft import plugin


@plugin.record
class {{ cls }}(plugin.Guidance):
    """Classifier-free guidance that fades towards the last step.

    Args:
        scale: at the first step; 1 is no guidance.
    """

    name = "{{ name }}"
    neutral: ClassVar = {"scale": 1.0}
    scene_fields = frozenset()

    scale: float = 7.5

    def rewrite(self, form: plugin.LinearForm, step: plugin.Step) -> plugin.LinearForm:
        scale = 1.0 + (self.scale - 1.0) * (1.0 - step.fraction)
        return scale * form + (1.0 - scale) * plugin.LinearForm.of(form.null())


@plugin.hookimpl
def weft_plugins() -> list[type[plugin.Plugin]]:
    return [{{ cls }}]
