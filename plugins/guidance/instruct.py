"""Guidance with one scale for the image and one for the text (InstructPix2Pix, Subject-Diffusion)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import (
    Branch,
    Guidance,
    LinearForm,
    Plugin,
    Step,
    UserError,
    hookimpl,
    record,
    require_conditioners,
)

if TYPE_CHECKING:
    from weft.plugin import Conditioner, Scene


@record
class Instruct(Guidance):
    """Nests two scales: null + image_scale * (image - null) + text_scale * (form - image).

    ``image`` is the form with the image's conditioners only, reading the negative prompt; ``null`` lacks these too
    (Brooks et al. 2023, arXiv 2211.09800, equation 3; Ma et al. 2023, arXiv 2307.11410, sample this way too).

    Args:
        text_scale: 5 to 10 is usual.
        image_scale: 1 to 1.5 is usual for an image to edit, 1.5 to 2.5 for a subject's.
        conditioner: the image's, one or several; the others go with the text. None is all of the run.
        negative_prompt: what ``image`` and ``null`` read.

    Raises:
        UserError: on `generate`, when the run has no such conditioner, or none at all.
    """

    name: ClassVar[str] = "instruct"
    neutral: ClassVar[Mapping[str, Any]] = {"text_scale": 1.0, "image_scale": 1.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    text_scale: Annotated[float, Field(description="scale of what the text adds to the image")] = 7.5
    image_scale: Annotated[float, Field(description="scale of what the image adds to nothing")] = 1.5
    conditioner: Annotated[
        str | tuple[str, ...] | None,
        Field(description="conditioner, or conditioners, of the image; all when it is not given"),
    ] = None
    negative_prompt: Annotated[str, Field(description="what the branches without the text read")] = ""

    @property
    def _names(self) -> tuple[str, ...] | None:
        return (self.conditioner,) if isinstance(self.conditioner, str) else self.conditioner

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        if self._names is not None:
            require_conditioners(self._names, conditioners, "instruct, field 'conditioner'")
        elif not conditioners:
            raise UserError("guidance 'instruct'", "a conditioner of the image in the run", "none")

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        image = form.map(self._image_only)
        null = LinearForm.of(form.null(self.negative_prompt))
        return (
            self.text_scale * form
            + (self.image_scale - self.text_scale) * image
            + (1.0 - self.image_scale) * null
        )

    def _image_only(self, branch: Branch) -> Branch:
        names = self._names
        text = [name for name, _ in branch.present if names is not None and name not in names]
        return branch.without(*text).reading(self.negative_prompt)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Instruct]
