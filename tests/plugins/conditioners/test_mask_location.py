"""mask_location: its channel and polarity, its null, the widened convolution, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import port_plugins
from helpers import subject_models as models
from torch import nn

import weft
from weft.core.api.branches import Branch
from weft.core.api.ports import InputChannels, WeightDelta
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.core.unet.conditions import Conditions, gather
from weft.core.unet.forward import UNetForward
from weft.core.unet.group import Group
from weft.plugins.conditioners.mask_location.networks import MaskLocationNetworks, at_grid, background
from weft.testing import Case, parametrize_with_checks, random_unet

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
WHOLE = (0.0, 0.0, 1.0, 1.0)
TIME = torch.tensor(500)
FULL = Branch.full(["mask_location"])


def scene(**subject) -> weft.Scene:
    return weft.Scene("a toy on grass", [weft.Subject("toy", **subject)])


def draw(*conditioners, of: weft.Scene | None = None, **options) -> torch.Tensor:
    options = {"seeds": [0], "steps": 1, "guidance": [weft.ClassifierFree(3.0)], **options}
    return models.pipeline().generate(of or scene(box=LEFT), conditioners, **options).latents


def prepared(of: weft.Scene, plugin: weft.MaskLocation | None = None) -> PreparedScene:
    model = models.pipeline().view((32, 32))
    return PreparedScene(of, model, {"mask_location": plugin or weft.MaskLocation()})


def channel_of(of: weft.Scene, plugin: weft.MaskLocation | None = None) -> torch.Tensor:
    (entry,) = [e for e in prepared(of, plugin).row(FULL).contribution if isinstance(e, InputChannels)]
    return entry.channels


@parametrize_with_checks(
    [weft.MaskLocation(), weft.MaskLocation(resize="area", strength=0.5)], Case(pipeline=models.pipeline)
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_one_is_background_and_zero_a_subject() -> None:
    expected = torch.ones(1, 8, 8)
    expected[..., :4] = 0.0
    assert torch.equal(channel_of(scene(box=LEFT)), expected)
    assert torch.equal(channel_of(scene(mask=models.bright((0, 0, 16, 32)))), expected)
    assert torch.equal(channel_of(scene(box=RIGHT, mask=models.bright((0, 0, 16, 32)))), expected)


def test_subjects_multiply_and_those_without_a_place_do_not_count() -> None:
    subjects = [
        weft.Subject("toy", box=(0.0, 0.0, 0.25, 1.0)),
        weft.Subject("star", mask=models.bright((0, 0, 32, 8))),
        weft.Subject("grass"),
    ]
    expected = torch.ones(1, 8, 8)
    expected[:, :, :2] = 0.0
    expected[:, :2] = 0.0
    assert torch.equal(channel_of(weft.Scene("a toy and a star on grass", subjects)), expected)


def test_the_product_is_over_known_subjects() -> None:
    regions = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True, False, True], [False, False, False]])
    got = background(regions, known)
    assert torch.allclose(got[0, 0], (1 - regions[0, 0]) * (1 - regions[0, 2]))
    assert torch.equal(got[1], torch.ones(1, 4, 4))


def test_area_keeps_the_share_that_is_covered() -> None:
    region = torch.zeros(1, 1, 8, 8)
    region[..., :3] = 1.0  # one position and a half of four
    assert at_grid(region, (4, 4), "area")[0, 0, 0].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert set(at_grid(region, (4, 4), "nearest").flatten().tolist()) == {0.0, 1.0}


def test_the_convolution_is_a_widened_conv_in() -> None:
    """A UNet with five input channels, as in the paper, predicts the same."""
    unet, networks = random_unet(), models.mask_networks(rank=0)
    wide = random_unet(seed=1, in_channels=5)
    tensors = unet.state_dict()
    tensors["conv_in.weight"] = torch.cat([tensors["conv_in.weight"], networks.convolution.weight], dim=1)
    tensors["conv_in.bias"] = tensors["conv_in.bias"] + networks.convolution.bias
    wide.load_state_dict(tensors)
    generator = torch.Generator().manual_seed(0)
    latents, context = (
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.randn(2, 77, 32, generator=generator),
    )
    mask = (torch.rand(2, 1, 8, 8, generator=generator) > 0.5).float()
    group = Group(InputChannels(networks.convolution, mask[0]), None, mask, torch.ones(2))
    with torch.no_grad():
        ours = UNetForward(unet)(latents, TIME, Conditions(context, channels=(group,)))
        plain = unet(latents, TIME, context).sample
        theirs = wide(torch.cat([latents, mask], dim=1), TIME, context).sample
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-2)


def test_absent_is_the_frozen_unet_itself() -> None:
    """Neither channel nor delta: the same row as that of a branch in which the conditioner is off."""
    one = prepared(scene(box=LEFT))
    absent, off = FULL.without("mask_location"), FULL.switched_off("mask_location")
    assert one.row(absent).contribution == ()
    assert one.key(absent) == one.key(off) != one.key(FULL)
    kinds = {type(entry) for entry in one.row(FULL).contribution}
    assert kinds == {InputChannels, WeightDelta}


def test_no_mask_equals_the_absent_form(tmp_path) -> None:
    """A subject that fills the image is a channel of zeros, which the bias tells from no channel."""
    path = models.write(models.mask_networks(rank=0), tmp_path / "mask.safetensors")
    everywhere = scene(box=WHOLE)
    assert not channel_of(everywhere).any()
    drawn = draw(weft.MaskLocation(weights=path), of=everywhere)
    assert not torch.allclose(drawn, draw(of=everywhere), atol=1e-4)


def test_fresh_networks_change_no_bit(tmp_path) -> None:
    made = MaskLocationNetworks.create(random_unet(), 2, models.LAYERS)
    path = models.write(made, tmp_path / "mask.safetensors")
    assert torch.equal(draw(weft.MaskLocation(weights=path)), draw())


def test_a_file_gives_its_networks_again() -> None:
    made = models.mask_networks()
    read = MaskLocationNetworks.from_tensors(made.state_dict(), random_unet())
    assert read.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in read.state_dict().items())
    assert [delta.path for delta in read.deltas()] == [delta.path for delta in made.deltas()]
    assert len(read.deltas()) > 10


def test_gradients_reach_every_tensor_from_a_batch() -> None:
    """As in training: some rows of a batch have a mask, and the frozen UNet's parameters get no gradient."""
    unet, networks = random_unet().requires_grad_(False), models.mask_networks()
    latents, context = torch.randn(3, 4, 8, 8), torch.randn(3, 77, 32)
    mask, rows = (torch.rand(2, 1, 8, 8) > 0.5).float(), torch.tensor([0, 2])
    channels = (Group(InputChannels(networks.convolution, mask[0]), rows, mask, torch.ones(2)),)
    deltas = tuple(Group(d, rows, torch.empty(2, 0), torch.ones(2)) for d in networks.deltas())
    predicted = UNetForward(unet)(latents, TIME, Conditions(context, channels=channels, deltas=deltas))
    assert predicted is not None
    predicted.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in networks.parameters())
    plain = UNetForward(unet)(latents, TIME, Conditions(context))
    assert plain is not None
    assert torch.allclose(predicted[1], plain[1], atol=1e-5)
    assert not torch.allclose(predicted[0], plain[0], atol=1e-2)


