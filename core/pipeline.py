"""The pipeline: a frozen model, and `generate`, which composes scenes, conditioners and guidance into images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Num
from torch import Tensor, nn

from .api.attention_maps import Grid
from .api.branches import Branch
from .api.conditioner import Conditioner
from .api.family import Family
from .api.generation_settings import GenerationSettings, Reproducibility
from .api.guidance import DEFAULT_GUIDANCE, MAP_POSITIONS, Guidance
from .api.load_settings import LoadSettings
from .api.model_view import ModelView
from .api.plugin_loading import SUFFIX
from .api.registry import registry
from .api.sampler_settings import BATCH_SIZE, SamplerSettings
from .api.schedulers import Scheduler
from .api.text_encoder import TextEncoder
from .errors import UserError
from .families import family_of
from .provenance.read_files import files_with_own, read_files
from .result import Result, Sample
from .sampling.arguments import latents_of, named_once, scenes_of, seeds_of, share, side, whole
from .sampling.branch_evaluator import BranchEvaluator, PreparedScene
from .sampling.checks import in_branches, refusals
from .sampling.companions import SceneSet, companions
from .sampling.denoise import Denoised
from .sampling.generation import Generation, Samples
from .sampling.guidance_chain import GuidanceChain
from .sampling.lent import Lent
from .sampling.progress import Progress, ProgressEvents, bar
from .sampling.scheduler_choice import SchedulerChoice, choose, inverse
from .sampling.surroundings import own_surroundings
from .scene.field_error import quoted
from .scene.pixels import to_images
from .scene.reading import warn_of_syntax, warn_of_unread
from .scene.scene import Scene
from .storage.file_digests import FileDigests
from .unet.compile import Compiled
from .unet.forward import UNetForward

P = ParamSpec("P")
T = TypeVar("T")


def _with_model(method: Callable[Concatenate[Pipeline, P], T]) -> Callable[Concatenate[Pipeline, P], T]:
    """A method that freezes a model of somebody else's while it runs."""

    @functools.wraps(method)
    def called(pipe: Pipeline, /, *args: P.args, **options: P.kwargs) -> T:
        with nullcontext() if pipe.lent is None else pipe.lent.frozen():
            return method(pipe, *args, **options)

    return called


def _drawing(method: Callable[Concatenate[Pipeline, P], T]) -> Callable[Concatenate[Pipeline, P], T]:
    """A method that draws, whatever the caller has set in torch, with a model that is frozen while it runs."""

    @functools.wraps(method)
    def called(pipe: Pipeline, /, *args: P.args, **options: P.kwargs) -> T:
        with own_surroundings(), nullcontext() if pipe.lent is None else pipe.lent.frozen():
            return method(pipe, *args, **options)

    return called


