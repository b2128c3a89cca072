"""The stages on artwork, in miniature: every one runs, a killed one goes on, and what they export draws."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from pydantic import ValidationError

from weft.zoo.stickers import HELD_OUT_SUBJECTS, TRAIN_SUBJECTS, sample
from weft.zoo.stickers.training import image_tower, rendered
from weft.zoo.stickers.training.__main__ import StickersRun
from weft.zoo.stickers.training.drawn import Drawn
from weft.zoo.training import clip, latents, pictures, tokenizer, unet
from weft.zoo.training.__main__ import Recipes, read
from weft.zoo.training.export import ExportRecipe
from weft.zoo.training.loop import Trainer, averaged, slim, whole
from weft.zoo.training.vae import VaeRecipe, VaeTask

LOOP = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 2, "log_every": 1}
RECIPES = Path("zoo/training/recipes")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StickersRun:
    folder = tmp_path_factory.mktemp("run")
    files: dict[str, object] = {
        "tokenizer": None,
        "pictures": {
            "pictures": 8, "captions": 2, "counts": [0.25, 0.25, 0.25, 0.25], "portrait_subjects": 4,
            "portraits": 3, "workers": 1, "size": 128,
        },
        "vae": {
            "model": {
                "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
                "block_out_channels": [4, 4, 8, 8], "norm_num_groups": 4, "latent_channels": 4,
                "sample_size": 128,
            },
            "portraits": 0.5,
            "measured": 3,
            "critic": {"width": 4, "start": 1, "join": 2, "adversarial": 0.1, "features": 0.1},
            "loop": LOOP,
        },
        "clip": {"model": "clip.json", "pairs": 2, "loop": LOOP},
        "image_tower": {"portraits": 2, "loop": LOOP},
        "latents": {"batch_size": 5},
        "unet": {
            "model": {
                "sample_size": 16,
                "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
                "block_out_channels": [16, 16], "layers_per_block": 1, "attention_head_dim": 2,
                "norm_num_groups": 8, "cross_attention_dim": 16,
            },
            "localization": 0.01, "prompts": ["a red star"], "preview_steps": 2, "loop": LOOP,
        },
        "export": {"folder": str(folder / "model"), "half": False},
    }  # fmt: skip
    for stage, recipe in files.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "run.yaml").write_text(yaml.safe_dump({stage: f"{stage}.yaml" for stage in files}))
    small = StickersRun(folder / "run.yaml", folder)
    small.tokenizer_stage()
    vision = {"image_size": 128, "patch_size": 32, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 77, "width": 16, "heads": 2, "layers": 2}
    text["vocab_size"] = len(tokenizer.load(folder / "tokenizer"))
    config = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "clip.json").write_text(json.dumps({"model_cfg": config}))
    for stage in ("pictures", "vae", "clip", "image_tower", "latents", "unet", "export"):
        getattr(small, f"{stage}_stage")()
    return small


def test_the_export_draws_at_128_pixels(run: StickersRun) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(run.out / "model")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a lion on grass", num_inference_steps=2, height=128, width=128).images[0]
    assert image.size == (128, 128)
    assert pipeline.vae_scale_factor == 8


def test_every_word_of_a_caption_is_known_whole_or_in_pieces(run: StickersRun) -> None:
    words = tokenizer.load(run.out / "tokenizer")
    for seed in range(200):
        text = sample(seed).caption(seed)
        assert words.decode(words(text).input_ids, skip_special_tokens=True).replace(" ,", ",") == text


def test_noun_positions_point_at_nouns(run: StickersRun) -> None:
    words = tokenizer.load(run.out / "tokenizer")
    batch = run.pictures().captions(torch.Generator().manual_seed(0), 32)
    known = 0
    for tokens, positions, labels in zip(batch.tokens, batch.nouns, batch.labels, strict=True):
        for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
            if position >= 0:
                noun = rendered.WORDS[label[0]]
                assert words.decode(tokens[: position + 1].tolist()).strip().endswith(noun)
                known += 1
    assert known > 32


def test_the_critic_teaches_the_autoencoder_only_when_it_has_joined(run: StickersRun) -> None:
    recipe = run.recipe(VaeRecipe, "vae")
    task = VaeTask(recipe, Drawn())
    critic = task.model.critic
    assert critic is not None
    for step, learns, listens in ((0, False, False), (1, True, False), (2, True, True)):
        task.model.zero_grad()
        losses = task.losses(step, torch.Generator().manual_seed(0), torch.device("cpu"))
        losses["loss"].backward()
        assert (next(critic.parameters()).grad is not None) == learns
        assert ("features" in losses) == listens
    one, other = (p.grad for p in (critic.score.weight, task.model.autoencoder.decoder.conv_out.weight))
    assert one is not None
    assert other is not None
    task.model.zero_grad()
    parts = task.losses(2, torch.Generator().manual_seed(0), torch.device("cpu"))
    (parts["features"] + parts["adversarial"]).backward()
    assert critic.score.weight.grad is None  # it must not learn to be fooled


def test_psnr_is_measured_on_held_out_scenes(run: StickersRun) -> None:
    lines = [json.loads(line) for line in (run.out / "vae" / "psnr.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    assert 0 < lines[-1]["psnr"] < 60
    logged = [json.loads(line) for line in (run.out / "vae" / "curves.jsonl").read_text().splitlines()]
    assert lines[-1]["hours"] == pytest.approx(sum(line["seconds"] for line in logged) / 3600, abs=1e-3)


def test_a_run_goes_on_from_a_packed_checkpoint(run: StickersRun, tmp_path: Path) -> None:
    run.pack_stage()
    packed = run.packed() / "vae" / "checkpoint.pt"
    assert packed.stat().st_size < 0.5 * (run.out / "vae" / "checkpoint.pt").stat().st_size
    later = StickersRun(run.folder / "run.yaml", tmp_path, steps=6)
    later.unpack_stage()
    recipe = later.recipe(VaeRecipe, "vae")
    trainer = Trainer(VaeTask(recipe, Drawn()), recipe.loop, tmp_path / "vae")
    trainer.resume()
    assert trainer.step == 4
    wanted = averaged(run.out / "vae")
    for name, value in trainer.task.model.state_dict().items():
        assert torch.allclose(value, wanted[name], atol=2e-3)
    later.vae_stage()
    assert torch.load(tmp_path / "vae" / "checkpoint.pt", weights_only=True)["step"] == 6


def test_a_whole_checkpoint_stays_as_it_is(run: StickersRun) -> None:
    state = torch.load(run.out / "vae" / "checkpoint.pt", weights_only=True)
    assert whole(state) is state
    moments, again = state["optimizer"]["state"], whole(slim(state))["optimizer"]["state"]
    assert moments.keys() == again.keys()
    for i, known in moments.items():
        wanted, squares = known["exp_avg_sq"], again[i]["exp_avg_sq"]
        assert squares.shape == wanted.shape
        assert squares.mean().item() == pytest.approx(wanted.mean().item(), rel=1e-4, abs=1e-12)
        if wanted.ndim == 1:
            assert torch.allclose(squares, wanted)


def test_the_altered_caption_differs_in_words() -> None:
    rng = random.Random(0)
    changed = 0
    for seed in range(200):
        picture = sample(seed, count=1 + seed % 4)
        other = rendered.altered(picture, rng)
        assert len(other.objects) == len(picture.objects)
        changed += other.caption(0) != picture.caption(0)
    assert changed > 160  # an exchange of places often leaves the words as they are


def test_looks_are_told_of_every_individual() -> None:
    classes, colors = image_tower.looks_of([*TRAIN_SUBJECTS[:300], *HELD_OUT_SUBJECTS[:300]])
    assert classes.shape == (600, 3)
    assert all(
        0 <= classes[:, i].min() <= classes[:, i].max() < n for i, n in enumerate(image_tower.PARTS.values())
    )
    told = colors[~colors.isnan()]
    assert 0 <= told.min() <= told.max() <= 1


def test_the_recipes_are_valid() -> None:
    kinds: dict[str, Any] = {
        "pictures": pictures.PicturesRecipe, "vae": VaeRecipe, "clip": clip.ClipRecipe,
        "image_tower": image_tower.ImageTowerRecipe, "latents": latents.LatentsRecipe,
        "unet": unet.UNetRecipe, "export": ExportRecipe,
    }  # fmt: skip
    whole_run = read(Recipes, RECIPES / "stickers.yaml")
    named = {stage: RECIPES / getattr(whole_run, stage) for stage in kinds}
    recipes: dict[str, Any] = {stage: read(kinds[stage], path) for stage, path in named.items()}
    assert {stage: type(recipe) for stage, recipe in recipes.items()} == kinds
    assert len(set(named.values())) == len(kinds), "two stages share a recipe"
    for stage, path in named.items():
        others = [kind for kind in kinds.values() if kind is not kinds[stage]]
        for other in others:  # a stage's recipe is no other stage's
            with pytest.raises(ValidationError):
                read(other, path)
