"""Texts of a run file that may be meant otherwise than they are read. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from ..scene.field_error import FieldError
from ..scene.foreign_syntax import foreign_syntax
from .run import Run
from .settings_tree import Tree
from .strict_yaml import Document, FileError


class MeantOtherwise:
    """Gathers the first text of each kind: syntax of other programs in a prompt, and a comment that looks like text."""

    def __init__(self) -> None:
        self._syntax: dict[str, FileError] = {}
        self._documents: dict[int, Document] = {}

    def add(self, run: Run, tree: Tree) -> None:
        """Look at one run, whose settings are written as ``tree`` says."""
        document, _ = tree.origin(("prompt",))
        self._documents[id(document)] = document
        self._documents[id(tree.document)] = tree.document
        for name, text in (
            ("prompt", run.scene.prompt),
            ("negative_prompt", tree.data.get("negative_prompt")),
        ):
            for found, hint in foreign_syntax(text) if isinstance(text, str) else ():
                if hint not in self._syntax:
                    self._syntax[hint] = tree.error(FieldError((name,), "words", f"'{found}'", hint))

    def warnings(self) -> Iterator[FileError]:
        """In the order in which they were found."""
        for document in self._documents.values():
            yield from document.warnings
        yield from self._syntax.values()