@dataclass(frozen=True)
class Pipeline:
    """A model that images are drawn with. Its parameters are frozen and never written.

    Args:
        name: how it was asked for.
        text: tokenizer and text transformer.
        unet: the UNet.
        vae: the autoencoder.
        scheduler: the noise schedule, a diffusers scheduler configuration.
        folder: where the model lies, if it is one; the weights that its plugins bring are in it.
        own_folder: where they are for another model; see `weft.core.checkpoints.files.own_folder`.
        compiled: the UNet's compiled form; see `compile`.
        files: those that it was read from.
        loaded: how.
        lent: for a model that belongs to somebody else, and is given back as it was after every call.
        extra_input: the part of a wide first convolution that reads what comes beside the latents; see `ModelView`.
    """

    name: str
    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: Mapping[str, Any]
    folder: Path | None = None
    own_folder: Path | None = None
    compiled: Compiled | None = field(default=None, repr=False)
    files: FileDigests = field(default_factory=FileDigests, repr=False)
    loaded: LoadSettings = field(default_factory=LoadSettings, repr=False)
    lent: Lent | None = field(default=None, repr=False)
    extra_input: nn.Conv2d | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for module in (self.text.model, self.unet, self.vae) if self.lent is None else ():
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
        return ModelView(
            self.text,
            self.unet,
            self.vae,
            size,
            self.family,
            self.folder or self.own_folder,
            self.loaded.variant,
            self.extra_input,
        )

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

    @_drawing
    def generate(
        self,
        scene: str | Scene | Iterable[str | Scene],
        conditioners: str | Conditioner | Sequence[str | Conditioner] = (),
        guidance: str | Guidance | Sequence[str | Guidance] = DEFAULT_GUIDANCE,
        *,
        steps: int = 50,
        scheduler: str | Scheduler | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        seeds: Iterable[int] = (0,),
        height: int | None = None,
        width: int | None = None,
        latents: Float[Tensor, "images c h w"] | None = None,
        strength: float | None = None,
        until: float | None = None,
        batch_size: int = BATCH_SIZE,
        reproducibility: Reproducibility = "normal",
        attention: bool = True,
        progress: bool | Callable[[Progress], None] = False,
        on_batch: Callable[[Result], None] | None = None,
    ) -> Result:
        """Draw every scene with every seed.

        Args:
            scene: one scene, or several; a prompt is a scene of its own.
            conditioners: names, or instances with parameters. The scene says what; these say how it enters the UNet.
            guidance: the chain of strategies, applied in order; names, or instances. Classifier-free by default.
            steps: of the scheduler, at least 1.
            scheduler: a name of `weft.core.api.schedulers.SCHEDULERS` or of an installed distribution, as in run files;
                or an object in diffusers' form, which is copied. By default the one that the model's folder names, with
                ``ddim`` for PNDM, which every Stable Diffusion 1.x names.
            scheduler_options: arguments of the scheduler's class and of its methods, such as ``use_karras_sigmas`` or
                ``eta``; they go before what the model says.
            seeds: one image each. A seed means the same image alone or in a batch.
            height: in pixels, a multiple of the latent factor; the model's own by default.
            width: likewise.
            latents: to begin with, for every scene and then every seed: standard normal noise in place of the seeds';
                with a strength, the latents of the step where the run begins, such as `Result.latents` of a run that
                ended there.
            strength: share of the steps that are taken, up to the last, in (0, 1]: the run begins from the scene's
                source with the noise of its first step, as diffusers' image-to-image pipelines do; the source's latents
                are the mean of what the autoencoder gives. By default all steps, from noise alone.
            until: share of the steps after which the run ends, in (0, 1]; its latents are as noisy as they then are.
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
        scenes, seeds = scenes_of(scene), seeds_of(seeds)
        choice = choose(scheduler, scheduler_options, self.scheduler)
        sampler = self._sampler(choice, steps, width, height, batch_size, reproducibility, strength, until)
        instances, chain = self._plugins(conditioners, guidance)
        unwritten = [choice.unwritten, "" if latents is None else "latents, which were given"]
        unwritten += [] if self.lent is None else ["the model, which was given as a pipeline of diffusers"]
        settings = self._settings(scenes, instances, chain.strategies, sampler, reproducibility, unwritten)
        warn_of_syntax([one.prompt for one in scenes], stacklevel=3)
        run = self._generation(scenes, instances, chain, choice, sampler, latents is None)
        samples = [(one, seed) for one in run.scenes for seed in seeds]
        begin = latents_of(latents, len(samples), run.model)
        size, batches = settings.batch_size, []
        with bar(progress, len(samples)) as report:
            events = ProgressEvents(report, on_batch, len(samples), previews=callable(progress))
            for part in (slice(i, i + size) for i in range(0, len(samples), size)):
                events.batch_started(len(samples[part]))
                noise = None if begin is None else begin[part]
                denoised = run.denoised(samples[part], noise, attention, events)
                batches.append(self._result(samples[part], denoised, settings, run.full))
                events.batch_finished(batches[-1])
        return Result.merge(batches)

    @_drawing
    def invert(
        self,
        scene: Scene | Iterable[Scene],
        conditioners: str | Conditioner | Sequence[str | Conditioner] = (),
        guidance: str | Guidance | Sequence[str | Guidance] = (),
        *,
        steps: int = 50,
        height: int | None = None,
        width: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Float[Tensor, "scenes c h w"]:
        """The noise from which ``ddim`` draws each scene's source, through the same conditioners.

        DDIM inversion (Song et al. 2021, arXiv 2010.02502, section 4.3; Mokady et al. 2023, arXiv 2211.09794, section
        3.1): exact in the limit of many steps, and with guidance of scale 1, which is the default. `generate` draws
        from it with ``latents=``, ``scheduler="ddim"`` and as many steps.

        Args:
            scene: with a source; one, or several.
            conditioners: as for `generate`.
            guidance: none by default.
            steps: of the inversion.
            height: as for `generate`.
            width: likewise.
            batch_size: scenes together.

        Raises:
            UserError: a scene has no source, or as `generate`.
        """
        scenes, choice = scenes_of(scene), inverse(self.scheduler)
        sampler = self._sampler(choice, steps, width, height, batch_size, "normal", 1.0, None)
        instances, chain = self._plugins(conditioners, guidance)
        run = self._generation(scenes, instances, chain, choice, sampler, begins_at_source=True)
        samples = [(one, 0) for one in run.scenes]
        size = sampler.batch_size or BATCH_SIZE
        parts = [samples[i : i + size] for i in range(0, len(samples), size)]
        return torch.cat([run.inverted(part) for part in parts])

    @_with_model
    def predict(
        self,
        latents: Float[Tensor, "s c h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " s"],
        scene: Scene | Sequence[Scene],
        conditioners: str | Conditioner | Sequence[str | Conditioner] = (),
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
        instances = [
            _resolved(item, "conditioner", Conditioner)
            for item in named_once(conditioners, "conditioners", Conditioner)
        ]
        for _, error in refusals(scenes, instances, ()):
            raise error
        named = in_branches(instances)
        factor = self.family.latent_factor(self.vae.config)
        model = self.view((latents.shape[2] * factor, latents.shape[3] * factor))
        prepared = {id(one): PreparedScene(one, model, named) for one in scenes}
        evaluator = BranchEvaluator(UNetForward(self.unet), [prepared[id(one)] for one in scenes])
        branch = Branch.full(named) if branch is None else branch
        predictions, _ = evaluator(latents, timestep, None, [branch])
        return predictions[branch]

    @_drawing
    def decode(self, latents: Float[Tensor, "s c h w"]) -> list[Any]:
        """Images of latents."""
        return to_images(self.family.to_pixels(self.vae, latents) / 2 + 0.5)

    def map_paths(self, latent_size: Grid, positions: int = MAP_POSITIONS) -> frozenset[str]:
        """The transformer blocks whose maps have the finest size of at most so many positions, for such latents."""
        return self.family.map_paths(self.unet, latent_size, positions)

    def _sampler(
        self,
        choice: SchedulerChoice,
        steps: int,
        width: int | None,
        height: int | None,
        batch_size: int,
        reproducibility: Reproducibility,
        strength: float | None,
        until: float | None,
    ) -> SamplerSettings:
        """The settings with what is the model's own written out.

        Raises:
            UserError: one of them is wrong.
        """
        if reproducibility not in get_args(Reproducibility):
            raise UserError("field 'reproducibility'", "'normal' or 'exact'", quoted(reproducibility))
        native, factor = self.size, self.family.latent_factor(self.vae.config)
        size = {
            "width": side("field 'width'", width, native[1], factor),
            "height": side("field 'height'", height, native[0], factor),
        }
        steps = whole("field 'steps'", steps, 1)
        choice.check(self.scheduler, steps)
        together = whole("field 'batch_size'", batch_size, 1)
        return SamplerSettings(
            choice.name,
            steps,
            **size,
            batch_size=1 if reproducibility == "exact" else together,
            scheduler_options=choice.options,
            strength=share("field 'strength'", strength),
            until=share("field 'until'", until),
        )

    def _plugins(
        self,
        conditioners: str | Conditioner | Sequence[str | Conditioner],
        guidance: str | Guidance | Sequence[str | Guidance],
    ) -> tuple[list[Conditioner], GuidanceChain]:
        """The plugins that are named.

        Raises:
            UserError: there is no such plugin.
        """
        named = named_once(conditioners, "conditioners", Conditioner)
        instances = [_resolved(item, "conditioner", Conditioner) for item in named]
        named = named_once(guidance, "guidance", Guidance)
        return instances, GuidanceChain([_resolved(item, "guidance", Guidance) for item in named])

    def _generation(
        self,
        scenes: Sequence[Scene],
        conditioners: Sequence[Conditioner],
        chain: GuidanceChain,
        choice: SchedulerChoice,
        sampler: SamplerSettings,
        begins_at_source: bool,
    ) -> Generation:
        """The scenes with their companions, read by every conditioner and, where the run begins there, their sources.

        Raises:
            UserError: a plugin cannot serve a scene.
        """
        assert sampler.height is not None
        assert sampler.width is not None
        model, named, brought = (
            self.view((sampler.height, sampler.width)),
            in_branches(conditioners),
            chain.brought(),
        )
        beside = [companions({**named, **brought, **chain.by_key}, one) for one in scenes]
        others = [one for wanted in beside for part in wanted.values() for one in part]
        for _, error in refusals([*scenes, *others], conditioners, chain.strategies):
            raise error
        readers = [one.scene_fields for one in (*conditioners, *chain.strategies)]
        warn_of_unread(scenes, [*readers, sampler.scene_fields], stacklevel=4)
        sources = [
            model.source_latents(one) for one in scenes if begins_at_source and sampler.strength is not None
        ]
        prepared = {id(one): PreparedScene(one, model, named | brought) for one in [*scenes, *others]}
        full = Branch.full(named)
        for one in prepared.values() if model.extra_input is not None else ():
            one.row(full)  # which refuses a scene that nothing feeds its input with
        sets = [
            SceneSet(
                prepared[id(one)],
                {key: tuple(prepared[id(other)] for other in part) for key, part in wanted.items()},
            )
            for one, wanted in zip(scenes, beside, strict=True)
        ]
        return Generation(model, self.compiled, chain, full, choice, sampler, sets, sources)

    def _result(
        self, samples: Samples, denoised: Denoised, settings: GenerationSettings, full: Branch
    ) -> Result:
        latents, maps = denoised.latents[: len(samples)], denoised.maps
        return Result(
            images=self.decode(latents),
            latents=latents,
            samples=tuple(
                Sample(one.scene.scene, seed, one.scene.tokens(full).without_words()) for one, seed in samples
            ),
            maps=None if maps is None else tuple(maps[: len(samples)]),
            trace=denoised.trace,
            settings=settings,
        )

    def _settings(
        self,
        scenes: Sequence[Scene],
        conditioners: Sequence[Conditioner],
        guidance: Sequence[Guidance],
        sampler: SamplerSettings,
        reproducibility: Reproducibility,
        unwritten: Sequence[str],
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
            files=files_with_own(self.files, self.folder or self.own_folder),
            references=read_files(scenes, [*conditioners, *guidance, self.loaded]),
            loaded=self.loaded,
            unwritten="; ".join(filter(None, unwritten)),
        )


def _resolved(item: Any, kind: str, base: type[Any]) -> Any:
    if isinstance(item, str):
        if item.endswith(SUFFIX):
            registry().add_file(Path(item))
        return registry().plugin(item, kind)()
    if not isinstance(item, base):
        raise UserError(kind, f"a name or an instance of weft.{base.__name__}", repr(item))
    return item
