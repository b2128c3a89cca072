"""Training of conditioners: data of the world and of a folder, steps that reach every part, weights for plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import weft
from weft.core.api.registry import registry
from weft.core.storage.atomic import digest
from weft.zoo import world
from weft.zoo.training.conditioners.__main__ import main, pipeline, prepare, read, task
from weft.zoo.training.conditioners.parts import PARTS, Widths
from weft.zoo.training.conditioners.recipe import ConditionersRecipe
from weft.zoo.training.conditioners.records import FolderSource, WorldSource
from weft.zoo.training.conditioners.task import ConditionersTask
from weft.zoo.training.loop import Trainer

LOOP = {"steps": 3, "batch_size": 6, "learning_rate": 1e-3, "warmup": 1, "log_every": 1}
SIZES: dict[str, dict[str, Any]] = {
    "pseudo_word": {"rank": 2, "paths": r"attn2\.to_k$"},
    "fusion_text": {"rank": 2},
    "grounding": {"hidden": 16, "ff_ratio": 1},
    "mask_location": {"rank": 2, "paths": r"attn1\.to_q$"},
    "subject_adapter": {"hidden": 16, "ff_ratio": 1},
}


def recipe(**changes: Any) -> ConditionersRecipe:
    fields: dict[str, Any] = {
        "model": "tiny",
        "world": {"pictures": 8, "captions": 2, "subjects": 0.8, "portraits": 2},
        "conditioners": SIZES,
        "references": (0.5, 0.5),
        "preview_pictures": 1,
        "preview_steps": 1,
        "attention": {"weight": 0.01},
        "loop": LOOP,
    }
    return ConditionersRecipe.model_validate(fields | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of `recipe`."""
    folder = tmp_path_factory.mktemp("run")
    prepare(recipe(), folder)
    return folder


def test_a_batch_says_what_the_pictures_show(run: Path) -> None:
    trained = task(recipe(), run)
    batch = trained.examples.batch(torch.Generator().manual_seed(0), 8)
    pipe = pipeline(recipe())
    for row in range(8):
        for subject in range(4):
            nouns = [p for p in batch.nouns[row, subject].tolist() if p >= 0]
            assert bool(batch.known[row, subject]) == bool(nouns)
            words = pipe.text.tokenizer.decode([int(batch.ids[row, p]) for p in nouns]).strip()
            if nouns:
                assert words in world.NOUNS or words == "toy"
                left, top, right, bottom = (batch.boxes[row, subject] * 16).tolist()
                mask = batch.masks[row, subject]
                outside = mask.clone()
                outside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = 0
                assert mask.sum() > 0
                assert outside.sum() == 0
            if batch.referenced[row, subject].any():
                placed = [p for p in batch.placeholders[row, subject].tolist() if p >= 0]
                assert (
                    pipe.text.tokenizer.decode([int(batch.extended[row, p]) for p in placed]).strip() == "sks"
                )


