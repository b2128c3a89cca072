"""grounding's weights in all the forms that they have: folders of diffusers, whole checkpoints, and the small file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.grounding_models import SCENE, gated_unet, model_with
from safetensors.torch import load_file, save_file

import weft
from weft.plugins.conditioners.grounding.keys import in_diffusers_names, in_original_names
from weft.testing import random_model

OPTIONS = {"steps": 2, "seeds": [0], "attention": False}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """A model without grounding; one with it in `weft/`; and diffusers' folder of the same weights."""
    root = tmp_path_factory.mktemp("grounding")
    unet = gated_unet("gated")
    folders = {"plain": random_model(root / "plain"), "own": model_with(unet, root / "own")}
    folders["gligen"] = random_model(root / "gligen")
    unet.save_pretrained(folders["gligen"] / "unet")
    return folders


@pytest.fixture(scope="module")
def grounded(places) -> torch.Tensor:
    return weft.load(places["own"]).generate(SCENE, ["grounding"], **OPTIONS).latents


def test_diffusers_folder_is_the_plain_model_without_the_conditioner(places) -> None:
    plain, gligen = (
        weft.load(places[name]).generate(SCENE, **OPTIONS).latents for name in ("plain", "gligen")
    )
    assert torch.equal(plain, gligen)


def test_diffusers_folder_finds_its_own_weights(places, grounded) -> None:
    assert torch.equal(
        weft.load(places["gligen"]).generate(SCENE, ["grounding"], **OPTIONS).latents, grounded
    )


@pytest.mark.parametrize("form", ["folder", "unet", "file", "checkpoint", "small", "pruned"])
def test_every_form_is_read_beside_another_model(form: str, places, grounded, tmp_path) -> None:
    pipe = weft.load(places["plain"])
    tensors = load_file(places["own"] / "weft" / "grounding.safetensors")
    path = {
        "folder": places["gligen"],
        "unet": places["gligen"] / "unet",
        "file": next((places["gligen"] / "unet").glob("*.safetensors")),
    }.get(form, tmp_path / "weights.safetensors")
    if form == "checkpoint":
        named = in_original_names(tensors, pipe.unet)
        whole = {f"model.diffusion_model.{name}": tensor for name, tensor in named.items()}
        save_file(whole | {"first_stage_model.a": torch.zeros(1), "betas": torch.zeros(1)}, path)
    elif form == "pruned":
        own = in_diffusers_names(tensors, pipe.unet, "weights")
        save_file(
            {f"model.{name}": tensor for name, tensor in in_original_names(own, pipe.unet).items()}, path
        )
    elif form == "small":
        weft.Grounding(weights=places["gligen"]).write(pipe.view(pipe.size), path)
    drawn = pipe.generate(SCENE, [weft.Grounding(weights=path)], **OPTIONS)
    assert torch.equal(drawn.latents, grounded)
    (saved,) = drawn.save(tmp_path / "out")
    assert "weights" in saved.with_suffix(".json").read_text()


def test_the_small_file_has_the_names_that_other_programs_read(places, tmp_path) -> None:
    pipe = weft.load(places["gligen"])
    path = weft.Grounding().write(pipe.view(pipe.size), tmp_path / "small.safetensors")
    names = load_file(path).keys()
    assert {name.split(".")[0] for name in names} == {
        "position_net",
        "input_blocks",
        "middle_block",
        "output_blocks",
    }
    assert all(name.startswith("position_net.") or ".fuser." in name for name in names)
    assert "input_blocks.1.1.transformer_blocks.0.fuser.alpha_attn" in names
    assert "middle_block.1.transformer_blocks.0.fuser.linear.weight" in names


def test_an_inpainting_folder_is_no_model_by_itself(places, tmp_path) -> None:
    folder = random_model(tmp_path / "inpainting")
    gated_unet("gated", in_channels=9).save_pretrained(folder / "unet")
    with pytest.raises(weft.UserError, match=r"field 'in_channels'.*4, as many as it predicts, found 9"):
        weft.load(folder)


def test_a_hub_id_is_asked_for_the_unet_alone(places, grounded, monkeypatch) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def snapshot(repository: str, allow_patterns: list[str], **_: object) -> str:
        asked.append(allow_patterns)
        return str(places["gligen"])

    gligen = places["gligen"]
    files = [path.relative_to(gligen).as_posix() for path in gligen.rglob("*") if path.is_file()]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_: files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    pipe = weft.load(places["plain"])
    drawn = pipe.generate(SCENE, [weft.Grounding(weights=Path("owner/Gligen_V1.4"))], **OPTIONS)
    assert torch.equal(drawn.latents, grounded)
    assert {name.split("/")[0] for name in asked[0]} == {"model_index.json", "unet"}
