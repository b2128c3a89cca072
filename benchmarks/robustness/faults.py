"""What is left, and what is said, when something breaks at any place of a run?

Faults: a plugin that raises in each of its methods, a tensor of NaN at each step and from each kind of plugin, no
memory at each call of the UNet, and a disk that refuses each write. Each is let into a run of four images in batches of
two, late enough that the first batch is finished where the place allows it.

    python benchmarks/robustness/faults.py     # a minute
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
from PIL import Image
from robustness_helpers.figures import keep
from torch import Tensor

import weft
from weft.core.api.branches import LinearForm
from weft.core.api.conditioner import Conditioner, Prepared
from weft.core.api.guidance import Energy, Guidance, LatentEdit
from weft.core.api.ports import ContextTokens
from weft.core.jobs.batch_size import out_of_memory
from weft.core.provenance.write import read_provenance
from weft.core.result import Result
from weft.core.scene import record
from weft.core.unet.forward import UNetForward
from weft.testing import random_model, random_pipeline

STEPS = 4
FIRST_BATCH_CALLS = STEPS
WORDS = "the fault that was let in"


class Fault(Exception):
    """What a broken plugin raises."""


class Place:
    """Counts the calls of one method and breaks one of them."""

    def __init__(self, method: str, call: int, nan: bool) -> None:
        self.method, self.left, self.nan = method, call, nan

    def pass_through(self, method: str, value: Any) -> Any:
        if method != self.method:
            return value
        self.left -= 1
        if self.left >= 0:
            return value
        if not self.nan:
            raise Fault(WORDS)
        return value * float("nan")


PLACE = Place("", 0, False)
"""The one of the fault that is being tried; plugins are frozen and cannot hold it."""


@record
class BrokenGuidance(Guidance):
    """Reads the null branch and changes nothing, until it breaks."""

    name: ClassVar[str] = "broken_guidance"
    neutral: ClassVar[dict[str, Any]] = {}

    def check(self, *arguments: Any) -> None:
        PLACE.pass_through("check", None)

    def begin(self, *arguments: Any) -> Any:
        return PLACE.pass_through("begin", self)

    def rewrite(self, form: LinearForm, step: Any) -> LinearForm:
        return PLACE.pass_through("rewrite", form)

    def reads(self, form: LinearForm, step: Any) -> Sequence[LinearForm]:
        return PLACE.pass_through("reads", (LinearForm.of(form.null()),))

    def combine(self, guided: Tensor, values: Sequence[Tensor], step: Any) -> Tensor:
        return PLACE.pass_through("combine", guided)


@record
class BrokenEnergy(Energy):
    """The mean of the maps."""

    name: ClassVar[str] = "broken_energy"
    neutral: ClassVar[dict[str, Any]] = {}

    def applies(self, step: Any) -> bool:
        return PLACE.pass_through("applies", True)

    def loss(self, maps: Any, step: Any) -> Tensor:
        loss = maps.mean(maps.grids[0]).flatten(1).square().mean(1)
        return PLACE.pass_through("loss", loss)

    def step_size(self, step: Any) -> float:
        return PLACE.pass_through("step_size", 0.1)

    def map_positions(self) -> int:
        return PLACE.pass_through("map_positions", super().map_positions())

    def refinement(self, step: Any) -> Any:
        return PLACE.pass_through("refinement", None)


@record
class BrokenEdit(LatentEdit):
    """Leaves the latents as they are."""

    name: ClassVar[str] = "broken_edit"
    neutral: ClassVar[dict[str, Any]] = {}

    def before(self, latents: Tensor, step: Any) -> Tensor:
        return PLACE.pass_through("before", latents)

    def edit(self, latents: Tensor, step: Any) -> Tensor:
        return PLACE.pass_through("edit", latents)


class _Tokens(Prepared):
    def __init__(self, states: Tensor) -> None:
        self.states = states

    def present(self, text: Any) -> Any:
        return (ContextTokens(PLACE.pass_through("present", self.states)),)

    def absent(self, text: Any) -> Any:
        return (ContextTokens(PLACE.pass_through("absent", self.states * 0)),)


@record
class BrokenConditioner(Conditioner):
    """Attends to another prompt too."""

    name: ClassVar[str] = "broken_conditioner"

    def prepare(self, scene: Any, model: Any) -> Prepared:
        states = model.text.encode(model.text.tokens("two boats"))
        return _Tokens(PLACE.pass_through("prepare", states))


PLUGINS: tuple[type[Any], ...] = (BrokenGuidance, BrokenEnergy, BrokenEdit, BrokenConditioner)
METHODS: dict[type[Any], tuple[str, ...]] = {
    BrokenGuidance: ("check", "begin", "rewrite", "reads", "combine"),
    BrokenEnergy: ("applies", "loss", "step_size", "refinement", "map_positions"),
    BrokenEdit: ("before", "edit"),
    BrokenConditioner: ("prepare", "present", "absent"),
}
ONCE = ("check", "begin", "prepare", "present", "absent")
"""Methods that are not called at every step."""
NAN: dict[type[Any], tuple[str, ...]] = {
    BrokenGuidance: ("combine",),
    BrokenEnergy: ("loss", "step_size"),
    BrokenEdit: ("before", "edit"),
    BrokenConditioner: ("prepare", "present"),
}
SCENE = weft.Scene("a toy and a star", [weft.Subject("toy", box=(0, 0, 0.5, 1)), weft.Subject("star")])


def plugin_faults() -> Iterator[tuple[str, type[Any], Place]]:
    """Every place of every plugin, at each step of the second batch."""
    for plugin, methods in METHODS.items():
        for method in methods:
            for nan in (False, True) if method in NAN.get(plugin, ()) else (False,):
                for step in range(1 if method in ONCE else STEPS):
                    first = 0 if method in ONCE else FIRST_BATCH_CALLS
                    calls = first + step + (1 if method == "begin" else 0)
                    kind = "NaN from" if nan else "raise in"
                    yield f"{kind} {plugin.name}.{method}, step {step}", plugin, Place(method, calls, nan)


def try_plugin(label: str, plugin: type[Any], place: Place) -> list[str]:
    """What is not as it should be."""
    global PLACE
    pipe = random_pipeline()
    before = state(pipe)
    kept: list[Result] = []
    PLACE = place
    kind = "conditioners" if issubclass(plugin, Conditioner) else "guidance"
    chain: dict[str, Any] = {"conditioners": [], "guidance": ["classifier_free"]}
    chain[kind] = [*chain[kind], plugin()]
    wrong = []
    try:
        pipe.generate(SCENE, **chain, steps=STEPS, seeds=range(4), batch_size=2, on_batch=kept.append)
    except weft.WeftError as error:
        wrong = message_faults(label, str(error), plugin, place)
    except Exception:
        wrong = ["not our error: " + traceback.format_exc()[-300:]]
    else:
        wrong = ["nothing was raised"]
    finally:
        PLACE = Place("", 0, False)
    if place.method not in ONCE and [len(part) for part in kept] != [2]:
        wrong.append(f"{len(kept)} batches were kept")
    return wrong + restored(pipe, before)


def message_faults(label: str, message: str, plugin: type[Any], place: Place) -> list[str]:
    wrong = []
    step = int(label.rsplit(" ", 1)[1])
    # a NaN in the prediction is found in the latents, after every strategy has had its turn
    named = plugin.name in message or (place.nan and "sampler" in message)
    if not named:
        wrong.append(f"the plugin is not named: {message}")
    if place.method not in ONCE and not re.search(rf"step {step}\b", message):
        wrong.append(f"the step is not named: {message}")
    if not place.nan and WORDS not in message:
        wrong.append(f"the cause is not told: {message}")
    if place.nan and not re.search("finite", message):
        wrong.append(f"NaN is not told: {message}")
    return wrong


def try_memory(call: int) -> list[str]:
    """No memory at one call of the UNet: our pipeline passes it on, and leaves the model as it was."""
    pipe = random_pipeline()
    before, calls, real = state(pipe), 0, UNetForward.__call__
    kept: list[Any] = []

    def forward(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            raise torch.OutOfMemoryError("no memory")
        return real(self, *arguments, **options)

    wrong = []
    with mock.patch.object(UNetForward, "__call__", forward):
        try:
            pipe.generate(SCENE, steps=STEPS, seeds=range(4), batch_size=2, on_batch=kept.append)
            wrong.append("nothing was raised")
        except Exception as error:
            if not out_of_memory(error):
                wrong.append(f"not known as a lack of memory: {error!r}")
    if len(kept) != call // STEPS:
        wrong.append(f"{len(kept)} batches were kept")
    return wrong + restored(pipe, before)


def try_run_without_memory(folder: Path, call: int) -> list[str]:
    """The command halves its batch and draws everything."""
    calls, real = 0, UNetForward.__call__

    def forward(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            raise torch.OutOfMemoryError("no memory")
        return real(self, *arguments, **options)

    with mock.patch.object(UNetForward, "__call__", forward):
        code, said = command(folder)
    return [] if code == 0 and len(pictures(folder)) == 4 else [f"ended with {code}: {said[-300:]}"]


def try_disk(folder: Path, number: int, cause: int) -> list[str]:
    """The disk refuses the n-th new file: it is named, finished pictures stay whole, and the next run ends well."""
    calls, real = 0, os.open

    def refuse(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        nonlocal calls
        if flags & os.O_CREAT and str(path).startswith(str(folder / "out")):
            calls += 1
            if calls == number + 1:
                raise OSError(cause, os.strerror(cause), str(path))
        return real(path, flags, *arguments, **options)

    with mock.patch.object(os, "open", refuse):
        code, said = command(folder)
    wrong = []
    if calls <= number:
        return [f"only {calls} files were written"]
    if code not in (2, 3) or os.strerror(cause) not in said or "file '" not in said:
        wrong.append(f"ended with {code}: {said[-300:]}")
    for path in pictures(folder):
        try:
            Image.open(path).load()
            read_provenance(path)
        except Exception as error:
            wrong.append(f"{path.name} is broken: {error}")
    if list((folder / "out").glob("*.partial")):
        wrong.append("a partial file was left")
    code, said = command(folder)
    if code != 0 or len(pictures(folder)) != 4:
        wrong.append(f"the next run ended with {code}: {said[-300:]}")
    return wrong


def command(folder: Path) -> tuple[int, str]:
    from typer.testing import CliRunner

    from weft.cli.app import app

    with contextlib.redirect_stderr(io.StringIO()):
        done = CliRunner().invoke(app, ["generate", str(folder / "run.yaml"), "-o", str(folder / "out")])
    return done.exit_code, done.output


def pictures(folder: Path) -> list[Path]:
    return sorted((folder / "out").glob("*-seed*.png"))


def state(pipe: weft.Pipeline) -> tuple[Any, ...]:
    modules = (pipe.unet, pipe.vae, pipe.text.model)
    tensors = [tensor.clone() for module in modules for tensor in module.state_dict().values()]
    hooks = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) for module in modules for m in module.modules()
    )
    return [repr(module) for module in modules], tensors, hooks, pipe.generate(SCENE, steps=1).latents


def restored(pipe: weft.Pipeline, before: tuple[Any, ...]) -> list[str]:
    after = state(pipe)
    wrong = (
        [] if before[0] == after[0] and before[2] == after[2] else ["the model's modules or hooks changed"]
    )
    same = all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    wrong += [] if same else ["a parameter was written"]
    return wrong + ([] if torch.equal(before[3], after[3]) else ["the model's output changed"])


def attempts(place: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Every fault, by what it is."""
    for label, plugin, where in plugin_faults():
        yield label, lambda label=label, plugin=plugin, where=where: try_plugin(label, plugin, where)
    for call in range(2 * STEPS):
        yield f"no memory at call {call} of the UNet", lambda call=call: try_memory(call)

    def fresh(number: int) -> Path:
        folder = place / str(number)
        folder.mkdir()
        (folder / "model").symlink_to(place / "model")
        sampler = f"sampler: {{steps: {STEPS}, batch_size: 2}}"
        run = f"version: 1\nmodel: model\nprompt: a toy\n{sampler}\nseeds: {{count: 4}}\n"
        (folder / "run.yaml").write_text(run)
        return folder

    for call in range(2 * STEPS):
        yield (
            f"no memory at call {call} of a command",
            lambda call=call: try_run_without_memory(fresh(call), call),
        )
    causes = {"a full disk": errno.ENOSPC, "a read-only disk": errno.EROFS, "a broken disk": errno.EIO}
    for kind, (name, cause) in enumerate(causes.items()):
        for number in range(8):  # a JSON file and a picture for each of four items
            yield (
                f"{name} at file {number}",
                lambda n=number, c=cause, k=kind: try_disk(fresh(100 * (k + 1) + n), n, c),
            )


def run(every: int = 1) -> dict[str, Any]:
    """Let in every fault, or each ``every``-th."""
    torch.set_num_threads(1)
    wrong, count = [], 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        random_model(place / "model")
        for label, attempt in list(attempts(place))[::every]:
            count += 1
            problems = attempt()
            if problems:
                wrong.append({"fault": label, "problems": problems})
    return {"faults": count, "wrong": len(wrong), "first": wrong[:8]}


def main() -> None:
    found = run()
    keep(
        "faults",
        "100 faults; plugin and step named, finished images kept, the UNet restored",
        not found["wrong"],
        found,
    )


if __name__ == "__main__":
    main()
