"""Every port against an oracle: diffusers' own argument for it, a widened or merged UNet, or another prompt."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from helpers import port_plugins as plugins

import weft
from weft.core.api.attention_maps import MapRecorder
from weft.core.api.ports import (
    BlockInsert,
    ContextTokens,
    FeatureResiduals,
    InputChannels,
    TextRegion,
    WeightDelta,
)
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.testing import parametrize_with_checks, random_pipeline, random_unet

SCENE = weft.Scene("a toy on grass", subjects=(weft.Subject("toy", box=(0.25, 0.25, 0.75, 1.0)),))
TIMESTEP = torch.tensor(501)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def inputs(rows: int = 2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 4, 8, 8, generator=generator), torch.randn(rows, 11, 32, generator=generator)


def forward(unet, latents, context, contributions):
    return UNetForward(unet)(latents, TIMESTEP, gather(list(context), contributions))


def draw(*conditioners, **options):
    options = {"steps": 3, "guidance": [weft.ClassifierFree(5.0)], **options}
    return random_pipeline().generate(options.pop("scene", SCENE), conditioners, **options).latents


@parametrize_with_checks([cls() for cls in plugins.ALL])
def test_contract(plugin, check) -> None:
    check(plugin)


def test_token_embeddings_equal_the_other_word() -> None:
    """Writing the embedding of 'car' over 'toy' is the prompt with 'car'."""
    car = weft.Scene("a car on grass")
    assert torch.equal(draw(plugins.WordSwap(word="car")), draw(scene=car))


def test_text_states_equal_the_other_prompt() -> None:
    other = weft.Scene("two boats at night")
    assert torch.equal(draw(plugins.OtherPrompt(prompt=other.prompt)), draw(scene=other))


def test_extra_tokens_add_their_own_attention() -> None:
    """The text's own tokens once more, at strength s, is the text's attention times 1 + s."""
    unet, (latents, context) = random_unet(), inputs()
    doubled = copy.deepcopy(unet)
    for name, module in doubled.named_modules():
        if name.endswith("attn2"):
            module.to_v.weight.mul_(1.25)
    expected = doubled(latents, TIMESTEP, context).sample
    ours = forward(unet, latents, context, [(ContextTokens(tokens, strength=0.25),) for tokens in context])
    assert torch.allclose(ours, expected, atol=1e-5)


def test_extra_tokens_stay_in_their_region() -> None:
    unet, (latents, context) = random_unet(), inputs(1)
    nowhere = ContextTokens(context[0], region=torch.zeros(32, 32))
    everywhere = ContextTokens(context[0], region=torch.ones(32, 32))
    plain = forward(unet, latents, context, [()])
    assert torch.equal(forward(unet, latents, context, [(nowhere,)]), plain)
    assert torch.allclose(
        forward(unet, latents, context, [(everywhere,)]),
        forward(unet, latents, context, [(ContextTokens(context[0]),)]),
    )


def test_words_are_read_in_their_region_only() -> None:
    unet, (latents, context) = random_unet(), inputs(1)
    mask = torch.zeros(32, 32)
    mask[:, :16] = 1.0
    recorder = MapRecorder(frozenset({"down_blocks.0.attentions.0.transformer_blocks.0"}), slice(None))
    conditions = gather(list(context), [(TextRegion(torch.tensor([2, 3]), mask),)])
    UNetForward(unet)(latents, TIMESTEP, conditions, recorder)
    (maps,) = recorder.probabilities.values()
    left, right = maps.view(4, 8, 8, 11)[:, :, :4], maps.view(4, 8, 8, 11)[:, :, 4:]
    assert right[..., [2, 3]].max() == 0.0
    assert left[..., [2, 3]].min() > 0.0
    assert right[..., [0, 1, 4]].min() > 0.0


def test_block_inserts_equal_gligen_in_diffusers() -> None:
    """The same fusers, in diffusers' own slot and through the port."""
    unet, (latents, context) = random_unet(attention_type="gated"), inputs()
    objects = torch.randn(2, 5, 32)
    modules = {}
    for name, module in unet.named_modules():
        if name.endswith("fuser"):
            module.alpha_attn.fill_(0.7)
            module.alpha_dense.fill_(-0.4)
            modules[name.removesuffix(".fuser")] = plugins.OpenFuser(module)
    unet.position_net = torch.nn.Identity()
    unet.position_net.forward = lambda objs: objs
    expected = unet(latents, TIMESTEP, context, cross_attention_kwargs={"gligen": {"objs": objects}}).sample
    plain = random_unet()  # a UNet with fusers of its own is refused
    plain.load_state_dict({name: one for name, one in unet.state_dict().items() if ".fuser." not in name})
    ours = forward(plain, latents, context, [(BlockInsert(modules, objs),) for objs in objects])
    assert torch.equal(ours, expected)
    assert not torch.allclose(ours, forward(plain, latents, context, [(), ()]), atol=1e-3)


def test_residuals_equal_controlnet_and_t2i_adapter_arguments() -> None:
    unet, (latents, context) = random_unet(), inputs()
    state = torch.full((2, 1), 0.1)
    given = plugins.bump_residuals(unet)(latents, TIMESTEP, context, state)
    expected = unet(
        latents,
        TIMESTEP,
        context,
        down_block_additional_residuals=given.skips,
        mid_block_additional_residual=given.middle,
        down_intrablock_additional_residuals=list(given.blocks),
    ).sample
    entry = FeatureResiduals(plugins.bump_residuals(unet), torch.full((1,), 0.1))
    assert torch.allclose(forward(unet, latents, context, [(entry,), (entry,)]), expected, atol=1e-6)


