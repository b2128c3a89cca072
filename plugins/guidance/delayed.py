"""A conditioner during a part of the steps only: delayed conditioning and scheduled sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Guidance, LinearForm, Plugin, Step, UserError, hookimpl, record, require_conditioners

if TYPE_CHECKING:
    from weft.plugin import Conditioner, Scene

Fraction = Annotated[float, Field(ge=0, le=1)]


@record
class Delayed(Guidance):
    """Switches a conditioner off outside a part of the steps, in every branch, its null included.

    FastComposer (Xiao et al. 2023, arXiv 2305.10431, delayed subject conditioning) starts late: interval (0.3, 1).
    GLIGEN (Li et al. 2023, arXiv 2301.07093, scheduled sampling) stops at tau: interval (0, 0.3). Subject-Diffusion
    (Ma et al. 2023, arXiv 2307.11410, equation 4) stops too: interval (0, 0.8).

    Args:
        conditioner: which one, or several.
        interval: (start, end) in fractions of the steps; a step acts when floor(start * steps) <= index and
            index < floor(end * steps), products as Python's floats give them, like diffusers' GLIGEN counts its steps.

    Raises:
        UserError: the interval is reversed; on `generate`, when the run has no such conditioner.
    """

    name: ClassVar[str] = "delayed"
    neutral: ClassVar[Mapping[str, Any]] = {"interval": (0.0, 1.0)}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    conditioner: Annotated[str | tuple[str, ...], Field(description="conditioner, or conditioners, to delay")]
    interval: Annotated[
        tuple[Fraction, Fraction], Field(description="fractions of the steps between which it is there")
    ] = (0.3, 1.0)

    def __post_init__(self) -> None:
        if self.interval[0] > self.interval[1]:
            raise UserError("delayed, field 'interval'", "start <= end", str(self.interval))

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.conditioner,) if isinstance(self.conditioner, str) else self.conditioner

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        require_conditioners(self._names, conditioners, "delayed, field 'conditioner'")

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        first, end = (int(fraction * step.total) for fraction in self.interval)
        if first <= step.index < end:
            return form
        return form.map(lambda branch: branch.switched_off(*self._names))


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Delayed]
