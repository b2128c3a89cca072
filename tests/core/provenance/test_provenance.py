"""How an image was made is kept within it and beside it, and is enough to draw it again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import weft
from weft.core.jobs.reproduce import checked_run, draw_again, psnr
from weft.core.provenance.run_file_writer import model_path, run_file_text
from weft.core.provenance.write import PROVENANCE, RUN_FILE, read_provenance, write_item
from weft.core.result import Result
from weft.core.runfile.strict_yaml import parse_yaml
from weft.core.storage.atomic import digest, write_file
from weft.testing import random_model

PROMPT = 'a toy: "né" \u2028and a star'


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("provenance") / "model")


@pytest.fixture(scope="session")
def drawn(model, tmp_path_factory) -> Result:
    folder = tmp_path_factory.mktemp("references")
    Image.new("RGB", (8, 8), "red").save(folder / "toy.png")
    toy = weft.Subject("toy", images=[folder / "toy.png"], box=(0, 0, 0.5, 1))
    star = weft.Subject("star", images=[Image.new("RGBA", (4, 4), (0, 255, 0, 90))])
    return weft.load(model).generate(
        weft.Scene(PROMPT, [toy, star]),
        guidance=[weft.ClassifierFree(3.0, negative_prompt="fog, rain")],
        steps=2,
        seeds=[7, 8],
        batch_size=2,
        reproducibility="exact",
    )


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    """References and images, in a folder that may be changed."""
    drawn.save(tmp_path / "out")
    return tmp_path / "out"


def test_a_picture_carries_its_run_file_and_where_it_comes_from(folder, drawn, model) -> None:
    path = folder / "0001-seed8.png"
    kept = read_provenance(path)
    assert kept.source == path
    data = parse_yaml(kept.run_file).data
    assert data["prompt"] == PROMPT
    assert data["seeds"] == [8]
    assert data["sampler"] == {"scheduler": "ddim", "steps": 2, "width": 32, "height": 32, "batch_size": 1}
    assert data["guidance"][0]["negative_prompt"] == "fog, rain"
    assert kept.provenance.seed == 8
    assert kept.provenance.plugins == {"classifier_free": f"weft {weft.__version__}"}
    assert kept.provenance.dtype == "float32"
    named = data["subjects"][0]["images"][0]
    assert kept.provenance.references[named] == digest(folder / named)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert kept.provenance.model[weights] == digest(model / weights)
    assert {name.split("/")[0] for name in kept.provenance.model} == {
        "unet",
        "vae",
        "text_encoder",
        "scheduler",
        "tokenizer",
    }


def test_digests_are_of_what_was_read(tmp_path) -> None:
    """The model's file, one of its plugin's, and a reference are replaced between drawing and saving."""
    folder = random_model(tmp_path / "model")
    (folder / "weft").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "toy.png")
    paths = [folder / "unet" / "diffusion_pytorch_model.safetensors", folder / "weft" / "x.json"]
    paths[1].write_text("{}")
    pipe = weft.load(folder)
    paths[1].write_text("[]")  # read by plugins when they are used
    before = [digest(path) for path in (*paths, tmp_path / "toy.png")]
    scene = weft.Scene("a toy", [weft.Subject("toy", images=tmp_path / "toy.png")])
    result = pipe.generate(scene, steps=1, seeds=[0])
    for path in (*paths, tmp_path / "toy.png"):
        write_file(b"another", path)
    (path,) = result.save(tmp_path / "out")
    known = read_provenance(path).provenance
    names = ("unet/diffusion_pytorch_model.safetensors", "weft/x.json")
    assert [*(known.model[name] for name in names), *known.references.values()] == before
    with pytest.raises(weft.UserError, match="SHA-256"):
        checked_run(read_provenance(path), path.parent)


def test_a_second_save_writes_nothing_over(drawn, folder) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    paths = drawn.save(folder)
    assert [path.name for path in paths] == ["0002-seed7.png", "0003-seed8.png"]
    assert {path.name: path.read_bytes() for path in folder.glob("000[01]*.png")} == before
    assert {path.name for path in drawn.save(folder)} == {"0004-seed7.png", "0005-seed8.png"}


def test_every_path_is_relative_and_no_time_is_kept(folder, drawn, tmp_path) -> None:
    texts = (folder / "0000-seed7.json").read_text()
    run_file = parse_yaml(json.loads(texts)["run_file"]).data
    paths = [run_file["model"], *(path for one in run_file["subjects"] for path in one["images"])]
    assert not any(os.path.isabs(path) for path in paths)
    assert all((folder / path).exists() for path in paths)
    drawn.save(tmp_path / "again")
    assert (tmp_path / "again" / "0000-seed7.png").read_bytes() == (folder / "0000-seed7.png").read_bytes()


def test_other_programs_see_the_line_of_settings(folder) -> None:
    with Image.open(folder / "0000-seed7.png") as image:
        line = image.info["parameters"]
    prompt, negative, settings = line.split("\n")
    assert prompt == PROMPT
    assert negative == "Negative prompt: fog, rain"
    assert settings.startswith("Steps: 2, Sampler: DDIM, CFG scale: 3, Seed: 7, Size: 32x32, Model hash: ")
    assert settings.endswith(f"Model: model, Version: weft {weft.__version__}")


def test_the_file_beside_it_stands_in_for_texts_that_are_lost(folder) -> None:
    path = folder / "0000-seed7.png"
    whole = read_provenance(path)
    with Image.open(path) as image:
        image.convert("RGB").save(folder / "0000-seed7.jpg", quality=95)
    for lossy in ("0000-seed7.jpg", "0000-seed7.png"):
        if lossy.endswith("png"):
            write_file((folder / "0000-seed7.jpg").read_bytes(), path)
        kept = read_provenance(folder / lossy)
        assert kept.source.name == "0000-seed7.json"
        assert (kept.run_file, kept.provenance) == (whole.run_file, whole.provenance)
    (folder / "0000-seed7.json").unlink()
    with pytest.raises(weft.UserError, match="an image with its run file in it"):
        read_provenance(path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"run_file": 1, "provenance": {}}',
        '{"run_file": "version: 1", "provenance": {"format": "weft provenance 1"}}',
        "[" * 100_000,
        "9" * 5000,
        "\x00\xff",
    ],
)
def test_a_broken_file_beside_it_is_our_error(folder, text) -> None:
    path = folder / "0000-seed7.png"
    Image.open(path).save(path)  # without texts
    path.with_suffix(".json").write_text(text, encoding="latin-1")
    with pytest.raises(weft.UserError):
        read_provenance(path)


def test_absolute_paths_in_a_strangers_picture_are_refused(folder) -> None:
    path = folder / "0000-seed7.png"
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["provenance"]["references"] = {"/etc/passwd": "0" * 64}
    texts = PngInfo()
    texts.add_itxt(RUN_FILE, sidecar["run_file"])
    texts.add_itxt(PROVENANCE, json.dumps(sidecar["provenance"]))
    Image.new("RGB", (2, 2)).save(path, pnginfo=texts)
    with pytest.raises(weft.UserError, match="relative"):
        read_provenance(path)


def test_run_files_of_any_text_are_read_back_as_they_were() -> None:
    hard = [
        "no",
        "1e3",
        "'",
        '"',
        "\\",
        "a\nb\t",
        "\x00\x7f\x85\xa0",
        "\u2028\ufeff",
        "\U0001f600",
        "#: - {",
        "",
    ]
    settings = {
        "version": 1,
        "prompt": "x",
        "list": hard,
        "maps": dict.fromkeys(hard, 0.1),
        "f": [1e-7, 1e30, 2],
    }
    text = run_file_text({**settings, "subjects": [{"phrase": one} for one in hard]})
    read = parse_yaml(text).data
    assert {name: read[name] for name in settings} == settings
    assert [one["phrase"] for one in read["subjects"]] == hard


def test_it_is_drawn_again_bit_for_bit(folder) -> None:
    path = folder / "0001-seed8.png"
    made = draw_again(read_provenance(path), path)
    assert made.equal
    assert made.untouched
    assert made.psnr == float("inf")
    assert made.differences == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "meta"}, "field 'device'"),
        ({"device": "cuda:x"}, "field 'device'"),
        ({"device": "[/b]\x1b"}, "field 'device'"),
        ({"dtype": "int8"}, "field 'dtype'"),
        ({"dtype": "bool"}, "field 'dtype'"),
        ({"dtype": "complex64"}, "field 'dtype'"),
        ({"dtype": "nn"}, "field 'dtype'"),
    ],
)
def test_a_machine_that_nothing_runs_on_is_refused(folder, change, words) -> None:
    path = folder / "0001-seed8.png"
    kept = read_provenance(path)
    with pytest.raises(weft.UserError, match=words):
        draw_again(replace(kept, provenance=replace(kept.provenance, **change)), path)


def test_a_hub_id_is_not_fetched_unasked(folder, monkeypatch) -> None:
    import huggingface_hub

    def called(*_: object, **options: object) -> str:
        assert options["local_files_only"], "the network was asked"
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", called)
    kept = read_provenance(folder / "0001-seed8.png")
    run_file = run_file_text({**parse_yaml(kept.run_file).data, "model": "somebody/Model_V5.1"})
    with pytest.raises(weft.UserError, match=r"--download"):
        checked_run(replace(kept, run_file=run_file), folder)


def test_a_changed_picture_is_told_from_its_record(folder) -> None:
    path = folder / "0000-seed7.png"
    image = Image.open(path).convert("RGB")
    image.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))
    image.save(path)
    made = draw_again(read_provenance(path), path)
    assert made.equal
    assert not made.untouched
    assert made.psnr is not None
    assert 20 < made.psnr < 100


def test_changed_or_missing_files_are_told_before_anything_is_drawn(folder, monkeypatch) -> None:
    path = folder / "0000-seed7.png"
    kept = read_provenance(path)
    (kept_open,) = (folder / "references").iterdir()
    original = kept_open.read_bytes()
    kept_open.unlink()
    with pytest.raises(weft.UserError, match="no such file"):
        checked_run(kept, folder)
    Image.new("RGB", (4, 4), "blue").save(kept_open)
    with pytest.raises(weft.UserError, match="SHA-256"):
        checked_run(kept, folder)
    kept_open.write_bytes(original)
    other = dict(kept.provenance.model)
    other["vae/config.json"] = "0" * 64
    with pytest.raises(weft.UserError, match=r"vae/config\.json.*another one"):
        checked_run(replace(kept, provenance=replace(kept.provenance, model=other)), folder)
    assert checked_run(kept, folder).seeds == (7,)


def test_a_plugin_that_no_run_file_can_hold_is_told(drawn, tmp_path) -> None:
    from diffusers.guiders import ClassifierFreeGuidance

    settings = replace(drawn.settings, guidance=(weft.DiffusersGuider(guider=ClassifierFreeGuidance()),))
    path = write_item(tmp_path, "x", drawn.images[0], drawn.samples[0].scene, 7, settings)
    with pytest.raises(weft.UserError, match="an image that a run file describes"):
        checked_run(read_provenance(path), tmp_path)


def test_psnr_is_the_textbooks() -> None:
    black, grey = (Image.new("RGB", (2, 2), (value,) * 3) for value in (0, 16))
    assert psnr(black, grey) == pytest.approx(24.0484, abs=1e-4)
    assert psnr(black, Image.new("RGB", (3, 2))) is None


def test_links_in_the_folder_are_not_followed(tmp_path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    partial = tmp_path / f"x.png.{os.getpid()}.partial"
    partial.symlink_to(outside)
    (tmp_path / "x.png").symlink_to(outside)
    write_file(b"new", tmp_path / "x.png")
    assert outside.read_text() == "precious"
    assert (tmp_path / "x.png").read_bytes() == b"new"
    assert not (tmp_path / "x.png").is_symlink()
    assert not partial.exists()


def test_a_single_file_is_named_from_the_image_also_with_a_folder_beside_it(
    drawn, tmp_path, monkeypatch
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"x")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = replace(drawn.settings, model="mine.safetensors", folder=tmp_path / "mine")
    assert model_path(settings, tmp_path / "out") == "../mine.safetensors"
    assert model_path(replace(settings, model="tiny"), tmp_path / "out") == "tiny"
