"""Perturbed-attention guidance (Ahn et al. 2024, arXiv 2403.17377)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import (
    Conditioner,
    Fixed,
    Guidance,
    LinearForm,
    Plugin,
    Prepared,
    Step,
    UserError,
    hookimpl,
    record,
)

if TYPE_CHECKING:
    from torch import Tensor

    from weft.plugin import MapCall, ModelView, Scene

Layers = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1, description="beginnings of transformer blocks' paths"),
]


@record
class PAG(Guidance):
    """Pushes the prediction away from one with identity self-attention: form + scale * (read - perturbed).

    ``read`` is the part of the form that reads the scene's prompt, its coefficients brought to a sum of 1, and
    ``perturbed`` the same with self-attention maps that are the identity in some layers. After classifier-free guidance
    this is diffusers' sum; before it, that strategy's scale multiplies this one's too.

    Args:
        scale: 3 is usual; 0 is off and costs no evaluation.
        adaptive_scale: by how much the scale falls for each timestep below 1000, down to 0, as in diffusers.
        layers: beginnings of the paths of transformer blocks, such as "mid_block" or "up_blocks.1.attentions.0".

    Raises:
        UserError: on `generate`, when the model has no transformer block of such a path.
    """

    name: ClassVar[str] = "pag"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 0.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()
    other_names: ClassVar[Mapping[str, str]] = {
        "pag_scale": "scale",
        "pag_adaptive_scale": "adaptive_scale",
        "pag_applied_layers": "layers",
    }

    scale: Annotated[float, Field(ge=0, description="guidance scale; 0 is off")] = 3.0
    adaptive_scale: Annotated[float, Field(ge=0, description="fall of the scale a timestep")] = 0.0
    layers: Layers = ("mid_block",)

    def brings(self) -> Mapping[str, Conditioner]:
        return {self._perturbed: _Perturbed(self.layers)} if self.scale != 0.0 else {}

    @property
    def _perturbed(self) -> str:
        return f"pag ({', '.join(self.layers)})"

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        scale = max(self.scale - self.adaptive_scale * (1000.0 - step.timestep), 0.0)
        if scale == 0.0:
            return form
        read = form.share(lambda branch: branch.prompt is None)
        return form + scale * (read - read.map(lambda branch: branch.adding(self._perturbed)))


@record
class _Perturbed(Conditioner):
    """Self-attention maps that are the identity, in some layers.

    Args:
        layers: see `PAG`.
    """

    name: ClassVar[str] = "pag"
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    layers: Layers

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.plugin import MapEdit, cross_attention_paths

        blocks = list(cross_attention_paths(model.unet))
        chosen: set[str] = set()
        for layer in self.layers:
            within = {path for path in blocks if f"{path}.".startswith(f"{layer}.")}
            if not within:
                raise UserError(
                    "pag, field 'layers'", f"beginnings of paths among {', '.join(blocks)}", f"'{layer}'"
                )
            chosen |= within
        return Fixed((MapEdit(_identity, "self", frozenset(chosen)),))


def _identity(maps: Tensor, call: MapCall) -> Tensor:
    import torch

    return torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device).expand_as(maps)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [PAG]
