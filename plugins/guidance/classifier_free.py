"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, equation 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Guidance, LinearForm, Plugin, Step, UserError, hookimpl, record

if TYPE_CHECKING:
    from torch import Tensor


@record
class ClassifierFree(Guidance):
    """Pushes the prediction away from the one without conditions: null + scale * (form - null).

    Args:
        scale: 1 follows the conditions as they are and costs no second evaluation; 5 to 10 is usual.
        negative_prompt: what the null branch reads.
        rescale: in [0, 1]; how far the result is brought back to the standard deviation of the prediction
            before guidance (Lin et al. 2023, arXiv 2305.08891, section 3.4, equations 15 and 16).
        interval: (start, end) in fractions of the steps; outside it the scale is 1 (after Kynkaanniemi et al. 2024,
            arXiv 2404.07724, who state the interval in noise levels).
    """

    name: ClassVar[str] = "classifier_free"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()
    other_names: ClassVar[Mapping[str, str]] = {"cfg": "scale", "guidance_scale": "scale"}

    scale: Annotated[float, Field(description="guidance scale; 1 is off")] = 7.5
    negative_prompt: Annotated[str, Field(description="what the null branch reads")] = ""
    rescale: Annotated[float, Field(ge=0, le=1, description="share of the standard deviation to restore")] = (
        0.0
    )
    interval: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]],
        Field(description="fractions of the steps between which guidance acts"),
    ] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.interval[0] > self.interval[1]:
            raise UserError("classifier_free, field 'interval'", "start <= end", str(self.interval))

    def _acts(self, step: Step) -> bool:
        return self.scale != 1.0 and self.interval[0] <= step.fraction < self.interval[1]

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        if not self._acts(step):
            return form
        return self.scale * form + (1.0 - self.scale) * LinearForm.of(form.null(self.negative_prompt))

    def reads(self, form: LinearForm, step: Step) -> Sequence[LinearForm]:
        return (form,) if self.combines(step) else ()

    def combines(self, step: Step) -> bool:
        return self.rescale != 0.0 and self._acts(step)

    def combine(self, guided: Tensor, values: Sequence[Tensor], step: Step) -> Tensor:
        if not values:
            return guided
        (conditional,) = values
        axes = tuple(range(1, guided.ndim))
        ratio = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
        return self.rescale * (guided * ratio) + (1.0 - self.rescale) * guided


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [ClassifierFree]