@pytest.mark.parametrize("name", SIZES)
def test_every_parameter_learns(run: Path, name: str) -> None:
    trained = task(recipe(conditioners={name: SIZES[name]}, absent=0.3, drop_caption=0.0), run)
    # zero-initialised halves hide the gradient of the other half, so move them first
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    for step in range(4):
        trained.losses(step, torch.Generator().manual_seed(step), torch.device("cpu"))["loss"].backward()
    still = [n for n, p in trained.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    assert all(p.grad is None for p in trained.pipe.unet.parameters())


@pytest.mark.parametrize("name", ["grounding", "subject_adapter"])
def test_attention_to_tokens_can_be_asked_for(run: Path, name: str) -> None:
    """One step along the gradient of the tokens' loss lowers it; without the option it is not there."""
    options = {"conditioners": {name: SIZES[name]}, "absent": 0.0, "attention": None}

    def losses(trained: ConditionersTask) -> dict[str, torch.Tensor]:
        return trained.losses(0, torch.Generator().manual_seed(0), torch.device("cpu"))

    assert "tokens" not in losses(task(recipe(**options), run))
    trained = task(recipe(token_attention=1.0, **options), run)
    before = losses(trained)
    before["tokens"].backward()
    with torch.no_grad():
        for parameter in trained.model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert losses(trained)["tokens"] < before["tokens"]
    torch.testing.assert_close(before["loss"], before["min_snr"] + before["tokens"])


def test_a_late_conditioner_learns_to_change_nothing_at_large_noise(run: Path) -> None:
    """The share of the loss above the timestep is the squared change of the picture, and a step lowers it."""
    sizes = {name: SIZES[name] for name in ("pseudo_word", "mask_location")}
    options = {"conditioners": sizes, "absent": 0.0, "drop_caption": 0.0, "attention": None, "alone": 0.0}

    def late(above: int) -> ConditionersTask:
        trained = task(recipe(late={"conditioners": ["pseudo_word"], "above": above}, **options), run)
        with torch.no_grad():
            for parameter in trained.model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        return trained

    def losses(trained: ConditionersTask) -> dict[str, torch.Tensor]:
        return trained.losses(0, torch.Generator().manual_seed(0), torch.device("cpu"))

    always, never = late(0), late(999)
    found = losses(always)
    found["late"].backward()
    reached = {n.split(".")[0] for n, p in always.model.named_parameters() if p.grad is not None}
    assert "pseudo_word" in reached
    with torch.no_grad():
        for parameter in always.model.get_submodule("pseudo_word").parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad / parameter.grad.norm().clamp_min(1.0)
    assert 0 < losses(always)["late"] < found["late"]
    assert losses(never)["late"] == 0
    # absent networks change nothing, so nothing is left of the loss but the samples without a word
    with torch.no_grad():
        for name, parameter in always.model.get_submodule("pseudo_word").named_parameters():
            parameter.fill_(1.0 if name == "keep" else 0.0)
    torch.testing.assert_close(losses(always)["late"], torch.zeros(()), rtol=0, atol=1e-6)


def test_a_recipe_names_conditioners_that_it_has() -> None:
    with pytest.raises(ValueError, match="field 'late': 'grounding' is not among the 'conditioners'"):
        recipe(conditioners={"pseudo_word": {}}, late={"conditioners": ["grounding"]})


def test_conditioners_that_read_references_learn_from_pictures_that_have_some(run: Path) -> None:
    trained = task(recipe(), run)
    shown = torch.tensor([True, False] * 32)
    batch = trained.examples.batch(torch.Generator().manual_seed(0), 64, shown)
    found = batch.referenced.any(-1).any(-1)
    assert found[shown].all()
    assert not found[~shown].all()


def test_untrained_conditioners_change_nothing(run: Path) -> None:
    sizes = {name: SIZES[name] for name in ("grounding", "mask_location", "subject_adapter")}
    trained = task(recipe(conditioners=sizes), run)
    batch = trained.examples.batch(torch.Generator().manual_seed(0), 2)
    every, none = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    latents, t = torch.randn(2, 4, 16, 16), torch.tensor([500, 20])
    pieces = [
        trained.pieces(batch, dict.fromkeys(sizes, rows), dict.fromkeys(sizes, none))
        for rows in (every, none)
    ]
    predicted = [trained.unet_forward(latents, t, trained.conditions(batch, made)) for made in pieces]
    assert predicted[0] is not None
    assert predicted[1] is not None
    torch.testing.assert_close(predicted[0], predicted[1], rtol=0, atol=0)


def test_a_stopped_run_goes_on_and_its_export_is_read_by_the_plugins(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(json.loads(recipe().model_dump_json())))
    (run / "checkpoint.pt").unlink(missing_ok=True)
    whole = Trainer(task(recipe(), run), recipe().loop, tmp_path / "whole")
    for _ in range(3):
        whole.train_step()
    first = Trainer(task(recipe(), run), recipe().loop, tmp_path / "parts")
    first.train_step()
    first.save()
    second = Trainer(task(recipe(), run), recipe().loop, tmp_path / "parts")
    second.resume()
    second.train_step()
    second.train_step()
    for name, value in whole.ema.items():
        torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0, msg=name)

    main(
        ["train", str(file), "--out", str(run), "--steps", "3"]
    )  # enough for every conditioner to have a turn
    assert list(run.glob("preview-*.png"))
    pins = tmp_path / "SHA256SUMS"
    pins.write_text("of the weights before\n")
    main(["export", str(file), "--out", str(run), "--folder", str(tmp_path / "weft")])
    for name in SIZES:
        assert (
            f"{digest(tmp_path / 'weft' / f'{name}.safetensors')}  weft/{name}.safetensors"
            in pins.read_text()
        )
    pipe = weft.load("tiny")
    image = Image.fromarray(world.portrait(3, 0).image(64))
    noun = world.subject(3).noun
    scene = weft.Scene(
        f"a {noun} on grass", subjects=[weft.Subject(noun, images=[image], box=(0.2, 0.2, 0.8, 0.8))]
    )
    plain = pipe.generate(scene, steps=1, attention=False).latents
    trained = Trainer(task(recipe(), run), recipe().loop, run)
    trained.resume()
    for name in SIZES:
        weights = tmp_path / "weft" / f"{name}.safetensors"
        for key, tensor in load_file(weights).items():
            assert torch.equal(tensor, trained.ema[f"{name}.{key}"].half()), (name, key)
        kind: Any = registry().plugin(name, "conditioner")
        plugin = kind(weights=weights)
        drawn = pipe.generate(scene, conditioners=[plugin], steps=1, attention=False).latents
        assert bool(torch.isfinite(drawn).all())
        assert not torch.equal(drawn, plain), name


