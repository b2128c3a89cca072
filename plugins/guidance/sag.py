"""Self-attention guidance (Hong et al. 2023, arXiv 2210.00939)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import (
    Batch,
    Guidance,
    LinearForm,
    Plugin,
    SecondEvaluation,
    Step,
    UserError,
    hookimpl,
    record,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from weft.plugin import AttentionMaps

# of the kernel of 9 positions in diffusers
REACH = 4


@record
class SAG(Guidance):
    """Pushes the prediction away from that for latents blurred where the model attends: guided + scale * (e - e').

    ``e`` is the part of the form that does not read the scene's prompt, its coefficients brought to a sum of 1, or the
    whole form where all of it does; ``e'`` is its value at degraded latents. These are the clean estimate that ``e``
    stands for, blurred where self-attention in the middle block is above the threshold, with the noise of ``e`` added
    again (equation 16; after classifier-free guidance, equation 25, as diffusers has them).

    Args:
        scale: 0.5 to 1 is usual; 0 is off and costs no evaluation.
        threshold: of a position's attention, added up over those that look at it; the mean is 1.
        sigma: of the blur, in positions of the latents.

    Raises:
        UserError: on `generate`, when the model has no self-attention in a middle block.
    """

    name: ClassVar[str] = "sag"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 0.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()
    other_names: ClassVar[Mapping[str, str]] = {"sag_scale": "scale"}

    scale: Annotated[float, Field(ge=0, description="guidance scale; 0 is off")] = 0.75
    threshold: Annotated[float, Field(ge=0, description="attention above which latents are blurred")] = 1.0
    sigma: Annotated[float, Field(gt=0, description="of the blur, in positions")] = 1.0

    def begin(self, batch: Batch) -> Guidance:
        if self.scale == 0.0:
            return self
        from weft.plugin import cross_attention_paths

        paths = [path for path in cross_attention_paths(batch.model.unet) if path.startswith("mid_block.")]
        if not paths:
            raise UserError("guidance 'sag'", "a model with attention in its middle block", "one without")
        return _Degrading(self.scale, self.threshold, self.sigma, batch, paths[0])


@record
class _Degrading(SecondEvaluation):
    """`SAG` within one batch.

    Args:
        batch: what is drawn.
        path: of the transformer block whose self-attention says where to blur.
    """

    name: ClassVar[str] = "sag"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 0.0}

    scale: float
    threshold: float
    sigma: float
    batch: Any
    path: str

    def self_map_paths(self) -> frozenset[str]:
        return frozenset({self.path})

    def reads(self, form: LinearForm, step: Step) -> Sequence[LinearForm]:
        return (form.share(lambda branch: branch.prompt is not None),)

    def evaluates(self, form: LinearForm, step: Step) -> LinearForm | None:
        return self.reads(form, step)[0]

    def latents(
        self, latents: Float[Tensor, "s c h w"], values: Sequence[Tensor], maps: AttentionMaps, step: Step
    ) -> Float[Tensor, "s c h w"]:
        from torch.nn import functional as F

        clean, noise = self.batch.estimates(latents, values[0], step)
        ((site, attention),) = maps.self_by_site.items()
        looked_at = attention.to(latents).mean(dim=1).sum(dim=1)  # s n
        mask = (looked_at > self.threshold).to(latents).reshape(-1, 1, *site.grid)
        mask = F.interpolate(mask, latents.shape[-2:])
        rows, columns = (_blur(size, self.sigma).to(latents) for size in latents.shape[-2:])
        degraded = mask * (rows @ clean @ columns.T) + (1.0 - mask) * clean
        noised: Tensor = self.batch.noised(degraded, noise, step)
        return noised

    def combine(self, guided: Tensor, values: Sequence[Tensor], step: Step) -> Tensor:
        sharp, blurred = values
        return guided + self.scale * (sharp - blurred)


def _blur(size: int, sigma: float) -> Float[Tensor, "n n"]:
    """The matrix that blurs an axis with a normal distribution, cut off and reflected at its ends."""
    import torch

    reach = min(REACH, size - 1)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.float() / sigma).square())
    weights = (weights / weights.sum()).double()  # weights that meet at an end add up exactly
    last = size - 1
    sources = last - (last - (torch.arange(size)[:, None] + offsets).abs()).abs()
    return weights.new_zeros(size, size).scatter_add(1, sources, weights.expand(size, -1))


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [SAG]
