"""grounding: the plugin contract, what its tokens and gates do, whose weights it reads, and what it refuses."""

from __future__ import annotations

import functools
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import port_plugins as ports
from PIL import Image
from safetensors.torch import save_file

import weft
from weft.core.api.branches import Branch
from weft.core.api.ports import BlockInsert
from weft.core.checkpoints.tensors import read_config
from weft.core.load import load
from weft.core.scene import Scene
from weft.plugins.conditioners.grounding import KEYPOINTS
from weft.plugins.conditioners.grounding.features import phrase_features
from weft.plugins.conditioners.grounding.keys import in_diffusers_names
from weft.plugins.conditioners.grounding.networks import GroundingNetworks
from weft.testing import Case, parametrize_with_checks, random_model


@functools.cache
def pipeline(tokenizer: str = "text", inpainting: bool = False):
    """A random model with grounding weights whose gates are open, loaded once."""
    with tempfile.TemporaryDirectory() as name:
        folder = random_model(Path(name))
        (folder / "weft").mkdir()
        model = load(folder, device="cpu")
        save_file(
            networks(model, tokenizer, inpainting).state_dict(), folder / "weft" / "grounding.safetensors"
        )
        model = load(folder, device="cpu")
        model.generate(SCENES[tokenizer], [weft.Grounding(mode=tokenizer)], steps=1)  # reads the file
        return replace(model, folder=_kept(folder))


def _kept(folder: Path) -> Path:
    """The weights once more, in a place that outlives the temporary folder; removed at exit."""
    place = tempfile.TemporaryDirectory()
    _places.append(place)
    (Path(place.name) / "weft").mkdir()
    target = Path(place.name) / "weft" / "grounding.safetensors"
    target.write_bytes((folder / "weft" / "grounding.safetensors").read_bytes())
    return Path(place.name)


_places: list[tempfile.TemporaryDirectory] = []


def networks(model, tokenizer: str = "text", inpainting: bool = False) -> GroundingNetworks:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        made = GroundingNetworks.create(
            model.unet, model.text.width, 64, tokenizer=tokenizer, persons=2, inpainting=inpainting
        )
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "alpha" in name:
                    parameter.fill_(1.2)
                if "null" in name:
                    parameter.normal_()
                if ".to_out." in name or ".ff.net.2." in name:  # zero in fresh networks
                    parameter.uniform_(-0.1, 0.1)
                if name == "conv_in.weight":
                    parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


LEFT, RIGHT = (0.0, 0.25, 0.5, 1.0), (0.5, 0.0, 1.0, 0.75)
PROMPT = "a toy and a red star on grass"
SCENE = Scene(PROMPT, [weft.Subject("toy", box=LEFT), weft.Subject("red star", box=RIGHT)])
SOURCE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
SCENES = {
    "text": replace(SCENE, source=SOURCE),
    "text_image": SCENE,
    "keypoints": Scene(PROMPT, [weft.Subject("toy", keypoints={"nose": (0.5, 0.2), "left_eye": (0.4, 0.1)})]),
}


def draw(model=None, conditioners=("grounding",), scene=SCENE, **options):
    return (
        (model or pipeline())
        .generate(scene, conditioners, **{"guidance": (), "steps": 2, "attention": False, **options})
        .latents
    )


@parametrize_with_checks([weft.Grounding(), weft.Grounding(max_objects=3)], Case(pipeline, SCENE))
def test_contract(plugin, check) -> None:
    check(plugin)


@parametrize_with_checks(
    [weft.Grounding()], Case(functools.partial(pipeline, inpainting=True), SCENES["text"])
)
def test_contract_of_inpainting(plugin, check) -> None:
    check(plugin)


@parametrize_with_checks(
    [weft.Grounding(mode="keypoints")], Case(functools.partial(pipeline, "keypoints"), SCENES["keypoints"])
)
def test_contract_of_keypoints(plugin, check) -> None:
    check(plugin)


