"""Loading: folders, single files, full size, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re

import pytest
import torch
from helpers.single_file_names import original_names, vae_name
from safetensors.torch import load_file, save_file

import weft
from weft.core.api.registry import registry
from weft.core.load import load
from weft.testing import random_model


@pytest.fixture
def folder(tmp_path):
    return random_model(tmp_path / "model")


def change(path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


UNET = "unet/diffusion_pytorch_model.safetensors"


def test_parameters_are_frozen_and_offline(folder) -> None:
    pipe = load(folder)
    assert not any(
        p.requires_grad for module in (pipe.unet, pipe.vae, pipe.text.model) for p in module.parameters()
    )
    assert pipe.size == (32, 32)


def test_every_tensor_is_the_files(folder) -> None:
    pipe, stored = load(folder), load_file(folder / UNET)
    assert stored.keys() == pipe.unet.state_dict().keys()
    assert all(torch.equal(tensor, pipe.unet.state_dict()[name]) for name, tensor in stored.items())


def rewrite(folder, edit) -> None:
    tensors = load_file(folder / UNET)
    edit(tensors)
    save_file(tensors, folder / UNET)


def drop(tensors) -> None:
    del tensors["conv_in.bias"]


def add(tensors) -> None:
    tensors["../../etc/passwd"] = torch.zeros(1)


def add_another(tensors) -> None:
    tensors["conv_in.gain"] = torch.zeros(1)


def reshape(tensors) -> None:
    tensors["conv_in.bias"] = torch.zeros(7)


def poison(tensors) -> None:
    tensors["conv_in.bias"][3] = float("nan")


def retype(tensors) -> None:
    tensors["conv_in.bias"] = tensors["conv_in.bias"].int()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop, ["unet", "'conv_in.bias'", "1 of"]),
        (add, ["unet", "names of tensors that are no paths", "../../etc/passwd"]),
        (add_another, ["unet", "no other tensors", "conv_in.gain"]),
        (reshape, ["'conv_in.bias'", "(32,)", "(7,)"]),
        (poison, ["'conv_in.bias'", "finite", "NaN"]),
        (retype, ["'conv_in.bias'", "float32", "int32"]),
    ],
)
def test_wrong_tensors_are_named(folder, edit, words) -> None:
    rewrite(folder, edit)
    with pytest.raises(weft.UserError) as refused:
        load(folder)
    for word in words:
        assert word in str(refused.value)


def test_pickle_is_never_read(folder, tmp_path) -> None:
    fired = tmp_path / "fired"

    class Bomb:
        def __reduce__(self):
            return fired.touch, ()

    for name in ("model.ckpt", "model.bin", "model.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(weft.UserError, match=r"safetensors"):
            load(tmp_path / name)
    (tmp_path / "disguised.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(weft.UserError, match="found a pickled checkpoint"):
        load(tmp_path / "disguised.safetensors")
    (folder / UNET).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(weft.UserError, match="found pickled weights alone"):
        load(folder)
    assert not fired.exists()


def test_class_paths_in_files_are_not_followed(folder) -> None:
    change(
        folder / "unet" / "config.json", auto_map={"AutoModel": "evil.Model"}, _class_name=["evil", "Model"]
    )
    with pytest.raises(weft.UserError, match="UNet2DConditionModel"):
        load(folder)
    change(folder / "unet" / "config.json", _class_name="UNet2DConditionModel")
    load(folder)


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda f: (f / "unet" / "config.json").write_text("{"), "JSON"),
        (lambda f: (f / "unet" / "config.json").write_text("[1]"), "a JSON object, found list"),
        (lambda f: (f / "unet" / "config.json").unlink(), "a file that exists"),
        (
            lambda f: change(f / "unet" / "config.json", block_out_channels="many"),
            "a configuration of UNet2D",
        ),
        (lambda f: change(f / "text_encoder" / "config.json", architectures=["EvilModel"]), "CLIPTextModel"),
        (
            lambda f: change(f / "tokenizer" / "tokenizer_config.json", model_max_length=10**9),
            "model_max_length",
        ),
        (lambda f: (f / UNET).write_bytes((f / UNET).read_bytes()[:1000]), "whole safetensors file"),
    ],
)
def test_broken_folders(folder, break_it, match) -> None:
    break_it(folder)
    with pytest.raises(weft.UserError, match=match):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("dual_cross_attention", True, "false"),
        ("only_cross_attention", [False, True, False], "false"),
        ("mid_block_only_cross_attention", True, "false"),
        ("class_embed_type", "timestep", "null"),
        ("time_cond_proj_dim", 256, "null"),
        ("encoder_hid_dim", 768, "null"),
        ("class_embeddings_concat", True, "false"),
        ("attention_type", "other", "'default'"),
        ("in_channels", 9, "4, as many as it predicts"),
        ("mid_block_type", "UNetMidBlock2D", "among UNetMidBlock2DCrossAttn, None"),
        (
            "down_block_types",
            ["CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
            "among CrossAttnDown",
        ),
    ],
)
def test_what_the_forward_pass_does_not_carry_out_is_refused(folder, field, value, expected) -> None:
    change(folder / "unet" / "config.json", **{field: value})
    with pytest.raises(weft.UserError, match=f"UNet configuration, field '{field}': expected {expected}"):
        load(folder)


def test_shards_and_variants_are_read(folder) -> None:
    whole = load(folder).unet.state_dict()
    tensors, path = load_file(folder / UNET), folder / UNET
    names = sorted(tensors)
    save_file({name: tensors[name].bfloat16() for name in names}, path.with_suffix(".bf16.safetensors"))
    assert all(torch.equal(whole[name], one) for name, one in load(folder).unet.state_dict().items())
    brain = load(folder, variant="bf16").unet.state_dict()
    assert torch.equal(brain["conv_in.weight"], whole["conv_in.weight"].bfloat16().float())
    path.unlink()
    for number, part in enumerate((names[:40], names[40:]), start=1):
        shard = path.with_name(f"diffusion_pytorch_model-0000{number}-of-00002.safetensors")
        save_file({name: tensors[name] for name in part}, shard)
    pipe = load(folder)
    assert all(torch.equal(whole[name], one) for name, one in pipe.unet.state_dict().items())
    assert sum("-of-00002" in name for name in pipe.files.digests()) == 2
    save_file({names[0]: tensors[names[0]]}, shard)
    with pytest.raises(weft.UserError, match="in two"):
        load(folder)


def test_settings_reach_the_model(folder) -> None:
    other = random_model(folder.parent / "other")
    file = other / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)
    pipe = load(folder, dtype="bfloat16", vae=other, vae_slicing=True, vae_tiling=True)
    assert pipe.unet.dtype == torch.bfloat16
    assert pipe.vae.use_slicing
    assert pipe.vae.use_tiling
    own, others = (load(path, dtype=torch.bfloat16).vae.state_dict() for path in (folder, other))
    name = "decoder.conv_in.weight"
    assert torch.equal(pipe.vae.state_dict()[name], others[name])
    assert not torch.equal(own[name], others[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"torch_dtype": torch.float16}, "It is called 'dtype'."),
        ({"varient": "fp16"}, "Did you mean 'variant'?"),
        ({"dtype": "fp16"}, "Did you mean 'float16'?"),
        ({"dtype": "int8"}, "one of float32"),
        ({"dtype": torch.int8}, "one of float32"),
        ({"variant": "../x"}, "field 'variant'"),
        ({"variant": "fp16"}, "variant 'fp16'"),
        ({"vae": "nowhere"}, "a file or a folder of an autoencoder"),
    ],
)
def test_settings_that_there_are_not_are_refused(folder, options, words) -> None:
    with pytest.raises(weft.UserError) as refused:
        load(folder, **options)
    assert words in str(refused.value)


def test_half_precision_that_overflows_is_decoded_in_float32(folder) -> None:
    pipe, wide = load(folder, dtype="float16"), load(folder)
    with torch.no_grad():
        pipe.vae.decoder.conv_norm_out.weight.mul_(3e4)  # 65504 is the largest number
        pipe.vae.decoder.conv_norm_out.bias.mul_(3e4)
    wide.vae.load_state_dict(pipe.vae.state_dict())
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = pipe.vae.decode(latents.half() / pipe.vae.config["scaling_factor"]).sample
    assert not torch.isfinite(values).all()
    assert pipe.decode(latents)[0].tobytes() == wide.decode(latents)[0].tobytes()
    assert pipe.vae.dtype == torch.float16


def test_files_that_changed_since_they_were_pinned_are_refused(tmp_path, monkeypatch) -> None:
    card = registry().models()["tiny"]
    wrong = dataclasses.replace(card, sha256=((card.sha256[0][0], "0" * 64), *card.sha256[1:]))
    monkeypatch.setattr(registry(), "model", lambda name: wrong)
    with pytest.raises(weft.UserError, match=r"model 'tiny', file '.*': expected SHA-256 000000000000"):
        load("tiny")


def test_a_vae_is_read_in_every_form(tmp_path, folder) -> None:
    """In diffusers' names and in the original ones, from a file and from a folder, beside any model."""
    other = random_model(tmp_path / "other")
    file = next((other / "vae").glob("*.safetensors"))
    wanted = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(wanted, file)
    original = {}
    for name, tensor in wanted.items():
        # three levels in place of the four of full size, counted from the other end
        named = re.sub(r"decoder\.up\.(\d)", lambda match: f"decoder.up.{int(match[1]) - 1}", vae_name(name))
        wide = re.search(r"attentions\.0\.to_.*weight", name)
        original[named] = tensor[:, :, None, None].clone() if wide else tensor
    save_file(original, tmp_path / "original.safetensors")
    prefixed = {f"first_stage_model.{name}": tensor for name, tensor in original.items()}
    save_file(prefixed | {"model_ema.a": torch.zeros(1)}, tmp_path / "prefixed.safetensors")
    for given in (
        other,
        other / "vae",
        file,
        tmp_path / "original.safetensors",
        tmp_path / "prefixed.safetensors",
    ):
        got = load(folder, vae=given).vae.state_dict()
        assert all(torch.equal(got[name], tensor) for name, tensor in wanted.items()), given


