"""Image towers: the same features as open_clip's own model, and clear errors where a checkpoint does not fit."""

from __future__ import annotations

import json
import os

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import load_file, save_file

import weft
from weft.core.api.image_encoder import ARCHITECTURE, load_tower
from weft.testing import random_model, random_tower

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_tower(random_model(folder))
    return folder


def copied(folder, path, changes=None, without=None):
    """The random tower's checkpoint with other tensors, beside no configuration."""
    tensors = load_file(folder / "open_clip" / "open_clip_model.safetensors") | (changes or {})
    tensors.pop(without, None)
    save_file(tensors, path)
    return path


def config_of(folder):
    return folder / "open_clip" / "open_clip_config.json"


def pictures():
    noise = torch.randint(0, 256, (3, 20, 30, 3), generator=torch.Generator().manual_seed(0))
    return [Image.fromarray(one.numpy().astype("uint8")) for one in noise]


def test_features_are_those_of_open_clip(folder) -> None:
    tower = weft.load(folder, device="cpu").view((32, 32)).image_tower()
    settings = json.loads(config_of(folder).read_text())
    reference = CLIP(**settings["model_cfg"]).eval()
    reference.load_state_dict(load_file(folder / "open_clip" / "open_clip_model.safetensors"))
    transform = open_clip.image_transform(
        16, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="squash"
    )
    pixels = torch.stack([transform(picture) for picture in pictures()])
    assert torch.equal(tower.pixels(pictures()), pixels)
    features = tower(pixels)
    with torch.no_grad():
        assert torch.equal(features.pooled, reference.encode_image(pixels))
        hidden = reference.visual.ln_post(reference.visual.transformer(reference.visual._embeds(pixels)))
    assert torch.equal(features.patches, hidden[:, 1:])
    assert features.patches.shape == (3, 16, 32)
    assert features.pooled.shape == (3, tower.width)


def test_a_tower_is_frozen_and_kept_until_its_file_changes(folder, tmp_path) -> None:
    path = copied(folder, tmp_path / "tower.safetensors")
    tower = load_tower(path, config_of(folder), CPU, torch.float32)
    assert load_tower(path, config_of(folder), CPU, torch.float32) is tower
    before = tower(tower.pixels(pictures())).pooled
    assert not before.requires_grad
    copied(folder, path, {"visual.proj": torch.zeros(32, 24)})
    os.utime(path, ns=(1, 1))
    changed = load_tower(path, config_of(folder), CPU, torch.float32)
    assert before.any()
    assert not changed(changed.pixels(pictures())).pooled.any()


def test_half_precision_is_near(folder) -> None:
    path = folder / "open_clip" / "open_clip_model.safetensors"
    exact, half = (
        load_tower(path, config_of(folder), CPU, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    pixels = exact.pixels(pictures())
    pooled = half(pixels).pooled
    assert pooled.dtype == torch.bfloat16
    error = (pooled.float() - exact(pixels).pooled).norm() / exact(pixels).pooled.norm()
    assert error < 0.05


def test_the_configuration_beside_a_checkpoint_is_read(folder) -> None:
    model = weft.load(folder, device="cpu").view((32, 32))
    tower = model.image_tower(folder / "open_clip" / "open_clip_model.safetensors")
    pixels = tower.pixels(pictures())
    assert torch.equal(tower(pixels).pooled, model.image_tower()(pixels).pooled)


def test_stable_diffusions_tower_has_the_quick_gelu() -> None:
    config = open_clip.get_model_config(ARCHITECTURE)
    assert config["quick_gelu"]
    assert config["embed_dim"] == 768
    assert config["vision_cfg"] == open_clip.get_model_config("ViT-L-14")["vision_cfg"]


def test_no_global_random_state_is_moved(folder, tmp_path) -> None:
    path = copied(folder, tmp_path / "tower.safetensors")
    state = torch.get_rng_state()
    tower = load_tower(path, config_of(folder), CPU, torch.float32)
    tower(tower.pixels(pictures()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "without", "message"),
    [
        ({}, "visual.proj", r"image encoder 'odd.safetensors': expected a tensor 'proj', found none"),
        (
            {"visual.proj": torch.zeros(32, 25)},
            None,
            r"'odd.safetensors', tensor 'proj': expected shape \(32, 24\), found \(32, 25\)",
        ),
        ({"visual.more": torch.zeros(1)}, None, r"expected no other tensors, found 'more'"),
        ({"visual.proj": torch.full((32, 24), torch.nan)}, None, r"tensor 'visual.proj': expected finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, tmp_path, changes, without, message) -> None:
    path = copied(folder, tmp_path / "odd.safetensors", changes, without)
    with pytest.raises(weft.UserError, match=message):
        load_tower(path, config_of(folder), CPU, torch.float32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "ViT-L-14-quickgleu",
            r"field 'architecture': expected an open_clip architecture.*Did you mean 'ViT-L-14-quickgelu'",
        ),
        ("hf-hub:some/model", r"expected an open_clip architecture, found 'hf-hub:some/model'"),
        (
            "RN50",
            r"image encoder 'RN50': expected an open_clip model with a vision transformer, found a tower",
        ),
        ("coca_ViT-B-32", r"image encoder 'coca_ViT-B-32': expected an open_clip model with a vision"),
    ],
)
def test_other_architectures_are_refused(folder, config, message) -> None:
    path = folder / "open_clip" / "open_clip_model.safetensors"
    with pytest.raises(weft.UserError, match=message):
        load_tower(path, config, CPU, torch.float32)


def test_a_configuration_that_says_nothing_is_refused(folder, tmp_path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    path = folder / "open_clip" / "open_clip_model.safetensors"
    with pytest.raises(weft.UserError, match=r"the objects 'model_cfg' and 'preprocess_cfg'"):
        load_tower(path, tmp_path / "open_clip_config.json", CPU, torch.float32)


def test_files_that_are_not_there_are_named(folder, tmp_path) -> None:
    bare = weft.load(random_model(tmp_path / "bare"), device="cpu").view((32, 32))
    with pytest.raises(
        weft.UserError, match=r"image tower: expected the folder 'open_clip'.*'image_encoder'"
    ):
        bare.image_tower()
    with pytest.raises(weft.UserError, match=r"nowhere.safetensors': expected a file that exists"):
        bare.image_tower(tmp_path / "nowhere.safetensors")
    with pytest.raises(weft.UserError, match=r"file '.*tower\.bin': expected a \.safetensors file"):
        bare.image_tower(tmp_path / "tower.bin")
