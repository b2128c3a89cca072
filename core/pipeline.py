"""The pipeline: a frozen model, and `generate`, which composes scenes, conditioners and guidance into pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from .api.attention_maps import Grid
from .api.branches import Branch
from .api.conditioner import Conditioner
from .api.generation_settings import GenerationSettings, Reproducibility
from .api.guidance import MAP_POSITIONS, Batch, Guidance, Step
from .api.model_view import ModelView
from .api.registry import registry
from .api.text_encoder import TextEncoder
from .errors import UserError
from .result import Result, Sample
from .sampling.branch_evaluator import BranchEvaluator, PreparedScene, guarded
from .sampling.denoise import MeanMaps, Trace, sample
from .sampling.progress import Progress, bar
from .sampling.schedulers import make_scheduler
from .scene.pixels import to_images
from .scene.reading import warn_of_unread
from .scene.scene import Scene
from .unet.attention import cross_attention_paths
from .unet.compile import Compiled
from .unet.forward import UNetForward

BATCH_SIZE = 8


@dataclass(frozen=True)
class Pipeline:
    """A model that pictures are drawn with. Its parameters are frozen and never written.

    Args:
        name: how it was asked for.
        text: tokenizer and text transformer.
        unet: the UNet.
        vae: the autoencoder.
        scheduler: the noise schedule, a diffusers scheduler configuration.
        folder: where the model lies, for the weights that its plugins bring.
        compiled: the UNet's compiled form; see `compile`.
    """

    name: str
    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: Mapping[str, Any]
    folder: Path | None = None
    compiled: Compiled | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for module in (self.text.model, self.unet, self.vae):
            module.requires_grad_(False).eval()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the model was trained at, in pixels."""
        side = int(self.unet.config["sample_size"]) * self.view((0, 0)).factor
        return side, side

    def view(self, size: tuple[int, int]) -> ModelView:
        """The model as conditioners see it, for pictures of (height, width) pixels."""
        return ModelView(self.text, self.unet, self.vae, size, self.folder)

    def compile(self, backend: str = "inductor", mode: str | None = None) -> Pipeline:
        """The same pipeline with a UNet that is compiled when it is first needed: minutes, once for each batch's shape.

        The first step under new conditions runs plain, and so does what cannot be compiled, with one line in the log.
        Pictures may differ from the plain pipeline's in the last bits.

        Args:
            backend: of `torch.compile`.
            mode: of `torch.compile`; on a GPU "reduce-overhead" by default, which replays CUDA graphs.
        """
        if mode is None and self.unet.device.type == "cuda" and backend == "inductor":
            mode = "reduce-overhead"
        return replace(self, compiled=Compiled(backend, mode))

    @torch.no_grad()
    def generate(
        self,
        scene: Scene | Sequence[Scene],
        conditioners: Sequence[str | Conditioner] = (),
        guidance: Sequence[str | Guidance] = ("classifier_free",),
        *,
        steps: int = 50,
        scheduler: str = "ddim",
        seeds: Sequence[int] = (0,),
        height: int | None = None,
        width: int | None = None,
        batch_size: int = BATCH_SIZE,
        reproducibility: Reproducibility = "normal",
        attention: bool = True,
        progress: bool | Callable[[Progress], None] = False,
        on_batch: Callable[[Result], None] | None = None,
    ) -> Result:
        """Draw every scene with every seed.

        Args:
            scene: one scene, or several.
            conditioners: names, or instances with parameters. The scene says what; these say how it enters the UNet.
            guidance: the chain of strategies, applied in order; names, or instances.
            steps: of the scheduler, at least 1.
            scheduler: ddim, euler, euler_ancestral, dpmpp_2m, pndm or unipc.
            seeds: one image each. A seed means the same image alone or in a batch.
            height: in pixels, a multiple of the latent factor; the model's own by default.
            width: likewise.
            batch_size: images that are denoised together.
            reproducibility: with ``exact``, every image is denoised alone, whatever ``batch_size`` says, so that it is
                the same bit for bit whatever is drawn beside it: with several threads even the place in a batch rounds.
            attention: record the attention maps for `Result.attention`.
            progress: True for a bar, or a function that is called after every step and every refinement update.
            on_batch: called with every finished batch, so that its images can be kept when a later one fails.

        Warns:
            SceneWarning: of scene data that no conditioner and no strategy declares to read.

        Raises:
            UserError: an argument, a name or a field of the scene is wrong.
            PluginError: a plugin failed; the message names it and the step.
        """
        scenes = [scene] if isinstance(scene, Scene) else list(scene)
        model = self.view(self._checked(scenes, steps, seeds, height, width, batch_size))
        given = [_resolved(item, "conditioner", Conditioner) for item in conditioners]
        named = _named(given)
        chain = [_resolved(item, "guidance", Guidance) for item in guidance]
        for strategy in chain:
            guarded(
                strategy.name,
                "check",
                partial(strategy.check, scenes, {one.name: one for one in given} | named),
            )
        warn_of_unread(scenes, [one.scene_fields for one in (*given, *chain)], stacklevel=3)
        prepared = [PreparedScene(one, model, named) for one in scenes]
        jobs = [(one, seed) for one in prepared for seed in seeds]
        together = 1 if reproducibility == "exact" else batch_size
        settings = self._settings(given, chain, scheduler, steps, model.size, together, reproducibility)
        paths = cache(partial(self.map_paths, model.latent_size))
        make_scheduler(scheduler, self.scheduler)  # a wrong name is an error before the bar starts
        parts: list[Result] = []

        with bar(progress, len(jobs)) as report:
            for start in range(0, len(jobs), together):
                batch = jobs[start : start + together]
                count = len(batch)
                generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in batch]
                maps = MeanMaps(paths()) if attention else None
                trace: list[Trace] = []

                def on_step(
                    done: Trace, start: int = start, size: int = count, trace: list[Trace] = trace
                ) -> None:
                    trace.append(done)
                    report(Progress(start, size, len(jobs), done.step.index + 1, done.step.total))

                def on_update(
                    step: Step, strategy: str, number: int, start: int = start, size: int = count
                ) -> None:
                    report(Progress(start, size, len(jobs), step.index, step.total, number, strategy))

                latents = sample(
                    evaluator=BranchEvaluator(
                        UNetForward(self.unet, self.compiled), [one for one, _ in batch]
                    ),
                    batch=Batch(
                        [one.scene for one, _ in batch],
                        model,
                        make_scheduler(scheduler, self.scheduler),
                        generators,
                    ),
                    guidance=chain,
                    full=Branch.full(named),
                    noise=self._noise(generators, model),
                    steps=steps,
                    energy_paths=paths,
                    mean_maps=maps,
                    on_step=on_step,
                    on_update=on_update,
                )
                part = Result(
                    images=self.decode(latents),
                    latents=latents,
                    samples=tuple(Sample(one.scene, seed, one.tokens(None)) for one, seed in batch),
                    maps=tuple(maps.mean) if maps is not None and maps.mean is not None else None,
                    trace=tuple(trace),
                    settings=settings,
                )
                if on_batch is not None:
                    on_batch(part)
                parts.append(part)
        return Result.merge(parts)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "s c h w"]) -> list[Any]:
        """Pictures of latents."""
        scaled = (latents / self.vae.config["scaling_factor"]).to(self.vae.dtype)
        return to_images(self.vae.decode(scaled, return_dict=False)[0] / 2 + 0.5)

    def _settings(
        self,
        conditioners: Sequence[Conditioner],
        guidance: Sequence[Guidance],
        scheduler: str,
        steps: int,
        size: tuple[int, int],
        batch_size: int,
        reproducibility: Reproducibility,
    ) -> GenerationSettings:
        if reproducibility not in get_args(Reproducibility):
            raise UserError("field 'reproducibility'", "'normal' or 'exact'", repr(reproducibility))
        device = self.unet.device
        on_gpu = device.type == "cuda"
        return GenerationSettings(
            model=self.name,
            folder=self.folder,
            conditioners=tuple(conditioners),
            guidance=tuple(guidance),
            scheduler=scheduler,
            steps=steps,
            size=size,
            batch_size=batch_size,
            reproducibility=reproducibility,
            device=str(device),
            hardware=torch.cuda.get_device_name(device)
            if on_gpu
            else torch.backends.cpu.get_cpu_capability(),
            dtype=str(self.unet.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
        )

    def _noise(self, generators: Sequence[torch.Generator], model: ModelView) -> Float[Tensor, "s c h w"]:
        shape = (1, int(self.vae.config["latent_channels"]), *model.latent_size)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(model.device, torch.promote_types(model.dtype, torch.float32))

    def map_paths(self, latent_size: Grid, positions: int = MAP_POSITIONS) -> frozenset[str]:
        """The transformer blocks whose maps have the finest size of at most so many positions, for such latents."""
        depth = {path: self._depth(path) for path in cross_attention_paths(self.unet)}
        # the middle block alone is a single layer, too few to average
        levels = sorted({level for path, level in depth.items() if not path.startswith("mid_block")})
        for level in levels or [self._depth("mid_block.")]:
            chosen = frozenset(path for path in depth if depth[path] == level)
            if math.prod(-(-side // 2**level) for side in latent_size) <= positions:
                break
        return chosen

    def _depth(self, path: str) -> int:
        """How many times the feature map at this block has been halved."""
        kind, number = path.split(".")[:2]
        last = len(self.unet.config["block_out_channels"]) - 1
        if kind == "mid_block":
            return last
        return int(number) if kind == "down_blocks" else last - int(number)

    def _checked(
        self,
        scenes: Sequence[Scene],
        steps: int,
        seeds: Sequence[int],
        height: int | None,
        width: int | None,
        batch_size: int,
    ) -> tuple[int, int]:
        size = (height or self.size[0], width or self.size[1])
        factor = self.view(size).factor
        for name, side in zip(("height", "width"), size, strict=True):
            if side < factor or side % factor:
                near = max(factor, round(side / factor) * factor)
                raise UserError(
                    f"field '{name}'", f"a multiple of {factor} pixels", str(side), f"{near} is near."
                )
        for name, count in (("steps", steps), ("batch_size", batch_size)):
            if count < 1:
                raise UserError(f"field '{name}'", "at least 1", str(count))
        if steps > int(self.scheduler.get("num_train_timesteps", 1000)):
            raise UserError("field 'steps'", f"at most {self.scheduler['num_train_timesteps']}", str(steps))
        if not scenes or not seeds:
            raise UserError("field 'seeds'" if scenes else "scene", "at least one", "none")
        return size


def _resolved(item: Any, kind: str, base: type[Any]) -> Any:
    if isinstance(item, str):
        return registry().plugin(item, kind)()
    if not isinstance(item, base):
        raise UserError(kind, f"a name or an instance of weft.{base.__name__}", repr(item))
    return item


def _named(conditioners: Sequence[Conditioner]) -> dict[str, Conditioner]:
    named: dict[str, Conditioner] = {}
    for conditioner in conditioners:
        if conditioner.strength == 0.0:
            continue  # absence, bit for bit: not even its null takes part
        count = sum(1 for other in named.values() if other.name == conditioner.name)
        named[conditioner.name if count == 0 else f"{conditioner.name}_{count + 1}"] = conditioner
    return named
