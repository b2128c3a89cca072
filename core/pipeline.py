"""The pipeline: a frozen model, and `generate`, which composes scenes, conditioners and guidance into images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Num
from torch import Tensor

from .api.attention_maps import Grid
from .api.branches import Branch
from .api.conditioner import Conditioner
from .api.family import Family
from .api.generation_settings import GenerationSettings, Reproducibility
from .api.guidance import DEFAULT_GUIDANCE, MAP_POSITIONS, Batch, Guidance
from .api.load_settings import LoadSettings
from .api.model_view import ModelView
from .api.plugin_loading import SUFFIX
from .api.registry import registry
from .api.sampler_settings import BATCH_SIZE, SamplerSettings
from .api.schedulers import make_scheduler
from .api.text_encoder import TextEncoder
from .errors import UserError
from .families import family_of
from .provenance.read_files import files_with_own, read_files
from .result import Result, Sample
from .sampling.branch_evaluator import BranchEvaluator, PreparedScene
from .sampling.checks import in_branches, refusals
from .sampling.companions import SceneSet, companions, together
from .sampling.denoise import Denoising
from .sampling.events import Events
from .sampling.guidance_chain import GuidanceChain
from .sampling.progress import Progress, ProgressEvents, bar
from .scene.pixels import to_images
from .scene.reading import warn_of_syntax, warn_of_unread
from .scene.scene import Scene
from .storage.file_digests import FileDigests
from .unet.compile import Compiled
from .unet.forward import UNetForward


@dataclass(frozen=True)
class Pipeline:
    """A model that images are drawn with. Its parameters are frozen and never written.

    Args:
        name: how it was asked for.
        text: tokenizer and text transformer.
        unet: the UNet.
        vae: the autoencoder.
        scheduler: the noise schedule, a diffusers scheduler configuration.
        folder: where the model lies, for the weights that its plugins bring.
        compiled: the UNet's compiled form; see `compile`.
        files: those that it was read from.
        loaded: how.
    """

    name: str
    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: Mapping[str, Any]
    folder: Path | None = None
    compiled: Compiled | None = field(default=None, repr=False)
    files: FileDigests = field(default_factory=FileDigests, repr=False)
    loaded: LoadSettings = field(default_factory=LoadSettings, repr=False)

    def __post_init__(self) -> None:
        for module in (self.text.model, self.unet, self.vae):
            module.requires_grad_(False).eval()

    def __repr__(self) -> str:
        height, width = self.size
        weights = f"{str(self.unet.dtype).removeprefix('torch.')} on {self.unet.device}"
        return f"<Pipeline '{self.name}': {self.family.name}, {width} x {height}, {weights}>"

    @property
    def family(self) -> Family:
        """Which family of models it is of."""
        return family_of(self.unet.config)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the model was trained at, in pixels."""
        return self.family.native_size(self.unet.config, self.vae.config)

    def view(self, size: tuple[int, int]) -> ModelView:
        """The model as conditioners see it, for images of (height, width) pixels."""
        return ModelView(self.text, self.unet, self.vae, size, self.family, self.folder, self.loaded.variant)

    def compile(self, backend: str = "inductor", mode: str | None = None) -> Pipeline:
        """The same pipeline with a UNet that is compiled when it is first needed: minutes, once for each batch's shape.

        The first step under new conditions runs plain, and so does what cannot be compiled, with one line in the log.
        Images may differ from the plain pipeline's in the last bits.

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
        guidance: Sequence[str | Guidance] = DEFAULT_GUIDANCE,
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
            guidance: the chain of strategies, applied in order; names, or instances. Classifier-free by default.
            steps: of the scheduler, at least 1.
            scheduler: one of `weft.core.api.schedulers.SCHEDULERS`, by the name that run files use.
            seeds: one image each. A seed means the same image alone or in a batch.
            height: in pixels, a multiple of the latent factor; the model's own by default.
            width: likewise.
            batch_size: images that are denoised together; the companions that plugins want beside one are not counted.
            reproducibility: with ``exact``, every image is denoised alone, or with its companions, whatever
                ``batch_size`` says, so that it is the same bit for bit whatever is drawn beside it: with several
                threads even the place in a batch rounds.
            attention: record the attention maps for `Result.attention`.
            progress: True for a bar, or a function that is called after every step and every refinement update.
            on_batch: called with every finished batch, so that its images can be kept when a later one fails.

        Warns:
            SceneWarning: of scene data that no conditioner and no strategy declares to read, and of syntax of other
                programs in a prompt, which is drawn as plain words.

        Raises:
            UserError: an argument, a name or a field of the scene is wrong.
            PluginError: a plugin failed; the message names it and the step.
        """
        scenes = [scene] if isinstance(scene, Scene) else list(scene)
        sampler = self._sampler(scheduler, steps, width, height, batch_size, reproducibility)
        if not scenes or not seeds:
            raise UserError("field 'seeds'" if scenes else "scene", "at least one", "none")
        instances = [_resolved(item, "conditioner", Conditioner) for item in conditioners]
        chain = GuidanceChain([_resolved(item, "guidance", Guidance) for item in guidance])
        named = in_branches(instances)
        brought = chain.brought()
        everything = {**named, **brought, **chain.by_key}
        beside = [companions(everything, one) for one in scenes]
        others = [one for wanted in beside for part in wanted.values() for one in part]
        for _, error in refusals([*scenes, *others], instances, chain.strategies):
            raise error
        warn_of_syntax([one.prompt for one in scenes], stacklevel=3)
        warn_of_unread(scenes, [one.scene_fields for one in (*instances, *chain.strategies)], stacklevel=3)
        settings = self._settings(instances, chain.strategies, sampler, reproducibility)
        settings = replace(
            settings, references=read_files(scenes, [*instances, *chain.strategies, self.loaded])
        )
        model = self.view(settings.size)
        prepared = {id(one): PreparedScene(one, model, named | brought) for one in [*scenes, *others]}
        sets = [
            SceneSet(
                prepared[id(one)],
                {key: tuple(prepared[id(other)] for other in part) for key, part in wanted.items()},
            )
            for one, wanted in zip(scenes, beside, strict=True)
        ]
        samples = [(one, seed) for one in sets for seed in seeds]
        size = settings.batch_size
        with bar(progress, len(samples)) as report:
            events = ProgressEvents(report, on_batch, len(samples))
            generation = _Generation(self, model, chain, Branch.full(named), settings, attention, events)
            return Result.merge(
                [generation.batch(samples[i : i + size]) for i in range(0, len(samples), size)]
            )

    def predict(
        self,
        latents: Float[Tensor, "s c h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " s"],
        scene: Scene | Sequence[Scene],
        conditioners: Sequence[str | Conditioner] = (),
        branch: Branch | None = None,
    ) -> Float[Tensor, "s c h w"]:
        """What the UNet predicts of noisy latents, through the same ports as `generate`, with gradients: for training.

        Gradients reach the latents and what conditioners hand over: words, token embeddings, text states, tokens,
        deltas, and the parameters of modules; the model itself stays frozen. Conditioners are prepared anew at every
        call; what one computes under `torch.no_grad` keeps gradients out.

        Args:
            latents: scaled for the timestep.
            timestep: of all of them, or of each.
            scene: one for each of the latents, or one for all.
            conditioners: as in `generate`.
            branch: what is evaluated; by default every conditioner is present.
        """
        scenes = [scene] * len(latents) if isinstance(scene, Scene) else list(scene)
        if len(scenes) != len(latents):
            raise UserError("Pipeline.predict, argument 'scene'", f"{len(latents)} scenes", str(len(scenes)))
        instances = [_resolved(item, "conditioner", Conditioner) for item in conditioners]
        for _, error in refusals(scenes, instances, ()):
            raise error
        named = in_branches(instances)
        factor = self.family.latent_factor(self.vae.config)
        model = self.view((latents.shape[2] * factor, latents.shape[3] * factor))
        prepared = {id(one): PreparedScene(one, model, named) for one in scenes}
        evaluator = BranchEvaluator(UNetForward(self.unet), [prepared[id(one)] for one in scenes])
        branch = Branch.full(named) if branch is None else branch
        predictions, _ = evaluator(latents, timestep, [branch])
        return predictions[branch]

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "s c h w"]) -> list[Any]:
        """Images of latents."""
        return to_images(self.family.to_pixels(self.vae, latents) / 2 + 0.5)

    def map_paths(self, latent_size: Grid, positions: int = MAP_POSITIONS) -> frozenset[str]:
        """The transformer blocks whose maps have the finest size of at most so many positions, for such latents."""
        return self.family.map_paths(self.unet, latent_size, positions)

    def _sampler(
        self,
        scheduler: str,
        steps: int,
        width: int | None,
        height: int | None,
        batch_size: int,
        reproducibility: Reproducibility,
    ) -> SamplerSettings:
        """The settings with what is the model's own written out.

        Raises:
            UserError: one of them is wrong.
        """
        if reproducibility not in get_args(Reproducibility):
            raise UserError("field 'reproducibility'", "'normal' or 'exact'", repr(reproducibility))
        make_scheduler(scheduler, self.scheduler)
        native, factor = self.size, self.family.latent_factor(self.vae.config)
        size = {"height": height or native[0], "width": width or native[1]}
        for name, side in size.items():
            if side < factor or side % factor:
                near = f"{max(factor, round(side / factor) * factor)} is near."
                raise UserError(f"field '{name}'", f"a multiple of {factor} pixels", str(side), near)
        for name, count in (("steps", steps), ("batch_size", batch_size)):
            if count < 1:
                raise UserError(f"field '{name}'", "at least 1", str(count))
        if steps > int(self.scheduler.get("num_train_timesteps", 1000)):
            raise UserError("field 'steps'", f"at most {self.scheduler['num_train_timesteps']}", str(steps))
        together = 1 if reproducibility == "exact" else batch_size
        return SamplerSettings(scheduler, steps, **size, batch_size=together)

    def _settings(
        self,
        conditioners: Sequence[Conditioner],
        guidance: Sequence[Guidance],
        sampler: SamplerSettings,
        reproducibility: Reproducibility,
    ) -> GenerationSettings:
        device = self.unet.device
        on_gpu = device.type == "cuda"
        return GenerationSettings(
            model=self.name,
            folder=self.folder,
            conditioners=tuple(conditioners),
            guidance=tuple(guidance),
            sampler=sampler,
            reproducibility=reproducibility,
            device=str(device),
            hardware=torch.cuda.get_device_name(device)
            if on_gpu
            else torch.backends.cpu.get_cpu_capability(),
            dtype=str(self.unet.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            files=files_with_own(self.files, self.folder),
            loaded=self.loaded,
        )


@dataclass(frozen=True)
class _Generation:
    """What all batches of one call of `Pipeline.generate` share."""

    pipe: Pipeline
    model: ModelView
    chain: GuidanceChain
    full: Branch
    settings: GenerationSettings
    attention: bool
    events: Events

    def batch(self, asked: Sequence[tuple[SceneSet, int]]) -> Result:
        """Draw some scenes, each with its seed."""
        pipe, model, sampler = self.pipe, self.model, self.settings.sampler
        self.events.batch_started(len(asked))
        batch = together(asked)
        samples = batch.samples
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in samples]
        scheduler = make_scheduler(sampler.scheduler, pipe.scheduler)
        paths = cache(partial(pipe.map_paths, model.latent_size))
        denoised = Denoising(
            evaluator=BranchEvaluator(
                UNetForward(pipe.unet, pipe.compiled), [one for one, _ in samples], batch.sets
            ),
            batch=Batch([one.scene for one, _ in samples], model, scheduler, generators),
            chain=self.chain,
            sets=batch.sets,
            full=self.full,
            map_paths=paths,
            recorded=paths() if self.attention else frozenset(),
            events=self.events,
        ).run(self._noise(generators), sampler.steps)
        latents = denoised.latents[: len(asked)]
        result = Result(
            images=pipe.decode(latents),
            latents=latents,
            samples=tuple(
                Sample(one.scene, seed, one.tokens(self.full).without_words())
                for one, seed in samples[: len(asked)]
            ),
            maps=tuple(denoised.maps[: len(asked)]) if denoised.maps is not None else None,
            trace=denoised.trace,
            settings=self.settings,
        )
        self.events.batch_finished(result)
        return result

    def _noise(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "s c h w"]:
        model = self.model
        shape = (1, int(model.vae.config["latent_channels"]), *model.latent_size)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(model.device, torch.promote_types(model.dtype, torch.float32))


def _resolved(item: Any, kind: str, base: type[Any]) -> Any:
    if isinstance(item, str):
        if item.endswith(SUFFIX):
            registry().add_file(Path(item))
        return registry().plugin(item, kind)()
    if not isinstance(item, base):
        raise UserError(kind, f"a name or an instance of weft.{base.__name__}", repr(item))
    return item