def test_untrained_networks_change_nothing(tmp_path) -> None:
    model = pipeline()
    fresh = GroundingNetworks.create(model.unet, model.text.width, 48, inpainting=True)
    save_file(fresh.state_dict(), tmp_path / "fresh.safetensors")
    scene = SCENES["text"]
    ungrounded = draw(conditioners=(), scene=scene)
    assert torch.allclose(
        draw(conditioners=[weft.Grounding(weights=tmp_path / "fresh.safetensors")], scene=scene),
        ungrounded,
        atol=1e-5,
    )


def test_absent_is_null_tokens_and_off_is_no_trace() -> None:
    model = pipeline().view((32, 32))
    prepared = weft.Grounding().prepare(SCENE, model)
    text = model.text.tokens(PROMPT)
    (present,), (absent,) = prepared.present(text), prepared.absent(text)
    assert isinstance(present, BlockInsert)
    assert isinstance(absent, BlockInsert)
    assert present.modules is absent.modules
    assert present.state.shape == absent.state.shape == (30, 32)
    # the places that no subject takes are null in both, before the projection and so after it
    assert torch.allclose(present.state[2:], absent.state[2:])
    assert (absent.state == absent.state[0]).all()
    assert not torch.allclose(present.state[:2], absent.state[:2])
    (again,) = weft.Grounding().prepare(Scene("a toy", [weft.Subject("toy", box=LEFT)]), model).present(text)
    assert isinstance(again, BlockInsert)
    assert again.modules is present.modules  # so that two scenes share one call


def test_gradients_reach_every_trained_tensor() -> None:
    model = pipeline()
    for tokenizer in ("text", "text_image", "keypoints"):
        made = networks(model, tokenizer)
        boxes, known = torch.rand(2, 3, 4), torch.tensor([[True, True, False], [False] * 3])
        features = torch.randn(2, 3, 32)
        if tokenizer == "text":
            tokens = made.tokens(boxes, features, known)
        elif tokenizer == "text_image":
            tokens = made.text_image_tokens(boxes, features, known, features, known.flip(1))
            assert tokens.shape == (2, 6, 32)
        else:
            tokens = made.keypoint_tokens(torch.rand(2, 34, 2), torch.arange(34).expand(2, 34) % 2 == 1)
        path, module = next(iter(made.block_modules.items()))
        hidden = torch.randn(2, 16, made.get_submodule(f"{path}.fuser").linear.out_features)
        module(hidden, tokens, torch.ones(2), (4, 4)).square().sum().backward()
        trained = [p for n, p in made.named_parameters() if n.startswith(("position_net", f"{path}.fuser"))]
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained)


def test_phrases_are_read_at_their_end_token() -> None:
    for text in (pipeline().text, weft.load("tiny").text):
        phrases = ["toy", "red star"]
        pooled = phrase_features(text, phrases)
        for phrase, feature in zip(phrases, pooled, strict=True):
            tokens = text.tokens(phrase)
            end = max(i for i, (a, b) in enumerate(tokens.offsets) if b > a) + 1
            assert torch.allclose(text.encode(tokens)[end], feature, atol=1e-5)


@pytest.mark.parametrize("other", [*ports.ALL, None], ids=lambda other: other.name if other else "all")
def test_beside_other_conditioners(other) -> None:
    """Strength 0 of grounding beside another equals that other alone; strength 1 does not; batches equal singles."""
    others = [one() for one in (ports.ALL if other is None else [other])]
    both = {"guidance": [weft.ClassifierFree(4.0)], "height": 48, "width": 32}
    alone = draw(conditioners=others, **both)
    assert torch.equal(draw(conditioners=[*others, weft.Grounding(strength=0.0)], **both), alone)
    grounded = draw(conditioners=[weft.Grounding(), *others], **both)
    assert float((grounded - alone).abs().max()) > 1e-3
    plain = draw(**both)
    assert float((grounded - plain).abs().max()) > 1e-6
    two = [Scene(PROMPT, [weft.Subject("red star", box=RIGHT)]), SCENE]
    together = draw(conditioners=[weft.Grounding(), *others], scene=two, **both)
    assert torch.allclose(together[1], grounded[0], atol=1e-3)


