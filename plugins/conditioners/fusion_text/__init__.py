"""The text path of Subject-Diffusion (Ma et al. 2023, arXiv 2307.11410)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from weft.plugin import Plugin, Prepared, hookimpl, record

from ...shared.subject_images import check_nouns
from ...shared.trained import TrainedOnPictures
from .prompt import PLACEHOLDER

if TYPE_CHECKING:
    from weft.plugin import ModelView, Scene


@record
class FusionText(TrainedOnPictures):
    """Shows subjects as in their reference images: the prompt says "the {noun} is {placeholder}" of each.

    A word made of the subject's images stands for the placeholder, and a text encoder trained for it, held as low-rank
    deltas, reads the whole; its states replace the branch's. Low-rank deltas of the UNet go with it.

    Args:
        placeholder: one word; the one of the training.

    Raises:
        UserError: on `generate`: as `PseudoWord`, or a subject's clause no longer fits the text encoder.
    """

    name: ClassVar[str] = "fusion_text"
    null: ClassVar[Literal["same", "own", "none"] | None] = "none"
    scene_fields: ClassVar[frozenset[str]] = frozenset({"subjects.images"})

    placeholder: Annotated[
        str, Field(pattern=r"^\w+$", description="the word that stands for a subject, as in training")
    ] = PLACEHOLDER

    def check(self, scene: Scene) -> None:
        check_nouns(scene, self.name)

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from .read import read

        return read(self, scene, model)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [FusionText]
