"""The recipes of the tiny model: tokens as CLIP's, runs that survive a kill bit for bit, exports that others load."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from transformers import CLIPTextModel

from weft.zoo.training import clip, export, pictures, tokenizer
from weft.zoo.training.__main__ import Run
from weft.zoo.training.loop import LoopRecipe, Trainer, averaged
from weft.zoo.training.vae import VaeRecipe, VaeTask
from weft.zoo.world import NOUNS, sample


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run in miniature: every stage, a few steps of tiny models on a few pictures."""
    folder = tmp_path_factory.mktemp("run")
    loop = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 2, "log_every": 1}
    down, up = ["CrossAttnDownBlock2D"] * 2, ["CrossAttnUpBlock2D"] * 2
    files: dict[str, object] = {
        "tokenizer": {"pictures": 50},
        "pictures": {
            "pictures": 12,
            "captions": 2,
            "counts": [0.25, 0.25, 0.25, 0.25],
            "portrait_subjects": 4,
            "portraits": 3,
            "workers": 1,
        },
        "vae": {
            "model": {
                "down_block_types": ["DownEncoderBlock2D"] * 3,
                "up_block_types": ["UpDecoderBlock2D"] * 3,
                "block_out_channels": [8, 8, 8],
                "norm_num_groups": 4,
                "latent_channels": 4,
                "sample_size": 64,
            },
            "portraits": 0.5,
            "loop": loop,
        },
        "clip": {"model": "clip.json", "pairs": 2, "loop": loop},
        "image_tower": {"portraits": 2, "loop": loop},
        "latents": {"batch_size": 5},
        "unet": {
            "model": {
                "sample_size": 16,
                "down_block_types": [*down, "DownBlock2D"],
                "up_block_types": ["UpBlock2D", *up],
                "block_out_channels": [16, 16, 16],
                "layers_per_block": 1,
                "attention_head_dim": 2,
                "norm_num_groups": 8,
                "cross_attention_dim": 16,
            },
            "localization": 0.01,
            "prompts": ["a red star"],
            "preview_steps": 2,
            "loop": loop,
        },
        "export": {"folder": str(folder / "model"), "half": False},
    }
    for stage, recipe in files.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "run.yaml").write_text(yaml.safe_dump({stage: f"{stage}.yaml" for stage in files}))
    whole = Run(folder / "run.yaml", folder)
    whole.tokenizer_stage()
    vision = {"image_size": 64, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 77, "width": 16, "heads": 2, "layers": 2}
    text["vocab_size"] = len(tokenizer.load(folder / "tokenizer"))
    config = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "clip.json").write_text(json.dumps({"model_cfg": config}))
    for stage in ("pictures", "vae", "clip", "image_tower", "latents", "unet", "export"):
        getattr(whole, f"{stage}_stage")()
    return whole


def test_the_image_tower_learns_and_the_text_tower_stays(run: Run) -> None:
    first, last = averaged(run.out / "clip"), run.clip().state_dict()
    moved = {
        name.removeprefix("clip.")
        for name in first
        if not torch.equal(first[name], last.get(name.removeprefix("clip."), first[name]))
    }
    assert moved
    assert all(name.startswith("visual.") for name in moved)


def test_words_are_split_as_clip_splits_them(run: Run) -> None:
    ours, theirs = tokenizer.load(run.out / "tokenizer"), SimpleTokenizer()
    texts = [sample(seed, split="held_out").caption(seed) for seed in range(100)]
    texts += [" ".join(tokenizer.common_words()), "A Red, checkered star!"]
    for text in texts:
        assert ours.tokenize(text) == [theirs.decoder[i] for i in theirs.encode(text)]


def test_a_prompt_is_padded_with_the_end_token(run: Run) -> None:
    words = tokenizer.load(run.out / "tokenizer")
    ids = words("a red star", padding="max_length").input_ids
    end = len(words) - 1
    assert ids[0] == end - 1
    assert ids[4:] == [end] * 73