@pytest.mark.parametrize(
    "strategy",
    [
        weft.Layout(scale=100.0, threshold=0.0, updates=1),
        weft.AttendAndExcite(100.0, thresholds={}),
        weft.Instruct(4.0, 1.5),
        weft.ClassifierFree(4.0, rescale=0.5),
    ],
    ids=lambda strategy: strategy.name,
)
def test_with_any_guidance(strategy) -> None:
    grounded = draw(guidance=[strategy])
    assert bool(torch.isfinite(grounded).all())
    assert not torch.equal(grounded, draw())


def test_strength_scales_the_whole_residual() -> None:
    module = next(iter(networks(pipeline()).block_modules.values()))
    hidden, tokens = torch.randn(3, 16, 32), torch.randn(3, 5, 32)
    at = {s: module(hidden, tokens, torch.full((3,), s), (4, 4)) for s in (0.0, 0.5, 1.0)}
    assert torch.equal(at[0.0], hidden)
    assert torch.allclose(at[0.5] - hidden, 0.5 * (at[1.0] - hidden), atol=1e-5)


def test_full_branch_knows_grounding() -> None:
    assert Branch.full(["grounding"]).switched_off("grounding").off == {"grounding"}


@pytest.mark.parametrize(
    ("scene", "plugin", "words"),
    [
        (
            Scene(PROMPT, [weft.Subject("toy")]),
            weft.Grounding(),
            "scene 'a toy.*a subject with a box, found none",
        ),
        (SCENE, weft.Grounding(max_objects=1), r"'max_objects'.*at most 1 subject\(s\) with a box, found 2"),
        (
            SCENE,
            weft.Grounding(mode="text_image"),
            "field 'mode'.*'text', which these weights know, found 'text_image'",
        ),
        (
            Scene(f"a {'very ' * 80}big toy", [weft.Subject(f"{'very ' * 80}big toy", box=LEFT)]),
            weft.Grounding(),
            "field 'phrase'.*77 tokens.*cuts off",
        ),
        (SCENE, weft.Grounding(weights=Path("none.safetensors")), "none.safetensors'.*exists"),
    ],
)
def test_refusals(scene, plugin, words) -> None:
    with pytest.raises(weft.UserError, match=words):
        draw(conditioners=[plugin], scene=scene)


def test_refusals_of_pictures_and_keypoints() -> None:
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'images'.*mode 'image'.*found none"):
        draw(pipeline("text_image"), [weft.Grounding(mode="image")])
    pictured = Scene(PROMPT, [weft.Subject("toy", [SOURCE], box=LEFT)])
    with pytest.raises(weft.UserError, match=r"image tower.*open_clip.*'image_encoder'"):
        draw(pipeline("text_image"), [weft.Grounding(mode="text_image")], pictured)
    named = Scene(PROMPT, [weft.Subject("toy", keypoints={"noze": (0.5, 0.5)})])
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'keypoints'.*'noze'.*'nose'"):
        draw(pipeline("keypoints"), [weft.Grounding(mode="keypoints")], named)
    with pytest.raises(weft.UserError, match="a subject with keypoints, found none"):
        draw(pipeline("keypoints"), [weft.Grounding(mode="keypoints")])
    three = Scene("a b c", [weft.Subject(p, keypoints={"nose": (0.5, 0.5)}) for p in "abc"])
    with pytest.raises(weft.UserError, match=r"at most 2 subject\(s\) with keypoints, found 3"):
        draw(pipeline("keypoints"), [weft.Grounding(mode="keypoints")], three)
    with pytest.raises(weft.UserError, match=r"'source'.*an image to edit, found none"):
        draw(pipeline("text", inpainting=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("position_net.linears.0.weight"), r"'position_net.linears.0.weight', found none"),
        (
            lambda t: t.pop("mid_block.attentions.0.transformer_blocks.0.fuser.alpha_attn"),
            "alpha_attn'.*missing",
        ),
        (
            lambda t: t.update({"position_net.linears.2.weight": torch.zeros(64, 63)}),
            r"linears.2.weight'.*shape \(64, 64\), found \(64, 63\)",
        ),
        (
            lambda t: t.update({"position_net.null_positive_feature": torch.zeros(2, 2)}),
            r"null_positive_feature'.*1 dimension\(s\), found shape \(2, 2\)",
        ),
        (lambda t: t.update({"stray": torch.zeros(1)}), "position_net.*found 'stray'"),
    ],
)
def test_wrong_weights_are_named(change, words) -> None:
    model = pipeline()
    tensors = networks(model).state_dict()
    change(tensors)
    with pytest.raises(weft.UserError, match=words):
        GroundingNetworks.from_tensors(tensors, model.unet)


