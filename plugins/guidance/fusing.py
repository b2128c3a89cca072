"""Fusing sampling of UMM-Diffusion (Ma et al. 2023, arXiv 2303.09319)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Guidance, LinearForm, Plugin, Step, hookimpl, record, require_conditioners

if TYPE_CHECKING:
    from weft.plugin import Conditioner, Scene


@record
class Fusing(Guidance):
    """Mixes the prediction with a conditioner and the one without it: alpha * with + (1 - alpha) * without.

    The paper mixes a multimodal and a text branch at alpha 0.5 within each step. Its text does not say which of the two
    alpha multiplies; here it is the multimodal one.

    Args:
        alpha: in [0, 1]; 1 is the conditioner as it is, 0 is without it, and both cost no further evaluation.
        conditioner: which conditioner is fused away, or several, which go together.

    Raises:
        UserError: on `generate`, when the run has no such conditioner.
    """

    name: ClassVar[str] = "fusing"
    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 1.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    alpha: Annotated[float, Field(ge=0, le=1, description="weight of the branch with the conditioner")] = 0.5
    conditioner: Annotated[
        str | tuple[str, ...], Field(description="conditioner, or conditioners, that the other branch lacks")
    ] = "pseudo_word"

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.conditioner,) if isinstance(self.conditioner, str) else self.conditioner

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        require_conditioners(self._names, conditioners, "fusing, field 'conditioner'")

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        without = form.map(lambda branch: branch.without(*self._names))
        return self.alpha * form + (1.0 - self.alpha) * without


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Fusing]
