"""Run files: what a good one gives, and what every kind of wrong one is told."""

import random
import sys
from pathlib import Path

import pytest
from PIL import Image

from weft import ClassifierFree, UserError
from weft.core.api.sampler_settings import SamplerSettings
from weft.core.runfile.read import read_run_file
from weft.core.runfile.run import Run
from weft.core.runfile.strict_yaml import FileErrors

GOOD = """\
version: 1
model: tiny
prompt: a toy and a red star on grass
subjects:
  - {phrase: toy, images: [toy.png], box: [0.05, 0.4, 0.45, 0.9]}
  - {phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}
guidance: [{type: classifier_free, scale: 5}]
sampler: {scheduler: euler, steps: 20, width: 512}
seeds: [3, 4]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "toy.png")
    return tmp_path


def read(folder: Path, text: str) -> list[Run]:
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return read_run_file(folder / "run.yaml")


def test_a_good_file_becomes_a_scene_and_plugins(folder: Path) -> None:
    (run,) = read(folder, GOOD)
    assert run.model == "tiny"
    assert [subject.phrase for subject in run.scene.subjects] == ["toy", "red star"]
    assert run.scene.subjects[0].images == ((folder / "toy.png").resolve(),)
    assert run.scene.subjects[1].box == (0.55, 0.4, 0.95, 0.9)
    assert run.guidance == (ClassifierFree(5.0),)
    assert run.sampler.options() == {"scheduler": "euler", "steps": 20, "width": 512}
    assert run.seeds == (3, 4)
    assert run.sweep == {}


def test_the_shortest_file_takes_the_defaults(folder: Path) -> None:
    (run,) = read(folder, "{version: 1, model: tiny, prompt: a toy}")
    assert run.guidance == (ClassifierFree(),)
    assert run.conditioners == ()
    assert run.seeds == (0,)


def test_a_negative_prompt_reaches_the_guidance(folder: Path) -> None:
    (run,) = read(folder, "{version: 1, model: tiny, prompt: a toy, negative_prompt: night}")
    assert run.guidance == (ClassifierFree(negative_prompt="night"),)


def test_a_sweep_is_the_product_of_its_axes_and_the_last_runs_fastest(folder: Path) -> None:
    runs = read(folder, GOOD + "sweep: {guidance.0.scale: [1, 2.5], sampler.steps: [10, 20, 30]}")
    assert [(run.guidance[0], run.sampler.steps) for run in runs] == [
        (ClassifierFree(scale), steps) for scale in (1.0, 2.5) for steps in (10, 20, 30)
    ]
    assert runs[1].sweep == {"guidance.0.scale": 1, "sampler.steps": 20}


def test_a_model_may_be_a_folder_beside_the_file(folder: Path) -> None:
    (folder / "mine" / "unet").mkdir(parents=True)
    (run,) = read(folder, "{version: 1, model: mine, prompt: a toy}")
    assert run.model == str((folder / "mine").resolve())


def test_the_schedulers_are_those_of_the_engine() -> None:
    from weft.core.api.schedulers import SCHEDULERS

    assert [SamplerSettings(scheduler=name).scheduler for name in SCHEDULERS] == list(SCHEDULERS)
    with pytest.raises(UserError, match="It is called 'heun'"):
        SamplerSettings(scheduler="HeunDiscreteScheduler")


WRONG = [
    # (what is replaced, by what, where, what it says)
    (GOOD, "just text", "1:1", "expected a mapping that starts with 'version: 1', found 'just text'"),
    (GOOD, "- a\n", "1:1", "expected a mapping that starts with 'version: 1', found ['a']"),
    ("version: 1\n", "", "1:1", "expected 'version', found no such setting"),
    ("version: 1", "version: 2", "1:10", "expected 1, found 2. The file is made for a newer weft"),
    ("version: 1", "version: 0", "1:10", "expected 1, found 0"),
    ("version: 1", 'version: "1"', "1:10", "expected 1, found '1'"),
    ("model: tiny\n", "", "1:1", "expected 'model', found no such setting"),
    (
        "tiny",
        "sd14",
        "2:8",
        "expected a model (sd15, tiny), a folder or a .safetensors file, found 'sd14'. Did you mean 'sd15'?",
    ),
    ("tiny", "missing.safetensors", "2:8", "found 'missing.safetensors'"),
    ("tiny", "[a]", "2:8", "expected text, found ['a']"),
    ("tiny", "12", "2:8", "expected text, found 12. In quotes it is text."),
    ("prompt: a toy and a red star on grass", "prompt:", "3:8", "expected text, found nothing"),
    ("prompt:", "promt:", "3:1", "found 'promt'. Did you mean 'prompt'?"),
    ("seeds:", "seed:", "9:1", "found 'seed'. It is called 'seeds' and is a list."),
    ("subjects:", "steps: 3\nsubjects:", "4:1", "found 'steps'. It belongs under 'sampler'."),
    (
        "phrase: red star",
        "phrase: red starr",
        "6:14",
        "found no such words in 'a toy and a red star on grass'. Did you mean 'red star'?",
    ),
    (
        "phrase: red star",
        "phrase: a",
        "6:14",
        "expected an occurrence from 1 to 2, found none. The phrase occurs more than once.",
    ),
    ("phrase: red star", "phrase: a, occurrence: 3", "6:29", "expected at most 2, found 3"),
    ("phrase: red star", "phrase: a, occurrence: 0", "6:29", "expected at least 1, found 0"),
    ("phrase: red star", 'phrase: ""', "6:14", "expected text that is not empty, found ''"),
    ("phrase: red star, ", "", "6:5", "expected 'phrase', found no such setting"),
    ("{phrase: red star,", "{phrase: red star, bbox: 1,", "6:24", "found 'bbox'. It is called 'box'."),
    (
        "{phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}",
        "red star",
        "6:5",
        "expected a mapping of settings, found 'red star'",
    ),
    ("0.4, 0.95, 0.9]", "0.4, 0.95]", "6:29", "expected at least 4 values, found 3"),
    ("0.95, 0.9]", "0.95, 0.9, 1]", "6:29", "expected at most 4 values, found 5"),
    ("0.95, 0.9]", "1.5, 0.9]", "6:41", "expected at most 1, found 1.5"),
    ("0.95, 0.9]", "95%, 0.9]", "6:41", "expected a number, found '95%'"),
    ("0.95, 0.9]", '"0.95", 0.9]', "6:41", "expected a number, found '0.95'. Without quotes it is a number."),
    (
        "0.55, 0.4, 0.95",
        "0.95, 0.4, 0.55",
        "6:29",
        "expected a box (left, top, right, bottom) with left < right and top < bottom",
    ),
    (
        "[0.55, 0.4, 0.95, 0.9]",
        "left",
        "6:29",
        "expected a list, found 'left'. A box is [left, top, right, bottom] in fractions of the image",
    ),
    (
        "[toy.png]",
        "[tyo.png]",
        "5:28",
        "expected an image, found no such file: 'tyo.png'. Did you mean 'toy.png'?",
    ),
    ("[toy.png]", "tyo.png", "5:27", "found no such file: 'tyo.png'. Did you mean 'toy.png'?"),
    ("[toy.png]", "7", "5:27", "expected a list, found 7"),
    ("[toy.png]", "[7]", "5:28", "expected text, found 7"),
    ("guidance:", "source: nowhere.png\nguidance:", "7:9", "no such file: 'nowhere.png'"),
    ("guidance:", "maps: {edges: nowhere.png}\nguidance:", "7:15", "no such file: 'nowhere.png'"),
    (
        "classifier_free",
        "classifer_free",
        "7:19",
        "found 'classifer_free'. Did you mean 'classifier_free'?",
    ),
    (
        "[{type: classifier_free, scale: 5}]",
        "classifier_free",
        "7:11",
        "expected a list, found 'classifier_free'",
    ),
    (
        "{type: classifier_free, scale: 5}",
        "{scale: 5}",
        "7:12",
        "expected a plugin's name, or a mapping with 'type: name', found a mapping",
    ),
    ("scale: 5", "scale: five", "7:43", "expected a number, found 'five'"),
    ("scale: 5", "scale: .inf", "7:43", "expected a finite number, found .inf"),
    (
        "scale: 5",
        "sclae: 5",
        "7:36",
        "expected one of type, scale, negative_prompt, rescale, interval, found 'sclae'. Did you mean 'scale'?",
    ),
    ("scale: 5", "rescale: 2", "7:45", "expected at most 1, found 2"),
    ("scale: 5", "interval: [0.9, 0.1]", "7:46", "expected start <= end, found (0.9, 0.1)"),
    (
        "guidance:",
        "conditioners: [classifier_free]\nguidance:",
        "7:16",
        "found 'classifier_free', which is a guidance",
    ),
    (
        "guidance: [{type: classifier_free, scale: 5}]",
        "guidance: []\nnegative_prompt: x",
        "8:18",
        "expected a guidance strategy that reads it, such as classifier_free, found none under 'guidance'",
    ),
    (
        "scale: 5}]",
        "negative_prompt: x}]\nnegative_prompt: y",
        "7:53",
        "expected one negative prompt, found one here and one at the top",
    ),
    (
        "euler",
        "eular",
        "8:22",
        "expected one of ddim, euler, euler_ancestral, dpmpp_2m, pndm, unipc, ddpm, ",
    ),
    ("steps: 20", "steps: 0", "8:36", "expected at least 1, found 0"),
    ("steps: 20", "steps: 20.5", "8:36", "expected a whole number, found 20.5"),
    ("steps: 20", "steps: yes", "8:36", "expected a whole number, found 'yes'"),
    ("steps: 20", "steps: true", "8:36", "expected a whole number, found true"),
    ("width: 512", "width: 99999", "8:47", "expected at most 4096, found 99999"),
    (
        "width: 512",
        "size: 512",
        "8:40",
        "found 'size'. It is written as 'width' and 'height', under 'sampler'.",
    ),
    (
        "seeds: [3, 4]",
        "seeds: 3",
        "9:8",
        "expected a list of seeds, or a mapping with 'count' (1 to 10000), found 3. Write [3] for one seed",
    ),
    ("seeds: [3, 4]", "seeds: {first: 3}", "9:8", "expected 'count', found no such setting"),
    ("seeds: [3, 4]", "seeds: {count: 0}", "9:16", "expected at least 1, found 0"),
    ("seeds: [3, 4]", "seeds: {count: 2, from: 1}", "9:19", "expected one of count, first, found 'from'"),
    ("seeds: [3, 4]", "metrics: [objets]", "9:11", "found 'objets'. Did you mean 'objects'?"),
    ("seeds: [3, 4]", "metrics: objects", "9:10", "expected a list, found 'objects'"),
    ("seeds: [3, 4]", "seeds: []", "9:8", "expected at least 1 value, found 0"),
    ("seeds: [3, 4]", "seeds: [3, -4]", "9:12", "expected at least 0, found -4"),
    ("seeds: [3, 4]", "seeds: [3, 3]", "9:8", "expected different seeds, found one that is there twice"),
    ("seeds: [3, 4]", "sweep: 3", "9:8", "expected a mapping such as {sampler.steps: [20, 50]}, found 3"),
    (
        "seeds: [3, 4]",
        "sweep: {guidance.1.scale: [1]}",
        "9:9",
        "found 'guidance.1.scale', which leads nowhere",
    ),
    ("seeds: [3, 4]", "sweep: {seeds: [[1]]}", "9:9", "expected a setting that can be swept, found 'seeds'"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scale: 1}", "9:27", "expected a list of values, found 1"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scale: [1, x]}", "9:31", "expected a number, found 'x'"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scael: [1]}", "9:28", "found 'scael'. Did you mean 'scale'?"),
    (
        "seeds: [3, 4]",
        f"sweep: {{prompt: {['a toy and a red star'] * 1001}}}",
        "9:8",
        "expected at most 1000 combinations, found 1001",
    ),
]


@pytest.mark.parametrize(("old", "new", "place", "message"), WRONG, ids=[case[3][-50:] for case in WRONG])
def test_a_wrong_file_is_told_where_and_what(
    folder: Path, old: str, new: str, place: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(FileErrors) as caught:
        read(folder, GOOD.replace(old, new, 1))
    told = str(caught.value).splitlines()
    assert any(f"run.yaml:{place}: " in line and message in line for line in told), "\n".join(told)


def test_every_mistake_is_told_once(folder: Path) -> None:
    text = GOOD.replace("tiny", "sd14").replace("euler", "eular") + "sweep: {guidance.0.scale: [1, 2, 3]}"
    with pytest.raises(FileErrors) as caught:
        read(folder, text)
    assert [error.line for error in caught.value.errors] == [2, 8]


def test_mutated_files_raise_nothing_else(folder: Path) -> None:
    rng = random.Random(0)
    words = GOOD.replace("\n", " \n ").split(" ")
    junk = [
        "",
        "-1",
        "[",
        "]",
        "{",
        "}",
        "x",
        "null",
        ":",
        "1e9",
        "'",
        "true",
        "[[]]",
        "{}",
        "sweep: {a.b: [1]}",
        "\n",
        "\\0",
    ]
    refused = 0
    for _ in range(300):
        text = list(words)
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.choice(junk)
        try:
            read(folder, " ".join(text))
        except FileErrors:
            refused += 1
    assert refused > 150


def test_reading_needs_no_torch(folder: Path) -> None:
    import subprocess

    (folder / "run.yaml").write_text(GOOD)
    code = "import sys, weft.core.runfile.read as r; r.read_run_file('run.yaml'); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lines", "place", "expected"),
    [
        (
            "conditioners: [grounding]\nguidance: [attend_and_excite]",
            4,
            "a subject with a box (grounding, scene",
        ),
        (
            "conditioners: [{type: grounding, strength: 0}]\nguidance: [layout]",
            5,
            "a box or a mask of a subject",
        ),
        (
            "subjects: [{phrase: toy, box: [0, 0, 1, 1]}]\nconditioners: [{type: grounding, mode: image}]",
            4,
            "an image, in the mode 'image' of grounding",
        ),
        ("guidance: [{type: delayed, conditioner: grounding}]", 4, "a conditioner of the run"),
        ("conditioners: [pseudo_word]", 4, "a subject with reference images"),
        ("conditioners: [mask_location]", 4, "a subject with a box or a mask"),
        ("conditioners: [subject_adapter]", 4, "a subject with reference images"),
    ],
)
def test_what_plugins_refuse_of_a_scene_is_told_with_its_line(
    folder: Path, lines: str, place: int, expected: str
) -> None:
    with pytest.raises(FileErrors) as caught:
        read(folder, f"version: 1\nmodel: tiny\nprompt: a toy\n{lines}\n")
    assert any(one.line == place and expected in str(one) for one in caught.value.errors), str(caught.value)
