"""Does SIGKILL at any point of `weft generate` or of a training leave a broken file, or another result after resuming?

A process that has everything imported forks a child for each point. Half of the children are killed by themselves at
their n-th opening, renaming or removing of a file below the folder, half from outside at a moment spread over the
whole run. Then every file is checked, the command is given again, and the folder is compared with that of a run in
peace, byte by byte.

    python benchmarks/robustness/kills.py --count 200     # minutes
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from robustness_helpers.figures import keep
from torch import Tensor, nn

import weft
from weft.core.provenance.write import read_provenance
from weft.testing import random_model
from weft.zoo.training.loop import LoopRecipe, Task, Trainer

RUN = """\
version: 1
model: model
prompt: a toy and a star
sampler: {steps: 2, batch_size: 2}
reproducibility: exact
seeds: [0, 1, 2, 3, 4]
"""
STEPS = 120
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")


class Line(Task):
    """A training whose every step takes a moment and whose result shows every step."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        x = torch.randn(32, 64, generator=rng)
        return {"loss": (self.model(x) - x.sum(1, keepdim=True)).square().mean()}


def generate(folder: Path) -> None:
    from weft.cli.commands.generate import run as generate

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = generate(folder.parent / "run.yaml", folder)
    assert code == 0, code


def train(folder: Path) -> None:
    recipe = LoopRecipe(steps=STEPS, batch_size=32, learning_rate=1e-3, log_every=10, checkpoint_minutes=1e-9)
    trainer = Trainer(Line(), recipe, folder)
    trainer.resume()
    trainer.run()


def child(
    work: Callable[[Path], None], folder: Path, event: int | None, seconds: float | None
) -> tuple[int, float, int]:
    """Fork, work, and kill; gives the signal that ended the child, its time, and how many events it had."""
    reading, writing = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        count = 0

        def hook(name: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if (
                name in EVENTS
                and isinstance(arguments[0], (str, os.PathLike))
                and str(folder) in str(arguments[0])
            ):
                if count == event:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        sys.addaudithook(hook)
        code = 1
        try:
            work(folder)
            os.write(writing, str(count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    spent = time.monotonic() - started
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the child failed")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), spent, int(said or 0)


def broken_pictures(folder: Path) -> list[str]:
    """Files of a generation that are not whole; what is still called .partial was never promised."""
    wrong = []
    for path in sorted(folder.glob("*")):
        try:
            if path.suffix == ".png":
                from PIL import Image

                with Image.open(path) as image:
                    image.load()
                if "-seed" in path.name and read_provenance(path).source != path:
                    wrong.append(f"{path.name} lost its texts")
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                for line in path.read_text().splitlines()[:-1]:
                    json.loads(line)
        except Exception as error:
            wrong.append(f"{path.name}: {error}")
    return wrong


def broken_checkpoint(folder: Path) -> list[str]:
    path = folder / "checkpoint.pt"
    try:
        if path.exists():
            torch.load(path, weights_only=True)
    except Exception as error:
        return [f"{path.name}: {error}"]
    return []


def pictures(folder: Path) -> dict[str, str]:
    """Digests of everything that a generation leaves; the manifest is a set of lines."""
    found = {}
    for path in sorted(folder.glob("*")):
        if path.suffix == ".jsonl":
            data = "\n".join(sorted(path.read_text().splitlines())).encode()
        elif path.suffix == ".partial":
            continue
        else:
            data = path.read_bytes()
        found[path.name] = hashlib.sha256(data).hexdigest()
    return found


def weights(folder: Path) -> dict[str, str]:
    """Digests of everything in a checkpoint, tensor by tensor."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    found = {"step": str(state["step"])}
    for part in ("model", "ema"):
        for name, tensor in state[part].items():
            found[f"{part}.{name}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    for number, moments in state["optimizer"]["state"].items():
        for name, tensor in moments.items():
            found[f"optimizer.{number}.{name}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return found


Check = Callable[[Path], list[str]]
Digests = Callable[[Path], dict[str, str]]
KINDS: dict[str, tuple[Callable[[Path], None], Check, Digests]] = {
    "generate": (generate, broken_pictures, pictures),
    "train": (train, broken_checkpoint, weights),
}


def run(count: int) -> dict[str, Any]:
    """Kill each kind ``count / 2`` times."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "points": 0,
        "killed": 0,
        "corrupt": [],
        "other_after_resuming": [],
        "left_partial": 0,
    }
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        weft.load(random_model(place / "model"), device="cpu")
        (place / "run.yaml").write_text(RUN)
        for kind, (work, check, digests) in KINDS.items():
            peace = place / f"{kind}-peace"
            _, seconds, events = child(work, peace, None, None)
            wanted = digests(peace)
            points = count // 2
            result[kind] = {"seconds": round(seconds, 2), "events": events, "points": points, "killed": 0}
            for point in range(points):
                folder = place / f"{kind}-{point}"
                by_event = point % 2 == 0
                share = (point + 0.5) / points
                event = int(share * events) if by_event else None
                ended, _, _ = child(work, folder, event, None if by_event else share * seconds)
                while ended != signal.SIGKILL and not by_event:  # the machine has become faster since
                    seconds *= 0.8
                    shutil.rmtree(folder)
                    ended, _, _ = child(work, folder, None, share * seconds)
                killed = ended == signal.SIGKILL
                result["points"] += 1
                result["killed"] += killed
                result[kind]["killed"] += killed
                if folder.exists():
                    result["corrupt"] += [f"{kind} {point}: {wrong}" for wrong in check(folder)]
                    result["left_partial"] += len(list(folder.glob("*.partial")))
                child(work, folder, None, None)
                result["corrupt"] += [f"{kind} {point} resumed: {wrong}" for wrong in check(folder)]
                found = digests(folder)
                if found != wanted:
                    names = [
                        name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
                    ]
                    result["other_after_resuming"].append(f"{kind} {point}: {sorted(names)[:5]}")
                shutil.rmtree(folder)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    found = run(parser.parse_args().count)
    holds = not found["corrupt"] and not found["other_after_resuming"] and found["killed"] == found["points"]
    keep("kills", "200 points, 0 corrupt files, resume equal bit for bit", holds, found)


if __name__ == "__main__":
    main()