def test_scenes_of_a_batch_share_one_call() -> None:
    rows = [prepared(scene(box=box)).row(FULL) for box in (LEFT, RIGHT)]
    conditions = gather([row.context for row in rows], [row.contribution for row in rows])
    (group,) = conditions.channels
    assert group.rows is None
    assert not torch.equal(group.state[0], group.state[1])
    assert len(conditions.deltas) == len(models.mask_networks().deltas())


@pytest.mark.parametrize("other", port_plugins.ALL, ids=lambda cls: cls.name)
def test_beside_other_plugins_in_either_order(other) -> None:
    ours = weft.MaskLocation()
    first, last = draw(ours, other()), draw(other(), ours)
    assert torch.allclose(first, last, atol=1e-3)
    assert not torch.allclose(first, draw(other()), atol=1e-3)
    assert not torch.allclose(first, draw(ours), atol=1e-6)
    assert torch.equal(draw(weft.MaskLocation(strength=0.0), other()), draw(other()))


def test_with_the_adapter_grounding_free_guidance_and_a_window() -> None:
    of = weft.Scene("a toy on grass", [weft.Subject("toy", box=LEFT, images=[models.picture(0)])])
    both = [weft.MaskLocation(), weft.SubjectAdapter()]
    drawn = [draw(*order, of=of) for order in itertools.permutations(both)]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    assert not torch.allclose(drawn[0], draw(both[0], of=of), atol=1e-3)
    assert not torch.allclose(drawn[0], draw(both[1], of=of), atol=1e-3)
    chain = [weft.Instruct(7.5, 1.5), weft.Delayed("mask_location", (1.0, 1.0))]
    late = draw(*both, of=of, steps=2, guidance=chain)
    assert torch.equal(late, draw(both[1], of=of, steps=2, guidance=[weft.Instruct(7.5, 1.5)]))


