"""grounding beside other methods, against diffusers' GLIGEN pipeline that is given the same by hand, in float64."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import StableDiffusionGLIGENPipeline
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from helpers import grounding_models as models
from helpers import port_plugins as ports
from helpers import subject_models as subjects

import weft
from weft.core.api.branches import Branch
from weft.core.api.conditioner import Fixed
from weft.core.api.ports import ContextTokens, WeightDelta
from weft.core.families.blocks import cross_attention_paths
from weft.core.load import load
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from weft.testing import random_tower

theirs, ours, error, SCENE, SIZE = models.theirs, models.ours, models.error, models.SCENE, models.SIZE
PICTURED = weft.Scene(
    models.PROMPT,
    [weft.Subject(phrase, [subjects.picture(0)], box=box) for phrase, box in models.BOXES.items()],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = models.model_with(models.gated_unet("gated"), tmp_path_factory.mktemp("beside"))
    random_tower(made)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        networks = PseudoWordNetworks.create(models.gated_unet("gated"), 24, 32, 2, subjects.LAYERS)
        torch.nn.init.normal_(networks.word.output.weight, std=0.1)
    subjects.write(networks, made / "weft" / "pseudo_word.safetensors")
    return made


@pytest.fixture(scope="module")
def pipeline(folder) -> weft.Pipeline:
    return load(folder, device="cpu", dtype=torch.float64)


@pytest.fixture
def peer(folder):
    made = models.peer_of(StableDiffusionGLIGENPipeline, folder, models.gated_unet("gated"))
    return made.to(torch.float64)


@pytest.fixture(scope="module")
def grounded(pipeline) -> torch.Tensor:
    """With nothing beside it."""
    return ours(pipeline)


def check(found: torch.Tensor, expected: torch.Tensor, grounded: torch.Tensor) -> None:
    assert found.dtype == expected.dtype == torch.float64
    assert error(found, expected) <= 1e-9
    assert error(found, grounded) > 1e-2  # what is beside it takes part


@weft.record
class UNetLora(weft.Conditioner):
    """Low-rank deltas on linear layers and convolutions of the UNet."""

    name: ClassVar[str] = "unet_lora"

    def prepare(self, scene, model):
        layers = ports.lora(model.unet, ports.UNET_LAYERS).items()
        deltas = tuple(WeightDelta(path, up, down) for path, (up, down) in layers)
        return Fixed(deltas, deltas)


def test_lora_is_the_peer_with_merged_weights(peer, pipeline, grounded) -> None:
    """Merged weights are in every branch, so the form of the null branch is the present one."""
    with torch.no_grad():
        for path, (up, down) in ports.lora(peer.unet, ports.UNET_LAYERS).items():
            weight = peer.unet.get_submodule(path).weight
            weight += torch.einsum("or,ri...->oi...", up.flatten(1).double(), down.double())
    check(ours(pipeline, beside=(UNetLora(),)), theirs(peer), grounded)


@functools.cache
def image_prompt() -> tuple[torch.Tensor, torch.Tensor]:
    """Four tokens of an image, and those of none."""
    generator = torch.Generator().manual_seed(8)
    return torch.randn(4, 32, generator=generator).double(), torch.randn(4, 32, generator=generator).double()


@functools.cache
def image_projections() -> dict[str, tuple[torch.nn.Linear, torch.nn.Linear]]:
    """By block, keys' and values' projections of an IP-Adapter."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return {
            path: tuple(
                torch.nn.Linear(32, layer.to_q.out_features, bias=False).double().requires_grad_(False)
                for _ in range(2)
            )
            for path, layer in cross_attention_paths(models.gated_unet("gated")).items()
        }


@weft.record
class ImagePrompt(weft.Conditioner):
    """An IP-Adapter's part in the UNet: context tokens with keys and values of their own; its null are tokens too."""

    name: ClassVar[str] = "image_prompt"

    def prepare(self, scene, model):
        present, null = (ContextTokens(tokens, image_projections()) for tokens in image_prompt())
        return Fixed((present,), (null,))


@pytest.mark.parametrize("scale", [1.0, 0.625])  # what float32 holds, which segments' weights are in
def test_an_image_prompt_is_the_peer_with_ip_adapter_processors(
    peer, pipeline, grounded, scale: float
) -> None:
    """On the cross-attention alone: loaded the usual way, diffusers gives the gated attention a processor too."""
    unet = peer.unet
    for path, (to_k, to_v) in image_projections().items():
        processor = IPAdapterAttnProcessor2_0(to_k.out_features, 32, scale=scale)
        processor.to_k_ip[0], processor.to_v_ip[0] = to_k, to_v
        unet.get_submodule(f"{path}.attn2").set_processor(processor)
    forward, (present, null) = unet.forward, image_prompt()

    def with_picture(sample, timestep, encoder_hidden_states, **options):
        both = encoder_hidden_states, [torch.stack([null, present])]
        return forward(sample, timestep, both, **options)

    unet.forward = with_picture
    check(ours(pipeline, beside=(ImagePrompt(strength=scale),)), theirs(peer), grounded)


def test_a_pseudo_word_is_the_peer_with_its_text_states(peer, pipeline, grounded) -> None:
    model = pipeline.view((SIZE["height"], SIZE["width"]))
    prepared = PreparedScene(PICTURED, model, {"pseudo_word": weft.PseudoWord()})
    states = prepared.row(Branch.full(["pseudo_word"])).context
    null = prepared.row(Branch(prompt="snow")).context
    expected = theirs(
        peer,
        prompt=None,
        negative_prompt=None,
        prompt_embeds=states[None],
        negative_prompt_embeds=null[None],
    )
    check(ours(pipeline, scene=PICTURED, beside=(weft.PseudoWord(),)), expected, grounded)


def test_attend_and_excite_descends_the_maps_of_the_grounded_unet(pipeline) -> None:
    """The gradient's own forward goes through the gates, with one form of the null in the batch beside it."""
    excite = weft.AttendAndExcite(200.0, thresholds={0: 0.99}, updates=6)

    def descent(*conditioners):
        chain = [excite, weft.ClassifierFree(7.5, negative_prompt="snow")]
        result = pipeline.generate(SCENE, conditioners, chain, steps=2, seeds=[0, 1], **SIZE)
        return result.latents, result.trace[0].descents[0].losses

    latents, losses = descent("grounding")
    plain, others = descent()
    assert error(latents, plain) > 1e-2
    for sample in range(2):
        mine = [row[sample] for row in losses]
        assert len(mine) > 2
        assert mine[-1] < mine[0] - 1e-4
        assert abs(mine[0] - others[0][sample]) > 1e-4  # of other maps than the plain UNet's
    ungraded = pipeline.generate(
        SCENE,
        ["grounding"],
        [weft.ClassifierFree(7.5, negative_prompt="snow")],
        steps=2,
        seeds=[0, 1],
        **SIZE,
    )
    assert error(latents, ungraded.latents) > 1e-3


def test_all_of_them_at_once(peer, pipeline) -> None:
    """LoRA, an image prompt and pseudo words in one grounded image: each of them is missed when it is not there."""
    every = (UNetLora(), ImagePrompt(), weft.PseudoWord())
    whole = ours(pipeline, scene=PICTURED, beside=every)
    assert bool(torch.isfinite(whole).all())
    for left_out in every:
        rest = tuple(one for one in every if one is not left_out)
        assert error(ours(pipeline, scene=PICTURED, beside=rest), whole) > 1e-2, left_out.name