def test_a_killed_run_ends_as_an_unbroken_one(run: Run, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        recipe = run.recipe(VaeRecipe, "vae")
        return Trainer(VaeTask(recipe, run.pictures()), recipe.loop, tmp_path / name)

    unbroken = trainer("unbroken")
    unbroken.run()
    trainer("killed").run(until=2)
    resumed = trainer("killed")
    torch.manual_seed(12345)  # nothing may hang on the global random state
    resumed.resume()
    assert resumed.step == 2
    resumed.run()
    expected, found = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("unbroken", "killed")
    )
    for part in ("model", "ema"):
        assert all(torch.equal(value, found[part][name]) for name, value in expected[part].items())
    moments = expected["optimizer"]["state"]
    assert all(
        torch.equal(s["exp_avg_sq"], found["optimizer"]["state"][i]["exp_avg_sq"]) for i, s in moments.items()
    )
    lines = [(tmp_path / name / "curves.jsonl").read_text().splitlines() for name in ("unbroken", "killed")]
    losses = [[json.loads(line)["loss"] for line in several] for several in lines]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_the_rate_warms_up_and_falls() -> None:
    plan = LoopRecipe(steps=100, batch_size=1, learning_rate=1.0, final_learning_rate=0.1, warmup=10)
    assert plan.rate(0) == pytest.approx(0.1)
    assert plan.rate(10) == pytest.approx(1.0)
    assert plan.rate(55) == pytest.approx(0.55)
    assert plan.rate(1000) == pytest.approx(0.1)


def test_the_altered_caption_differs_in_words_only() -> None:
    rng = random.Random(0)
    changed = 0
    for seed in range(200):
        picture = sample(seed, count=1 + seed % 4)
        other = pictures.altered(picture, rng)
        assert len(other.objects) == len(picture.objects)
        changed += other.caption(0) != picture.caption(0)
    assert changed > 160  # an exchange of places often leaves the words as they are


def test_noun_positions_point_at_nouns(run: Run) -> None:
    words = tokenizer.load(run.out / "tokenizer")
    batch = run.pictures().captions(torch.Generator().manual_seed(0), 32)
    nouns = [words.convert_tokens_to_ids(noun + "</w>") for noun in NOUNS]
    known = 0
    for tokens, positions, labels in zip(batch.tokens, batch.nouns, batch.labels, strict=True):
        for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
            if position >= 0:
                assert tokens[position] == nouns[label[0]]
                known += 1
    assert known > 32


def test_the_text_tower_is_the_same_in_transformers(run: Run) -> None:
    ours = run.clip()
    theirs = CLIPTextModel.from_pretrained(run.out / "model" / "text_encoder")
    words = tokenizer.load(run.out / "tokenizer")
    ids = words(["a red star on grass", ""], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = clip.text_states(ours, ids)
        found = theirs(ids)
        assert torch.allclose(found.last_hidden_state, states, atol=1e-5)
        features = torch.nn.functional.normalize(found.pooler_output @ ours.text_projection, dim=-1)
        assert torch.allclose(features, ours.encode_text(ids, normalize=True), atol=1e-5)


def test_diffusers_runs_the_export(run: Run) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(run.out / "model")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red star", num_inference_steps=2, height=64, width=64).images[0]
    assert image.size == (64, 64)
    assert pipeline.vae.config.scaling_factor == pytest.approx(run.scaling_factor())


def test_open_clip_loads_the_export_and_the_hashes_hold(run: Run) -> None:
    folder = run.out / "model"
    model = clip.create(folder / "open_clip" / "open_clip_config.json")
    model.load_state_dict(load_file(folder / "open_clip" / "open_clip_model.safetensors"))
    before = (folder / "SHA256SUMS").read_text()
    export.write_hashes(folder)
    assert (folder / "SHA256SUMS").read_text() == before
    assert len(before.splitlines()) > 8


def test_training_goes_on_from_the_export_alone(run: Run, tmp_path: Path) -> None:
    for file in (*run.folder.glob("*.yaml"), run.folder / "clip.json"):
        (tmp_path / file.name).write_text(file.read_text())
    recipe = yaml.safe_load((tmp_path / "unet.yaml").read_text())
    recipe["start"] = str(run.out / "model" / "unet")
    recipe["loop"] |= {"steps": 1, "learning_rate": 1e-12}
    (tmp_path / "unet.yaml").write_text(yaml.safe_dump(recipe))
    later = Run(tmp_path / "run.yaml", tmp_path)
    (tmp_path / "pictures").symlink_to(run.out / "pictures")
    later.latents_stage()
    later.unet_stage()
    assert later.scaling_factor() == pytest.approx(run.scaling_factor())
    before, after = averaged(run.out / "unet"), averaged(tmp_path / "unet")
    assert all(torch.allclose(value, after[name], atol=1e-6) for name, value in before.items())
    shipped = {file: file.read_bytes() for file in (run.out / "model").rglob("*") if file.is_file()}
    later.export_stage()
    assert shipped.keys() == {file for file in (run.out / "model").rglob("*") if file.is_file()}
