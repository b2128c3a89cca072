"""Where a conditioner acts: a part of the image. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import Image
from pydantic import AfterValidator, Field

from ..errors import UserError
from .images import SpatialImage
from .record import record
from .scene import Box, Scene, Subject

REST = "rest"
"""What lies in no subject's mask or box."""

Resize = Literal["area", "bilinear", "bicubic", "nearest"]


@record
class Region:
    """A part of the image: exactly one of a subject's, a mask, a box, or the rest.

    Args:
        subject: the phrase of a subject; its mask, else its box.
        occurrence: of the phrase, counted from 1, where several subjects have the same.
        mask: an image of the size that is drawn; bright is inside, grey is partly.
        box: (left, top, right, bottom) in fractions of the image.
        rest: what lies in no subject's mask or box.
        resize: how the mask becomes as small as a feature map. By area, which keeps how much of a place is covered;
            the others are PyTorch's `interpolate`, bicubic as diffusers' IP-Adapter masks.

    Raises:
        UserError: none or several of them are given.
    """

    subject: Annotated[str, Field(min_length=1)] | None = None
    mask: SpatialImage | None = None
    box: Box | None = None
    rest: bool = False
    occurrence: Annotated[int, Field(ge=1)] | None = None
    resize: Resize = "area"

    def __post_init__(self) -> None:
        kinds = [name for name in ("subject", "mask", "box", "rest") if getattr(self, name)]
        if len(kinds) != 1:
            expected = "one of 'subject', 'mask', 'box' and 'rest'"
            raise UserError("Region", expected, " and ".join(kinds) or "none of them")

    def of(self, scene: Scene) -> Subject | None:
        """The subject of a scene whose region it is; None where it is not a subject's.

        Raises:
            UserError: the scene has no such subject, or it has neither a mask nor a box; or there is no rest, as no
                subject has one.
        """
        place = f"scene '{scene.prompt}', field 'region'"
        if self.rest and not any(placed(subject) for subject in scene.subjects):
            raise UserError(place, "a subject with a mask or a box, beside which there is a rest", "none")
        if self.subject is None:
            return None
        named = [one for one in scene.subjects if one.phrase == self.subject]
        chosen = [one for one in named if self.occurrence is None or one.occurrence == self.occurrence]
        if not chosen:
            scene.subject(self.subject)
            found = f"occurrences {[one.occurrence for one in named]}"
            raise UserError(place, f"occurrence {self.occurrence} of '{self.subject}'", found)
        if not placed(chosen[0]):
            raise UserError(f"subject '{self.subject}'", "a mask or a box, as a region is its", "neither")
        return chosen[0]


def placed(subject: Subject) -> bool:
    """Whether the scene says where a subject should be."""
    return subject.mask is not None or subject.box is not None


def as_region(region: Region | str | Image.Image) -> Region:
    """What a conditioner's field says for short, written out."""
    if isinstance(region, Image.Image):
        return Region(mask=region)
    if isinstance(region, str):
        return Region(rest=True) if region == REST else Region(subject=region)
    return region


AnyRegion = Annotated[Region | str | Image.Image, AfterValidator(as_region)]
"""A `Region`, or for short a subject's phrase, ``"rest"``, or an open image for a mask."""
