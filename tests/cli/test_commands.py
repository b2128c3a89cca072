"""The commands: what they print, how they end, and that the light ones stay light."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from weft.cli.app import app
from weft.core import pipeline
from weft.core.errors import PluginError

RUN = """\
version: 1
model: model
prompt: a toy and a star
sampler: {steps: 2}
seeds: [0, 1, 2]
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from weft.testing import random_model

    return random_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def weft(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["validate", "run.yaml"],
        ["schema"],
        ["models"],
        ["plugins", "list"],
        ["plugins", "list", "--json"],
    ],
    ids=" ".join,
)
def test_light_commands_load_no_torch_and_answer_at_once(folder: Path, arguments: list[str]) -> None:
    code = "import sys\nfrom weft.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("False\n")
    # processor time, so that a busy machine does not fail it
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7


def test_generate_writes_pictures_a_manifest_and_a_sheet(folder: Path) -> None:
    done = weft("generate", folder / "run.yaml", "-o", folder / "out")
    assert done.exit_code == 0, done.output
    assert f"3 of 3 images are in {folder / 'out'}" in done.stdout
    lines = manifest(folder / "out")
    names = [f"{seed:04d}-seed{seed}-{line['id'][:8]}" for seed, line in enumerate(lines)]
    written = {path.name for path in (folder / "out").iterdir()}
    assert written == {
        *(f"{name}{suffix}" for name in names for suffix in (".png", ".json")),
        "manifest.jsonl",
        "sheet.png",
    }
    for seed, (line, name) in enumerate(zip(lines, names, strict=True)):
        assert (line["file"], line["seed"], line["sweep"]) == (f"{name}.png", seed, {})
        content = (folder / "out" / line["file"]).read_bytes()
        assert line["sha256"] == hashlib.sha256(content).hexdigest()
        with Image.open(folder / "out" / line["file"]) as image:
            assert image.size == (32, 32)


def test_a_sweep_draws_every_variant(folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN + "sweep: {guidance.0.scale: [1, 5]}\n")
    done = weft("generate", folder / "run.yaml", "-o", folder / "out")
    assert done.exit_code == 0, done.output
    lines = manifest(folder / "out")
    assert [(line["seed"], line["sweep"]["guidance.0.scale"]) for line in lines] == [
        (seed, scale) for scale in (1, 5) for seed in (0, 1, 2)
    ]
    first, other = (Image.open(folder / "out" / lines[number]["file"]).tobytes() for number in (0, 3))
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "nowhere.yaml"], "nowhere.yaml: expected a file that can be read"),
        (["validate", "nowhere.yaml"], "nowhere.yaml: expected a file that can be read"),
        (["generat"], "No such command 'generat'"),
        (["generate"], "Missing argument"),
        (["demo", "--steps", "3"], "No such option"),
        (["generate", "run.yaml", "-o", "run.yaml"], "--output: expected a folder that can be made"),
    ],
)
def test_a_users_mistake_ends_with_2_and_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    done = weft(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_mistakes_show_the_line_with_a_caret(folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN.replace("steps: 2", "steps: two").replace("prompt", "promt"))
    done = weft("validate", folder / "run.yaml")
    assert done.exit_code == 2
    assert "run.yaml:4:18: expected a whole number, found 'two'" in done.stderr
    assert "  sampler: {steps: two}\n                   ^\n" in done.stderr
    assert done.stderr.rstrip().endswith("3 errors")


def test_what_nothing_reads_is_a_warning_with_its_line_and_is_drawn_all_the_same(folder: Path) -> None:
    subjects = "subjects: [{phrase: toy, box: [0, 0, 0.5, 1]}]\n"
    (folder / "run.yaml").write_text(RUN.replace("[0, 1, 2]", "[0]") + subjects)
    told = "run.yaml:6:26: expected a conditioner, strategy or metric that reads 'subjects.box', found none."
    for arguments in (
        ["validate"],
        ["preview", "-o", folder / "previews"],
        ["generate", "-o", folder / "out"],
    ):
        done = weft(*arguments, folder / "run.yaml")
        assert done.exit_code == 0, done.output
        assert done.stderr.count("warning: ") == 1
        assert told in done.stderr
        assert f"  {subjects}                           ^\n" in done.stderr


def test_validate_counts_pictures(folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN + "sweep: {guidance.0.scale: [1, 5]}\n")
    done = weft("validate", folder / "run.yaml")
    assert done.exit_code == 0
    assert "ok, 6 images in 2 variants" in done.stdout


def test_a_size_that_the_model_cannot_draw_is_told_before_it_draws(folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN.replace("steps: 2", "steps: 2, width: 33"))
    done = weft("generate", folder / "run.yaml", "-o", folder / "out")
    assert done.exit_code == 2
    assert "field 'width': expected a multiple of 4 pixels, found 33" in done.stderr


def test_a_variant_that_fails_leaves_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "run.yaml").write_text(RUN + "sweep: {sampler.steps: [2, 3]}\n")
    generate = pipeline.Pipeline.generate

    def fail_at_3_steps(self: pipeline.Pipeline, *args: object, **options: object) -> object:
        if options["steps"] == 3:
            raise PluginError("broken", "step 1", "it broke")
        return generate(self, *args, **options)

    monkeypatch.setattr(pipeline.Pipeline, "generate", fail_at_3_steps)
    done = weft("generate", folder / "run.yaml", "-o", folder / "out")
    assert done.exit_code == 3
    assert "plugin 'broken', step 1: it broke" in done.stderr
    assert "3 of 6 images are in" in done.stdout


