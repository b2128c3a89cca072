"""Inpainting without a change of the model: the source is put back where it is to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Batch, Guidance, LatentEdit, Plugin, Step, UserError, hookimpl, record

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from weft.plugin import Conditioner, Scene


@record
class KeepSource(Guidance):
    """Puts the scene's source, with the noise of the step, back into the part that is kept, before every step.

    What may change is the scene's `edit_mask`, or the subjects' masks and boxes (Avrahami et al. 2022, Blended
    Diffusion, arXiv 2111.14818, algorithm 2, here in latents; GLIGEN's inpainting does the same).

    Args:
        until: share of the steps, from the first on, before which the source is put back; 0 is off.
        finish: whether it is put back without noise after the last step too; only when ``until`` is 1.

    Raises:
        UserError: on `generate`: a scene has no source, nothing says what may change, or a size is not the image's.
    """

    name: ClassVar[str] = "keep_source"
    neutral: ClassVar[Mapping[str, Any]] = {"until": 0.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset(
        {"source", "edit_mask", "subjects.box", "subjects.mask"}
    )

    until: Annotated[float, Field(ge=0, le=1, description="share of the steps; 0 is off")] = 1.0
    finish: Annotated[bool, Field(description="put the source back after the last step too")] = True

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        for scene in scenes:
            if scene.source is None:
                raise UserError(f"keep_source, scene '{scene.prompt}', field 'source'", "an image", "none")

    def begin(self, batch: Batch) -> Guidance:
        if self.until == 0.0:
            return self
        import torch

        from ..shared.edited_source import editable

        read = {
            id(scene): (batch.model.source_latents(scene), editable(scene, batch.model))
            for scene in batch.scenes
        }
        sources, parts = zip(*(read[id(scene)] for scene in batch.scenes), strict=True)
        kept = torch.stack(parts)[:, None] == 0.0
        return _Keeping(self.until, self.finish, batch, torch.stack(sources), kept)


@record
class _Keeping(LatentEdit):
    """`KeepSource` within one batch.

    Args:
        batch: what is drawn.
        sources: (s, c, h, w), latents without noise.
        kept: (s, 1, h, w), True where the source is kept.
    """

    name: ClassVar[str] = "keep_source"
    neutral: ClassVar[Mapping[str, Any]] = {"until": 0.0}

    until: float
    finish: bool
    batch: Any
    sources: Any
    kept: Any

    def before(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        if step.fraction >= self.until:
            return latents
        sources = self.sources.to(latents)
        return self._blended(self.batch.noised(sources, self.batch.noise(latents), step), latents)

    def edit(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        last = step.index == step.total - 1
        return self._blended(self.sources, latents) if last and self.finish and self.until == 1.0 else latents

    def _blended(self, sources: Tensor, latents: Tensor) -> Float[Tensor, "s c h w"]:
        import torch

        return torch.where(self.kept, sources.to(latents), latents)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [KeepSource]