def test_a_scene_without_a_place_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"mask_location, scene 'a toy.*a box or a mask, found none"):
        draw(weft.MaskLocation(), of=scene())


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'mask'.*32 x 32 pixels, found 16 x 32"):
        draw(weft.MaskLocation(), of=scene(mask=models.bright((0, 0, 8, 8), (16, 32))))


def test_a_place_that_covers_nothing_is_refused() -> None:
    dark, thin = models.bright((0, 0, 0, 0)), models.bright((0, 0, 1, 32))
    with pytest.raises(
        weft.UserError, match=r"subject 'toy', field 'mask'.*pixel of 32 x 32, found a black image"
    ):
        draw(weft.MaskLocation(), of=scene(mask=dark))
    with pytest.raises(weft.UserError, match=r"field 'mask'.*'resize' to 'area'"):
        draw(weft.MaskLocation(), of=scene(mask=thin))
    with pytest.raises(weft.UserError, match=r"field 'box'.*pixel of 32 x 32, found \(0.001"):
        draw(weft.MaskLocation(resize="area"), of=scene(box=(0.001, 0.1, 0.002, 0.9)))
    assert torch.isfinite(draw(weft.MaskLocation(resize="area"), of=scene(mask=thin))).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"convolution.weight": torch.zeros(32, 1, 1, 1)},
            r"'convolution\.weight'.*\(32, 1, 3, 3\).*\(32, 1, 1, 1\)",
        ),
        ({"convolution.bias": None}, r"a tensor 'convolution\.bias', found none"),
        ({"unet.nowhere.lora_A": torch.zeros(2, 4)}, r"no other tensors, found 'unet\.nowhere\.lora_A'"),
        (
            {"unet.mid_block.resnets.0.conv1.lora_B": torch.zeros(64, 9, 1, 1)},
            r"'unet\.mid_block\.resnets\.0\.conv1\.lora_B'.*\(64, 2, 1, 1\).*\(64, 9, 1, 1\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, match, tmp_path) -> None:
    holder = nn.ParameterDict()
    tensors = {**models.mask_networks().state_dict(), **change}
    holder.state_dict = lambda: {k: v for k, v in tensors.items() if v is not None}  # type: ignore[method-assign, assignment]
    path = models.write(holder, tmp_path / "mask.safetensors")
    with pytest.raises(weft.UserError, match=f"mask_location.*{match}"):
        draw(weft.MaskLocation(weights=path))


def test_missing_weights_are_refused(tmp_path) -> None:
    with pytest.raises(weft.UserError, match=r"nothing\.safetensors.*a file that exists"):
        draw(weft.MaskLocation(weights=tmp_path / "nothing.safetensors"))