def test_ctrl_c_ends_with_130_and_keeps_finished_pictures(folder: Path) -> None:
    (folder / "run.yaml").write_text(
        RUN.replace("seeds: [0, 1, 2]", f"seeds: {list(range(5000))}").replace("}", ", batch_size: 1}")
    )
    out = folder / "out"
    # a shell that runs the tests in the background hands down an ignored SIGINT; a terminal does not
    terminal = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{terminal}; from weft.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "generate", "run.yaml", "-o", "out"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as running:
        deadline = time.monotonic() + 240
        while len(list(out.glob("*.png"))) < 3 and time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        try:
            _, told = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130, told
    assert "of 5000 images are in out" in told
    assert "Traceback" not in told
    pictures = sorted(out.glob("*.png"))
    assert "The same command draws the rest." in told
    assert len(pictures) >= 3
    assert not list(out.glob("*.partial"))
    for picture in pictures:
        with Image.open(picture) as image:
            image.load()


def test_models_as_json_say_the_state_of_their_files() -> None:
    done = weft("models", "--json")
    assert done.exit_code == 0
    listed = {one["name"]: one for one in json.loads(done.stdout)}
    assert listed["sd15"]["state"] == "configurations only"
    assert listed["tiny"]["weights"] is True
    assert listed["tiny"]["state"] == "ok", "the shipped files differ from zoo/tiny/SHA256SUMS"


def test_plugins_as_json_have_parameters_with_descriptions() -> None:
    done = weft("plugins", "list", "--json")
    listed = {one["name"]: one for one in json.loads(done.stdout)["plugins"]}
    assert listed["classifier_free"]["kind"] == "guidance"
    assert listed["classifier_free"]["parameters"]["scale"]["description"]


def test_every_command_and_setting_is_documented() -> None:
    import dataclasses

    import typer

    from weft.core.api.sampler_settings import SamplerSettings
    from weft.core.runfile.settings import Settings
    from weft.core.scene import Subject

    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "commands.md").read_text()
    root = typer.main.get_command(app)
    commands = [name for name in root.commands if name != "plugins"]  # type: ignore[attr-defined]
    groups = [f"plugins {name}" for name in root.commands["plugins"].commands]  # type: ignore[attr-defined]
    for command in commands + groups:
        assert f"`weft {command}" in page
    page = (docs / "run-files.md").read_text()
    for section in (Settings, Subject, SamplerSettings):
        for field in dataclasses.fields(section):
            assert f"`{field.name}`" in page


def test_a_command_is_a_file() -> None:
    import typer

    from weft.cli.command_folder import FOLDER

    root = typer.main.get_command(app)
    assert {path.stem for path in FOLDER.iterdir() if path.stem[0] != "_"} == set(root.commands)  # type: ignore[attr-defined]
    for path in FOLDER.rglob("[!_]*.py"):
        names = path.relative_to(FOLDER).with_suffix("").parts
        assert weft(*names, "--help").exit_code == 0, names
        assert "Show this message" in weft(*names, "-h").stdout


def test_an_engine_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.core.jobs import engines

    (folder / "engines").mkdir()
    (folder / "engines" / "idle.py").write_text(
        "from weft.core.errors import WeftError\nfrom weft.core.jobs.engines import Engine\n"
        "class Idle(Engine):\n"
        "    def __init__(self, workers): self.workers = workers\n"
        "    def draw(self, items, listener): listener.failed(items, WeftError(f'{self.workers} idle'))\n"
        "def engine(settings): return Idle(settings.workers)\n"
    )
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(folder / "engines")])
    done = weft("generate", folder / "run.yaml", "-o", folder / "out", "--engine", "idle", "--workers", "7")
    assert done.exit_code == 2
    assert "7 idle" in done.stderr
    done = weft("generate", folder / "run.yaml", "-o", folder / "out", "--engine", "steam")
    assert done.exit_code == 2
    assert "--engine: expected one of idle, local, ray, found 'steam'" in done.stderr


def test_demo_draws_its_prompts_on_one_sheet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.cli.commands import demo

    monkeypatch.setattr(demo, "MODEL", str(folder / "model"))
    monkeypatch.setattr(demo, "STEPS", 1)
    done = weft("demo", "-o", folder / "demo")
    assert done.exit_code == 0, done.output
    assert str(folder / "demo" / "demo.png") in done.stdout
    assert len(list((folder / "demo").glob("*-seed*.png"))) == len(demo.PROMPTS) * len(demo.SEEDS)
    with Image.open(folder / "demo" / "demo.png") as sheet:
        width, height = sheet.size
    assert width > 4 * 192
    assert height > 4 * 192