def test_fusion_text_starts_from_a_pseudo_word(run: Path, tmp_path: Path) -> None:
    word = task(recipe(conditioners={"pseudo_word": {"rank": 2}}), run).parts["pseudo_word"].networks
    with torch.no_grad():
        for parameter in word.parameters():
            parameter += 1
    save_file(word.state_dict(), tmp_path / "word.safetensors")
    options: dict[str, Any] = {"conditioners": {"fusion_text": {"rank": 2, "paths": ""}}}
    fresh = task(recipe(**options), run).parts["fusion_text"].networks.state_dict()
    started = task(recipe(**options, start={"fusion_text": tmp_path / "word.safetensors"}), run)
    found = started.parts["fusion_text"].networks.state_dict()
    taken = word.state_dict()
    assert any(name.startswith("unet.") for name in found)
    for name, tensor in found.items():
        assert torch.equal(tensor, fresh[name] if name.startswith("text.") else taken[name]), name


def test_a_folder_of_pictures_is_data_too(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "green").save(tmp_path / "a.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "toy.png")
    line = {
        "image": "a.png",
        "prompt": "a toy on grass",
        "subjects": [{"phrase": "toy", "box": [0.1, 0.1, 0.6, 0.6], "images": ["toy.png"]}],
    }
    (tmp_path / "scenes.jsonl").write_text(json.dumps(line) + "\n")
    source = FolderSource(folder=tmp_path, size=64)
    (record,) = source.records()
    assert record.picture.size == (64, 64)
    assert record.scenes[0].subjects[0].images == (tmp_path / "toy.png",)
    prepare(
        recipe(world=None, folder=source, conditioners={"grounding": SIZES["grounding"]}), tmp_path / "run"
    )
    assert np.load(tmp_path / "run" / "data" / "latents.npy").shape == (1, 4, 16, 16)
    assert np.load(tmp_path / "run" / "data" / "references.npy")[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("{", "scenes.jsonl, line 2"),
        ('{"prompt": "a toy"}', "scenes.jsonl, line 2"),
        ('{"prompt": "a toy", "image": "none.png"}', "scenes.jsonl, line 2, field 'image'"),
        ('{"prompt": "a toy", "image": "a.png", "subjects": [{"phrase": "car"}]}', "subject 'car'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, place: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "scenes.jsonl").write_text('{"image": "a.png", "prompt": "a toy"}\n' + line + "\n")
    with pytest.raises(weft.UserError, match=place):
        list(FolderSource(folder=tmp_path).records())


def test_a_recipe_names_one_kind_of_data(tmp_path: Path) -> None:
    with pytest.raises(weft.UserError, match="one of the sections 'world' and 'folder'"):
        prepare(recipe(world=None), tmp_path)
    with pytest.raises(weft.UserError, match="data written by the command 'prepare'"):
        task(recipe(), tmp_path)


@pytest.mark.parametrize(
    "path",
    sorted(Path("zoo/training/recipes").glob("*conditioners*.yaml"))
    + sorted(Path("zoo/training/recipes").glob("sd15_*.yaml")),
)
def test_the_recipes_in_the_repository_make_networks_that_learn(path: Path) -> None:
    model = pipeline(recipe()).view((64, 64))
    found = read(path, None)
    assert (found.world is None) != (found.folder is None)
    for name, options in found.conditioners.items():
        networks = PARTS[name](model, Widths(image=128, patch=128), options).networks
        deltas = [key for key in networks.state_dict() if key.endswith("lora_A")]
        assert bool(deltas) == ("paths" in options), name  # a pattern that finds no layer would train nothing


def test_the_world_is_the_same_every_time() -> None:
    source = WorldSource(pictures=3, subjects=0.6)
    one, other = ([record.scenes[0].prompt for record in source.records()] for _ in range(2))
    assert one == other
