"""{{ about }}"""

from __future__ import annotations

from weft import plugin


@plugin.record
class {{ cls }}(plugin.Conditioner):
    """Attends to another prompt beside the scene's own; absent, to the empty prompt.

    Args:
        words: the other prompt.
    """

    name = "{{ name }}"
    scene_fields = frozenset()

    words: str = "at night"

    def prepare(self, scene: plugin.Scene, model: plugin.ModelView) -> plugin.Prepared:
        present, null = (model.text.encode(model.text.tokens(words)) for words in (self.words, ""))
        return plugin.Fixed((plugin.ContextTokens(present),), (plugin.ContextTokens(null),))


@plugin.hookimpl
def weft_plugins() -> list[type[plugin.Plugin]]:
    return [{{ cls }}]
