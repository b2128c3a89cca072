"""Texts of a run file that may be meant otherwise than they are read. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..api.registry import Registry
from ..checkpoints.vocabulary import LENGTH, token_counter
from ..errors import UserError
from ..scene.field_error import FieldError
from ..scene.fields import Keys
from ..scene.foreign_syntax import foreign_syntax
from .run import Run
from .settings_tree import Tree
from .strict_yaml import Document, FileError

ROOM = LENGTH - 2
"""Tokens of a prompt that the text transformer reads."""
MOST = 10
"""Prompts that are told to be too long."""
_CUT = "The text encoder does not read the rest: shorten the prompt, or move what matters forward."


class MeantOtherwise:
    """Gathers texts: syntax of other programs and too many words in a prompt, and comments that look like text.

    Args:
        plugins: where models are looked up.
    """

    def __init__(self, plugins: Registry) -> None:
        self._plugins = plugins
        self._syntax: dict[str, FileError] = {}
        self._documents: dict[int, Document] = {}
        self._cut: dict[str, FileError] = {}

    def add(self, run: Run, tree: Tree) -> None:
        """Look at one run, whose settings are written as ``tree`` says."""
        document, _ = tree.origin(("prompt",))
        self._documents[id(document)] = document
        self._documents[id(tree.document)] = tree.document
        for keys, text in _prompts(tree.data):
            # a token has at least one byte
            count = self._counter(run) if len(text.encode()) > ROOM else None
            if count is not None and (tokens := count(text)) > ROOM:
                error = tree.error(FieldError(keys, f"at most {ROOM} tokens", str(tokens), _CUT))
                self._cut.setdefault(error.place, error)
            for found, hint in foreign_syntax(text):
                if hint not in self._syntax:
                    self._syntax[hint] = tree.error(FieldError(keys, "words", f"'{found}'", hint))

    def warnings(self) -> Iterator[FileError]:
        """In the order in which they were found."""
        for document in self._documents.values():
            yield from document.warnings
        yield from self._syntax.values()
        yield from list(self._cut.values())[:MOST]

    def _counter(self, run: Run) -> Callable[[str], int] | None:
        """Counts tokens; None where the model's tokenizer is not here, or where a conditioner may read more of them."""
        card = self._plugins.model(run.model)
        folder = (card.folder if card is not None else Path(run.model)) / "tokenizer"
        if run.conditioners or not folder.is_dir():
            return None
        try:
            return token_counter(folder)
        except UserError:
            return None  # loading says what is wrong with it


def _prompts(data: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    """The prompt of a scene and the negative ones, at the top and of strategies, with the keys that lead to each."""
    places: list[tuple[Keys, Any]] = [((name,), data.get(name)) for name in ("prompt", "negative_prompt")]
    for number, section in enumerate(data.get("guidance", ())):
        places.append((("guidance", number, "negative_prompt"), section.get("negative_prompt")))
    return ((keys, text) for keys, text in places if isinstance(text, str))