def test_a_hub_id_with_dots_is_read_from_the_cache_without_a_network(folder, monkeypatch) -> None:
    import huggingface_hub

    def no_network(*_: object) -> list[str]:
        raise ConnectionError("no network")

    def cached(repository: str, local_files_only: bool = False, **_: object) -> str:
        assert (repository, local_files_only) == ("owner/Name_V5.1", True)
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", no_network)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    pipe = load("owner/Name_V5.1")
    assert torch.equal(pipe.unet.conv_in.weight, load(folder).unet.conv_in.weight)
    assert pipe.files.digests() == load(folder).files.digests()


def test_a_hub_id_that_is_not_there_is_told(monkeypatch) -> None:
    import huggingface_hub

    def nothing(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", nothing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    with pytest.raises(weft.UserError, match=r"a hub id that can be reached, found 'owner/Name_V5\.1'"):
        load("owner/Name_V5.1")


def test_unknown_names() -> None:
    with pytest.raises(weft.UserError, match=r"Did you mean 'tiny'\?"):
        load("tinny")
    with pytest.raises(weft.UserError, match="configurations only"):
        load("sd15")


@pytest.mark.slow
def test_full_size_sd15_from_a_folder_and_from_a_single_file(tmp_path) -> None:
    """Random weights at SD1.5's full size: 1.07 billion parameters, both layouts, two steps each, equal."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from weft.core.checkpoints.tensors import read_config

    base = registry().models()["sd15"].folder
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(read_config(base / "unet" / "config.json"))
    vae = AutoencoderKL.from_config(read_config(base / "vae" / "config.json"))
    text = CLIPTextModel(CLIPTextConfig(**read_config(base / "text_encoder" / "config.json")))
    folder = tmp_path / "sd15"
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    del unet, vae, text
    (folder / "scheduler").mkdir()
    config = "scheduler/scheduler_config.json"
    (folder / config).write_text((base / config).read_text())
    scene = weft.Scene("a photo of a cat and a dog", [weft.Subject("dog")])
    options = {"steps": 2, "height": 128, "width": 64, "seeds": [3]}

    pipe = load(folder)
    assert sum(p.numel() for p in pipe.unet.parameters()) == 859_520_964
    from_folder = pipe.generate(scene, **options).latents
    single = tmp_path / "model.safetensors"
    save_file(to_single_file(pipe), single)
    del pipe
    from_file = load(single).generate(scene, **options).latents
    assert torch.isfinite(from_folder).all()
    assert torch.equal(from_file, from_folder)


def to_single_file(pipe) -> dict[str, torch.Tensor]:
    """A full-size pipeline under the key names of the original repository."""
    return original_names(pipe.unet, pipe.vae, pipe.text.model)
