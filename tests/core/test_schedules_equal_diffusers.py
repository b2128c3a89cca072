"""Schedules against diffusers' pipelines, by plugins of the tests' own through `weft.plugin` alone: ControlNet (one and
two, each in its interval) and T2I-Adapter, in float64, with effects that matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
)
from PIL import Image
from torch import Tensor

import weft
from weft.plugin import (
    Conditioner,
    FeatureResiduals,
    Fixed,
    ModelView,
    Prepared,
    Residuals,
    Scene,
    Step,
    open_image,
    random_model,
    record,
    to_tensor,
)

PROMPT, SIZE, STEPS, SEED, SCALE = "a red star on grass", 32, 10, 3, 5.0
MAPS = {
    name: Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
    for seed, name in enumerate(("edges", "depth"))
}


@record
class Control(Conditioner):
    """ControlNet (Zhang et al. 2023, arXiv 2302.05543), of a network that the test makes."""

    name: ClassVar[str] = "control"
    null = "same"
    networks: ClassVar[dict[str, ControlNetModel]] = {}

    map_name: str

    def factor(self, step: Step) -> float:
        """As diffusers counts: on where index / total >= start and (index + 1) / total <= end."""
        assert isinstance(self.schedule, tuple)
        start, end = self.schedule
        on = step.index / step.total >= start and (step.index + 1) / step.total <= end
        return 1.0 if on else 0.0

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        network = self.networks[self.map_name]
        image = to_tensor(open_image(scene.maps[self.map_name], "map")).to(model.dtype)

        def residuals(latents: Tensor, timestep: Tensor, context: Tensor, state: Tensor) -> Residuals:
            skips, middle = network(
                latents, timestep, encoder_hidden_states=context, controlnet_cond=state, return_dict=False
            )
            return Residuals(tuple(skips), middle)

        entries = (FeatureResiduals(residuals, image),)
        return Fixed(entries, entries)


@record
class Adapter(Conditioner):
    """T2I-Adapter (Mou et al. 2023, arXiv 2302.08453), of a network that the test makes."""

    name: ClassVar[str] = "adapter"
    null = "same"
    networks: ClassVar[dict[str, T2IAdapter]] = {}

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        image = to_tensor(open_image(scene.maps["edges"], "map")).to(model.dtype)
        features = self.networks["edges"](image[None])
        sizes = [tuple(one.shape[1:]) for one in features]
        flat = torch.cat([one[0].flatten() for one in features])

        def residuals(latents: Tensor, timestep: Tensor, context: Tensor, state: Tensor) -> Residuals:
            parts = state.split([int(np.prod(size)) for size in sizes], dim=1)
            return Residuals(
                blocks=tuple(part.view(-1, *size) for part, size in zip(parts, sizes, strict=True))
            )

        entries = (FeatureResiduals(residuals, flat),)
        return Fixed(entries, entries)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionPipeline:
    folder = random_model(tmp_path_factory.mktemp("model"))
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def controlnet(unet: Any, seed: int) -> ControlNetModel:
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        unet,
        conditioning_embedding_out_channels=(16, 32, 96),  # this VAE's factor is 4
        conditioning_channels=3,
        controlnet_conditioning_channel_order="rgb",
    )
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.3)  # the zero convolutions
    return network.double().eval().requires_grad_(False)


def ours(folder: Any, conditioners: Sequence[Conditioner]) -> Tensor:
    scene = weft.Scene(PROMPT, maps=MAPS)
    pipe = weft.load(folder, device="cpu", dtype=torch.float64)
    options: dict[str, Any] = {"steps": STEPS, "seeds": (SEED,), "height": SIZE, "width": SIZE}
    return pipe.generate(scene, conditioners, [weft.ClassifierFree(SCALE)], **options).latents


def expected(pipe: Any, **options: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    call = {
        "num_inference_steps": STEPS,
        "guidance_scale": SCALE,
        "height": SIZE,
        "width": SIZE,
        "output_type": "latent",
        # in float64 diffusers would draw other noise
        "latents": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(SEED)).double(),
    }
    latents: Tensor = pipe([PROMPT], **call, **options).images
    return latents


@pytest.mark.parametrize("intervals", [[(0.0, 0.5)], [(0.25, 0.8)], [(0.0, 0.6), (0.35, 1.0)]], ids=str)
def test_controlnets_in_their_intervals(theirs, intervals) -> None:
    names = list(MAPS)[: len(intervals)]
    Control.networks.update({name: controlnet(theirs.unet, seed) for seed, name in enumerate(names)})
    networks = [Control.networks[name] for name in names]
    several = len(networks) > 1
    pipe = StableDiffusionControlNetPipeline(
        **{**theirs.components, "controlnet": networks if several else networks[0]},
        requires_safety_checker=False,
    )
    pipe.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    images = [to_tensor(MAPS[name])[None].double() for name in names]
    starts, ends = ([interval[side] for interval in intervals] for side in (0, 1))
    wanted = expected(
        pipe,
        image=images if several else images[0],
        control_guidance_start=starts if several else starts[0],
        control_guidance_end=ends if several else ends[0],
        controlnet_conditioning_scale=[1.0] * len(networks) if several else 1.0,
    )
    pairs = zip(names, intervals, strict=True)
    given = ours(theirs.config._name_or_path, [Control(name, schedule=interval) for name, interval in pairs])
    assert float((given - wanted).abs().max()) <= 1e-9
    always = ours(theirs.config._name_or_path, [Control(name, schedule=(0.0, 1.0)) for name in names])
    assert float((given - always).abs().max()) > 1e-2
    assert float((given - ours(theirs.config._name_or_path, [])).abs().max()) > 1e-2


def test_an_adapter_and_two_halves_of_it(theirs) -> None:
    torch.manual_seed(0)
    channels = list(theirs.unet.config.block_out_channels)
    factor = 2 ** (len(theirs.vae.config.block_out_channels) - 1)
    network = T2IAdapter(
        in_channels=3,
        channels=channels,
        num_res_blocks=1,
        downscale_factor=factor,
        adapter_type="full_adapter",
    )
    network = network.double().eval().requires_grad_(False)
    Adapter.networks["edges"] = network
    parts = {name: part for name, part in theirs.components.items() if name != "image_encoder"}
    pipe = StableDiffusionAdapterPipeline(**parts, adapter=network, requires_safety_checker=False)
    pipe.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    wanted = expected(pipe, image=to_tensor(MAPS["edges"])[None].double())
    given = ours(theirs.config._name_or_path, [Adapter()])
    assert float((given - wanted).abs().max()) <= 1e-9
    halves = ours(theirs.config._name_or_path, [Adapter(schedule=(0.0, 0.5)), Adapter(schedule=(0.5, 1.0))])
    assert torch.equal(halves, given)
    assert float((given - ours(theirs.config._name_or_path, [])).abs().max()) > 1e-2