@pytest.mark.parametrize(("kind", "tokenizer"), [("gated", "text"), ("gated-text-image", "text_image")])
@pytest.mark.parametrize("channels", [4, 9])
def test_names_of_the_full_size_weights(kind: str, tokenizer: str, channels: int) -> None:
    """Stable Diffusion 1.4's shapes: ours are diffusers', and the repository's names become them, one for one."""
    config = read_config(Path(weft.__file__).parent / "zoo" / "sd15" / "unet" / "config.json")
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        theirs = UNet2DConditionModel(
            **{**fields, "attention_type": kind, "in_channels": channels}
        ).state_dict()
        model = UNet2DConditionModel(**fields)
        made = GroundingNetworks.create(model, 768, tokenizer=tokenizer, inpainting=channels == 9)
    wanted = {name: tensor.shape for name, tensor in made.state_dict().items()}
    peers = {name: theirs[name].shape for name in theirs if "fuser" in name or "position_net" in name}
    if channels == 9:
        peers |= {name: theirs[name].shape for name in ("conv_in.weight", "conv_in.bias")}
    assert wanted == peers
    assert len([name for name in wanted if name.endswith("alpha_attn")]) == 16
    assert {n: t.shape for n, t in in_diffusers_names(theirs, model, "test").items()} == wanted

    original = {"model." + originally(name): tensor for name, tensor in theirs.items()}
    assert any(name.startswith("model.output_blocks.11.1.transformer_blocks.0.fuser") for name in original)
    assert not any(
        name.startswith(("model.down_blocks", "model.mid_block", "model.up_blocks")) for name in original
    )
    assert {n: t.shape for n, t in in_diffusers_names(original, model, "test").items()} == wanted


def originally(name: str) -> str:
    """A diffusers name in the terms of GLIGEN's repository, from the numbers of its 12 input and 12 output blocks."""
    attention = re.fullmatch(r"(down|up)_blocks\.(\d)\.attentions\.(\d)\.(.+)", name)
    if attention:
        side, block, layer, rest = attention[1], int(attention[2]), int(attention[3]), attention[4]
        table = {
            "down": [[1, 2], [4, 5], [7, 8]],
            "up": [[], [3, 4, 5], [6, 7, 8], [9, 10, 11]],
        }
        kind = "input_blocks" if side == "down" else "output_blocks"
        return f"{kind}.{table[side][block][layer]}.1.{rest}"
    if name.startswith("mid_block.attentions.0."):
        return name.replace("mid_block.attentions.0.", "middle_block.1.")
    if name.startswith("conv_in."):
        return name.replace("conv_in.", "input_blocks.0.0.")
    if name.startswith("position_net."):
        return name
    return "input_blocks.1.0." + name  # the UNet's own, which are left out whatever their names


def test_keypoint_names_are_cocos() -> None:
    assert len(KEYPOINTS) == len(set(KEYPOINTS)) == 17