def test_input_channels_equal_a_widened_convolution() -> None:
    unet, (latents, context) = random_unet(), inputs()
    wide = random_unet(in_channels=5)
    wide.load_state_dict(
        {k: v for k, v in unet.state_dict().items() if not k.startswith("conv_in")}, strict=False
    )
    extra = plugins.extra_convolution(unet)
    wide.conv_in.weight.copy_(torch.cat([unet.conv_in.weight, extra.weight], dim=1))
    wide.conv_in.bias.copy_(unet.conv_in.bias + extra.bias)
    channels = torch.rand(2, 1, 8, 8)
    expected = wide(torch.cat([latents, channels], dim=1), TIMESTEP, context).sample
    ours = forward(unet, latents, context, [(InputChannels(extra, channel),) for channel in channels])
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("low_rank", [True, False])
def test_weight_deltas_equal_merged_weights(low_rank: bool) -> None:
    unet, (latents, context) = random_unet(), inputs()
    merged, entries = copy.deepcopy(unet), []
    for path, (up, down) in plugins.lora(unet, plugins.UNET_LAYERS).items():
        delta = torch.einsum("or...,ri...->oi...", up.flatten(1), down)
        merged.get_submodule(path).weight.add_(0.5 * delta)
        entries.append(
            WeightDelta(path, up, down, strength=0.5) if low_rank else WeightDelta(path, delta, strength=0.5)
        )
    expected = merged(latents, TIMESTEP, context).sample
    assert torch.allclose(forward(unet, latents, context, [tuple(entries)] * 2), expected, atol=1e-5)
    assert not torch.allclose(forward(unet, latents, context, [(), ()]), expected, atol=1e-3)


def test_a_delta_that_does_not_fit_names_the_layer_and_both_shapes() -> None:
    unet, (latents, context) = random_unet(), inputs(1)
    path = plugins.UNET_LAYERS[0]
    with pytest.raises(weft.PluginError, match=rf"{path}.*\(32, 32\).*\(7, 7\)"):
        forward(unet, latents, context, [(WeightDelta(path, torch.zeros(7, 7)),)])
    with pytest.raises(weft.PluginError, match="no such layer"):
        forward(unet, latents, context, [(WeightDelta("nowhere", torch.zeros(7, 7)),)])


def test_rows_do_not_meet() -> None:
    """Every row of a mixed batch is what it is alone: contributions concern their own rows only."""
    unet, (latents, context) = random_unet(), inputs(3)
    modules = plugins.fusers(unet, 32)
    rows = [
        (
            BlockInsert(modules, torch.ones(5, 32)),
            InputChannels(plugins.extra_convolution(unet), torch.ones(1, 8, 8)),
        ),
        (),
        (
            ContextTokens(context[0]),
            *(WeightDelta(p, u, d) for p, (u, d) in plugins.lora(unet, plugins.UNET_LAYERS).items()),
        ),
    ]
    together = forward(unet, latents, context, rows)
    for i in range(3):
        alone = forward(unet, latents[i : i + 1], context[i : i + 1], [rows[i]])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_all_six_ports_at_once_in_any_order() -> None:
    made = [
        cls()
        for cls in (
            plugins.WordSwap,
            plugins.EchoTokens,
            plugins.Fuser,
            plugins.Bumps,
            plugins.SubjectChannel,
        )
    ]
    made.append(plugins.RandomLora())
    everything = draw(*made)
    assert torch.isfinite(everything).all()
    assert torch.allclose(draw(*reversed(made)), everything, atol=1e-4)
    for number in range(len(made)):
        fewer = draw(*(plugin for i, plugin in enumerate(made) if i != number))
        assert not torch.allclose(fewer, everything, atol=1e-4), (
            f"{made[number].name} has no effect among the others"
        )


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(plugins.ALL, 2)), ids=lambda pair: "+".join(p.name for p in pair)
)
def test_every_pair(pair) -> None:
    assert torch.isfinite(draw(*(cls() for cls in pair), steps=2)).all()


def test_the_absent_form_is_the_plugins_own_null(monkeypatch) -> None:
    """The null branch of classifier-free guidance runs with the fuser's null tokens, not without the fuser."""
    recorded = []
    modules = plugins.fusers(random_pipeline().unet, 32)

    class Spy(plugins.OpenFuser):
        def __call__(self, hidden, state, strength, grid):
            recorded.append(state.abs().amax(dim=(1, 2)).tolist())
            return super().__call__(hidden, state, strength, grid)

    plugin = plugins.Fuser()
    spies = {path: Spy(module.fuser) for path, module in modules.items()}
    monkeypatch.setattr(plugins, "fusers", lambda unet, width: spies)
    draw(plugin, steps=1)
    null, full = recorded[0]
    assert null == 0.0
    assert full > 0.0


def test_strength_scales_smoothly_from_absence() -> None:
    for cls in plugins.ALL:
        near, at = draw(cls(strength=1e-4), steps=1), draw(steps=1)
        if cls in (plugins.Fuser, plugins.SubjectChannel):
            continue  # their null takes part in the null branch, which is not absence
        assert torch.allclose(near, at, atol=1e-2), cls.name
