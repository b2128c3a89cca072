"""What all batches of one generation share: the model, the chain, the scheduler, the scenes that were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.branches import Branch
from ..api.guidance import MAP_POSITIONS, Batch
from ..api.model_view import ModelView
from ..api.sampler_settings import SamplerSettings
from ..unet.compile import Compiled
from ..unet.forward import UNetForward
from .branch_evaluator import BranchEvaluator
from .companions import SceneSet, together
from .denoise import Denoised, Denoising
from .events import Events
from .guidance_chain import GuidanceChain
from .scheduler_choice import SchedulerChoice
from .start import Start

Samples = Sequence[tuple[SceneSet, int]]
"""Scenes, each with its seed."""


@dataclass(frozen=True)
class Generation:
    """One call of `Pipeline.generate`, ready to denoise its batches.

    Args:
        model: as conditioners saw it.
        compiled: the UNet's compiled form.
        chain: the guidance strategies.
        full: the branch with every conditioner present.
        choice: of the scheduler.
        sampler: how images are sampled.
        scenes: every scene, read, with its companions.
        sources: latents of the scenes' sources, in their order, where the run begins with them.
    """

    model: ModelView
    compiled: Compiled | None
    chain: GuidanceChain
    full: Branch
    choice: SchedulerChoice
    sampler: SamplerSettings
    scenes: Sequence[SceneSet]
    sources: Sequence[Float[Tensor, "c h w"]]

    def denoised(
        self, asked: Samples, latents: Float[Tensor, "s c h w"] | None, attention: bool, events: Events
    ) -> Denoised:
        """Denoise a batch; the asked samples come first, and after them their companions.

        Args:
            asked: the samples of the batch.
            latents: to begin with; None for the seeds' noise.
            attention: whether to record maps.
            events: hears of every step.
        """
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in together(asked).samples]
        owners = list(together(asked).owners)
        begin = self._noise(generators) if latents is None else latents[owners]
        source = self._sources(asked)[owners] if self.sources else None
        start = Start(begin, self.sampler.strength, self.sampler.until, source)
        return self._run(asked, generators, start, attention, events)

    def inverted(self, asked: Samples) -> Float[Tensor, "s c h w"]:
        """The noise that the samples' sources come from, with a scheduler that goes the other way."""
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in together(asked).samples]
        start = Start(self._sources(asked)[list(together(asked).owners)], clean=True)
        return self._run(asked, generators, start, False, Events()).latents[: len(asked)]

    def _run(
        self,
        asked: Samples,
        generators: Sequence[torch.Generator],
        start: Start,
        attention: bool,
        events: Events,
    ) -> Denoised:
        model, batch = self.model, together(asked)
        paths = cache(partial(model.family.map_paths, model.unet, model.latent_size))
        scenes = [one for one, _ in batch.samples]
        return Denoising(
            evaluator=BranchEvaluator(UNetForward(model.unet, self.compiled), scenes, batch.sets),
            batch=Batch([one.scene for one in scenes], model, self.choice.make(), generators),
            choice=self.choice,
            chain=self.chain,
            sets=batch.sets,
            full=self.full,
            map_paths=paths,
            recorded=paths(MAP_POSITIONS) if attention else frozenset(),
            events=events,
        ).run(start, self.sampler.steps)

    def _sources(self, asked: Samples) -> Float[Tensor, "s c h w"]:
        numbers = [next(i for i, one in enumerate(self.scenes) if one is scene) for scene, _ in asked]
        return self._latents(torch.stack([self.sources[number] for number in numbers]))

    def _noise(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "s c h w"]:
        shape = (1, int(self.model.vae.config["latent_channels"]), *self.model.latent_size)
        # float32 whatever the default type is, so that a seed means one noise
        noise = [torch.randn(shape, generator=one, dtype=torch.float32, device="cpu") for one in generators]
        return self._latents(torch.cat(noise))

    def _latents(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.model.device, torch.promote_types(self.model.dtype, torch.float32))
