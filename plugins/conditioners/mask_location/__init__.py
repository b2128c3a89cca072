"""The location mask of Subject-Diffusion (Ma et al. 2023, arXiv 2307.11410)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from weft.plugin import Plugin, Prepared, UserError, hookimpl, record

from ...shared.trained import Trained

if TYPE_CHECKING:
    from weft.plugin import ModelView, Scene


@record
class MaskLocation(Trained):
    """Shows the UNet where subjects are, as one more input channel (section 3.2).

    The channel is 1 where the background is and 0 inside a subject's mask, or its box when it has none; the channels of
    several subjects multiply. Low-rank deltas of the UNet go with it. Absent, there is neither channel nor delta: the
    null is the frozen UNet itself, which no mask equals, because any mask adds the convolution's bias.

    Args:
        resize: how the mask comes to the latents' size: ``nearest``, the value at the centre of every position, as in
            training; or ``area``, the share of it that is covered, which keeps what is thinner than a position.

    Raises:
        UserError: on `generate`: no subject of a scene has a box or a mask, a mask has another size than the image or
            covers no latent position, or weights are missing or do not fit.
    """

    name: ClassVar[str] = "mask_location"
    null: ClassVar[Literal["same", "own", "none"] | None] = "none"
    scene_fields: ClassVar[frozenset[str]] = frozenset({"subjects.box", "subjects.mask"})

    resize: Annotated[
        Literal["nearest", "area"], Field(description="how the mask comes to the latents' size")
    ] = "nearest"

    def check(self, scene: Scene) -> None:
        if all(subject.box is None and subject.mask is None for subject in scene.subjects):
            place, hint = f"mask_location, scene '{scene.prompt}'", "Set 'box' or 'mask' in a subject."
            raise UserError(place, "a subject with a box or a mask", "none", hint)

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from .read import read

        return read(self, scene, model)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [MaskLocation]
