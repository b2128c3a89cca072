"""Textual inversion (Gal et al. 2022, arXiv 2208.01618) as a plugin author would write it: one word from one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from weft.plugin import Conditioner, Prepared, record

if TYPE_CHECKING:
    from torch import Tensor

    from weft.plugin import Contribution, ModelView, PromptTokens, Scene


@record
class TextualInversion(Conditioner):
    """Reads one word as the vectors that were trained for it.

    Args:
        file: diffusers' form: one tensor, by the word, of shape (d,) or (n, d).
    """

    name: ClassVar[str] = "textual_inversion"
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    file: Path

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.plugin import read_tensors

        vectors = read_tensors(self.file)
        return Brought({word: one if one.ndim > 1 else one[None] for word, one in vectors.items()})


class Brought(Prepared):
    """Words, and nothing else."""

    def __init__(self, words: Mapping[str, Tensor]) -> None:
        self._words = words

    @property
    def words(self) -> Mapping[str, Tensor]:
        return self._words

    def present(self, text: PromptTokens) -> Contribution:
        return ()

    def absent(self, text: PromptTokens) -> Contribution:
        return ()
