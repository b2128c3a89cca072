"""Pseudo words of UMM-Diffusion (Ma et al. 2023, arXiv 2303.09319)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from weft.plugin import Plugin, Prepared, hookimpl, record

from ...shared.subject_images import check_nouns
from ...shared.trained import TrainedOnPictures

if TYPE_CHECKING:
    from weft.plugin import ModelView, Scene


@record
class PseudoWord(TrainedOnPictures):
    """Shows subjects as in their reference images: each takes one word, made of its images, at its noun.

    The prompt with these words goes through the text transformer (h_r); of its states the prompt's own (h_y) take those
    of the nouns alone (h_u). Low-rank deltas of the UNet, the paper's second phase, go with it.

    Raises:
        UserError: on `generate`: no subject of a scene has images, one cannot be read, two subjects share a noun, or
            weights are missing or do not fit.
    """

    name: ClassVar[str] = "pseudo_word"
    null: ClassVar[Literal["same", "own", "none"] | None] = "none"
    scene_fields: ClassVar[frozenset[str]] = frozenset({"subjects.images"})

    def check(self, scene: Scene) -> None:
        check_nouns(scene, self.name)

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from .read import read

        return read(self, scene, model)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [PseudoWord]
