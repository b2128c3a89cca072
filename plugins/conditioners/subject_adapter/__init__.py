"""The adapter of Subject-Diffusion (Ma et al. 2023, arXiv 2307.11410)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from weft.plugin import Plugin, Prepared, hookimpl, record

from ...shared.subject_images import shown_subjects
from ...shared.trained import TrainedOnPictures

if TYPE_CHECKING:
    from weft.plugin import ModelView, Scene


@record
class SubjectAdapter(TrainedOnPictures):
    """Shows the UNet the patches of subjects' reference images, each with the subject's box (section 3.2).

    Gated self-attention between self- and cross-attention of every transformer block reads the tokens of all subjects
    that have an image. Places that no subject takes hold learned nulls, and so do all of them when the adapter is
    absent. A subject without a box, or whose box is not used, takes the learned null of a position.

    Of several images of a subject the first is read: a token belongs to one patch of one image, so a mean over
    images would mix parts that have nothing to do with each other, and the others in places of their own would ask
    for the subject twice. `pseudo_word` reads them all. The weights say how many subjects there may be.

    Args:
        use_box: whether the tokens say where a subject is; the box of its mask stands in for a box.

    Raises:
        UserError: on `generate`: no subject of a scene has images, or more have than the weights have places; one
            cannot be read; a mask has another size than the image or is dark; or weights are missing or do not fit.
    """

    name: ClassVar[str] = "subject_adapter"
    scene_fields: ClassVar[frozenset[str]] = frozenset({"subjects.images", "subjects.box", "subjects.mask"})

    use_box: Annotated[bool, Field(description="whether the tokens say where a subject is")] = True

    def check(self, scene: Scene) -> None:
        shown_subjects(scene, self.name)

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from .read import read

        return read(self, scene, model)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [SubjectAdapter]
