"""A guider of diffusers as a strategy: adaptive projected guidance, CFG-Zero*, and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Batch, Guidance, LinearForm, Plugin, Step, UserError, did_you_mean, hookimpl, record

if TYPE_CHECKING:
    from torch import Tensor

    from weft.plugin import Conditioner, Scene

NAMES = (
    "AdaptiveProjectedGuidance",
    "AdaptiveProjectedMixGuidance",
    "ClassifierFreeGuidance",
    "ClassifierFreeZeroStarGuidance",
    "TangentialClassifierFreeGuidance",
)
BASE = "diffusers.guiders.guider_utils.BaseGuidance"
PLACE = "diffusers_guider, field 'guider'"


@record
class DiffusersGuider(Guidance):
    """Guides with a guider of diffusers, which combines a conditional and an unconditional prediction.

    The conditional one is the prediction of the chain so far, the unconditional one the null branch's. Guiders that
    change the model's layers (auto guidance, skip-layer, perturbed attention) are refused.

    Args:
        guider: the name of a class of `diffusers.guiders`, or an instance, which is copied and not used itself.
        options: what the guider is made with, or made anew with.
        negative_prompt: what the null branch reads.

    Raises:
        UserError: there is no such guider, or it does not take these options, or it is of another kind.
    """

    name: ClassVar[str] = "diffusers_guider"
    neutral: ClassVar[Mapping[str, Any]] = {"options": {"enabled": False}}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    guider: Annotated[Any, Field(description=f"one of {', '.join(NAMES)}")] = NAMES[0]
    options: Mapping[str, Any] = Field(default_factory=dict, description="parameters of the guider")
    negative_prompt: Annotated[str, Field(description="what the null branch reads")] = ""

    def __post_init__(self) -> None:
        if isinstance(self.guider, str) and self.guider not in NAMES:
            hint = did_you_mean(self.guider, NAMES)
            raise UserError(PLACE, _one_of(), f"'{self.guider}'", hint)
        # diffusers is not imported for this: an instance has done so already
        bases = [f"{base.__module__}.{base.__name__}" for base in type(self.guider).__mro__]
        if not isinstance(self.guider, str) and BASE not in bases:
            raise UserError(PLACE, _one_of(), repr(self.guider))

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        self._made()

    def begin(self, batch: Batch) -> DiffusersGuider:
        # the guider keeps the step and its momentum in itself, so every batch has one of its own
        return replace(self, guider=self._made(), options={})

    def reads(self, form: LinearForm, step: Step) -> Sequence[LinearForm]:
        self._place(step)
        return (LinearForm.of(form.null(self.negative_prompt)),) if self.guider.num_conditions > 1 else ()

    def combine(self, guided: Tensor, values: Sequence[Tensor], step: Step) -> Tensor:
        self._place(step)
        unconditional = values[0] if values else None
        batches = self.guider.prepare_inputs({"noise_pred": (guided, unconditional)})
        combined: Tensor = self.guider(batches).pred
        return combined

    def _place(self, step: Step) -> None:
        self.guider.set_state(step=step.index, num_inference_steps=step.total, timestep=step.timestep)

    def _made(self) -> Any:
        """A guider without a past."""
        from diffusers import guiders

        guider = self.guider
        kind = getattr(guiders, guider) if isinstance(guider, str) else type(guider)
        if kind._input_predictions != ["pred_cond", "pred_uncond"] or (
            kind.prepare_models is not guiders.BaseGuidance.prepare_models
        ):
            raise UserError(PLACE, "a guider that leaves the model alone", kind.__name__, f"{_one_of()}.")
        try:
            return kind(**self.options) if isinstance(guider, str) else guider.new(**self.options)
        except (TypeError, ValueError, ImportError) as error:
            wanted = f"options that {kind.__name__} takes"
            raise UserError(
                "diffusers_guider, field 'options'", wanted, str(dict(self.options)), str(error)
            ) from error


def _one_of() -> str:
    return f"one of {', '.join(NAMES)}"


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [DiffusersGuider]
