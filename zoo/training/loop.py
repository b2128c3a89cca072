"""One resumable training loop for every stage.

Nothing about the data position or the random state needs saving: batch and noise of step ``s`` come from a generator
seeded with ``(seed, s)``, so a run that was killed and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class LoopRecipe(BaseModel):
    """How long and how fast to train; the same section in the recipe of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0, description="planned steps; the cosine ends here")
    batch_size: int = Field(gt=0, description="of all processes together")
    learning_rate: float = Field(gt=0, description="peak, reached after `warmup` steps")
    final_learning_rate: float = Field(0.0, ge=0)
    warmup: int = Field(100, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1, description="largest decay of the averaged weights")
    ema_late: float | None = Field(None, ge=0, lt=1, description="decay of the second half, if another one")
    seed: int = 0
    log_every: int = Field(20, gt=0, description="steps per line of curves.jsonl")
    checkpoint_minutes: float = Field(3.0, gt=0)
    preview_minutes: float = Field(10.0, gt=0)
    mixed_precision: str = Field("no", pattern="^(no|bf16|fp16)$")

    def rate(self, step: int) -> float:
        """Learning rate of ``step``: linear warm-up, then half a cosine (SGDR, arXiv 1608.03983, eq. 5)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        low = self.final_learning_rate
        return low + (self.learning_rate - low) * 0.5 * (1 + math.cos(math.pi * done))

    def decay(self, step: int) -> float:
        """EMA decay of ``step``, small at first so that early averages forget the initial weights."""
        largest = self.ema_late if self.ema_late is not None and step * 2 >= self.steps else self.ema
        return min(largest, (1 + step) / (10 + step))


class Task(ABC):
    """What a stage trains: one module, its losses by step, and a picture of how it does."""

    model: nn.Module

    @abstractmethod
    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Scalars of one step; ``"loss"`` is the one to descend. ``rng`` (CPU) is seeded for this step."""

    def preview(self, path: Path) -> None:  # noqa: B027 - most stages need none
        """Write a picture of the averaged weights' work to ``path``; ``self.model`` holds them meanwhile."""


class Trainer:
    """Trains ``task`` by ``recipe`` in ``out``, which gets checkpoint.pt, curves.jsonl and previews."""

    def __init__(self, task: Task, recipe: LoopRecipe, out: Path) -> None:
        self.task, self.recipe, self.out = task, recipe, out
        cpu = not torch.cuda.is_available()  # accelerate joins processes without a GPU only if it is told so
        self.accelerator = Accelerator(mixed_precision=recipe.mixed_precision, cpu=cpu)
        self.step = 0
        out.mkdir(parents=True, exist_ok=True)
        decayed = [p for p in task.model.parameters() if p.requires_grad and p.ndim >= 2]
        rest = [p for p in task.model.parameters() if p.requires_grad and p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
        # The loop averages gradients itself, so the model is moved, not wrapped: its names stay those of the export.
        task.model = task.model.to(self.accelerator.device)
        self.optimizer: torch.optim.Optimizer = self.accelerator.prepare(adamw)
        self.ema = {k: v.detach().clone() for k, v in self._weights().items()}
        self._stop = False

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def _weights(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.task.model.state_dict().items() if v.is_floating_point()}

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "step": self.step,
            "model": self.task.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
        }
        new = self.checkpoint.with_suffix(".tmp")
        torch.save(state, new)
        os.replace(new, self.checkpoint)

    def resume(self) -> None:
        """Continue from the checkpoint in ``out``, if there is one; later lines of the curves are dropped."""
        if not self.checkpoint.exists():
            return
        state = whole(torch.load(self.checkpoint, map_location="cpu", weights_only=True))
        self.task.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in self.ema.items():
            value.copy_(state["ema"][name])
        self.step = state["step"]
        curves = self.out / "curves.jsonl"
        if curves.exists() and self.accelerator.is_main_process:
            lines = [
                line for line in curves.read_text().splitlines() if json.loads(line)["step"] <= self.step
            ]
            curves.write_text("".join(line + "\n" for line in lines))

    def train_step(self) -> dict[str, Tensor]:
        """One optimizer step; returns the losses of it, detached."""
        recipe = self.recipe
        stream = (recipe.seed << 32) + (self.accelerator.process_index << 28) + self.step
        rng = torch.Generator().manual_seed(stream)
        rate = recipe.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.accelerator.autocast():
            losses = self.task.losses(self.step, rng, self.accelerator.device)
        self.accelerator.backward(losses["loss"])
        if self.accelerator.num_processes > 1:
            self._average_gradients()
        norm = self.accelerator.clip_grad_norm_(self.task.model.parameters(), recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            decay = recipe.decay(self.step)
            weights = self._weights()
            torch._foreach_lerp_(list(self.ema.values()), [weights[k] for k in self.ema], 1 - decay)
        self.step += 1
        return {k: v.detach() for k, v in losses.items()} | {"grad_norm": torch.as_tensor(norm).detach()}

    def _average_gradients(self) -> None:
        """Mean gradients of all processes, in one message; a wish to stop travels along, so that all stop together.

        Two processes of one thread each are faster than one of two on a busy machine: they wait for each other once
        a step, not at every operation (2 shared cores: 0.6 s a step against 0.7 to 4 s).
        """
        learning = [p for p in self.task.model.parameters() if p.requires_grad]
        for parameter in learning:
            # a part that no sample of this process used still takes its place in the message
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in learning if p.grad is not None]
        wish = torch.tensor([float(self._stop)], device=gradients[0].device)
        flat = torch.cat([g.flatten() for g in gradients] + [wish])
        flat = self.accelerator.reduce(flat, "mean")
        self._stop = bool(flat[-1] > 0)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def run(self, until: int | None = None) -> None:
        """Train to ``until`` (default: the planned steps), with checkpoints by the clock; SIGTERM saves and returns."""
        self._stop = False
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        saved = previewed = logged = time.monotonic()
        sums: dict[str, Tensor] = {}
        count = 0
        try:
            while self.step < (self.recipe.steps if until is None else until) and not self._stop:
                losses = self.train_step()
                sums = {k: sums.get(k, torch.zeros_like(v)) + v for k, v in losses.items()}
                count += 1
                now = time.monotonic()
                if self.step % self.recipe.log_every == 0:
                    self._log({k: v.item() / count for k, v in sums.items()}, (now - logged) / count)
                    sums, count, logged = {}, 0, now
                if now - saved > 60 * self.recipe.checkpoint_minutes:
                    self.save()
                    saved = now
                if now - previewed > 60 * self.recipe.preview_minutes:
                    self.preview()
                    previewed = logged = time.monotonic()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.save()
        self.preview()

    def preview(self) -> None:
        """Let the task draw with the averaged weights."""
        if not self.accelerator.is_main_process:
            return
        weights = {k: v.detach().clone() for k, v in self._weights().items()}
        self.task.model.load_state_dict(self.ema, strict=False)
        self.task.model.eval()
        with torch.no_grad():
            self.task.preview(self.out / f"preview-{self.step:06d}.png")
        self.task.model.load_state_dict(weights, strict=False)
        self.task.model.train()

    def _log(self, values: dict[str, float], seconds: float) -> None:
        if not self.accelerator.is_main_process:
            return
        line: dict[str, Any] = {
            "step": self.step,
            "lr": self.recipe.rate(self.step - 1),
            "seconds": seconds,
            **values,
        }
        with (self.out / "curves.jsonl").open("a") as file:
            file.write(json.dumps({k: float(f"{v:.6g}") for k, v in line.items()}) + "\n")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True


def hours(out: Path) -> float:
    """Hours that the steps in curves.jsonl of ``out`` took, previews and pauses left out."""
    lines = [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]
    steps = [0.0, *(line["step"] for line in lines)]
    spent = sum(line["seconds"] * (b - a) for line, (a, b) in zip(lines, pairwise(steps), strict=True))
    return float(spent) / 3600


def slim(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint at an eighth of its size, to go on from elsewhere: averaged weights as float16, and of every
    matrix of second moments the means of its rows and columns (Adafactor, arXiv 1804.04235, algorithm 1).

    A run that goes on from it starts at the averaged weights, without momentum.
    """
    optimizer = state["optimizer"]
    return {
        "step": state["step"],
        "ema": {name: value.half() for name, value in state["ema"].items()},
        "moments": {
            i: {"step": s["step"], "shape": list(s["exp_avg_sq"].shape), **_factors(s["exp_avg_sq"])}
            for i, s in optimizer["state"].items()
        },
        "param_groups": optimizer["param_groups"],
    }


def whole(state: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint that `slim` has cut down, as the loop reads it; one that was not cut down stays as it is."""
    if "model" in state:
        return state
    weights = {name: value.float() for name, value in state["ema"].items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for i, s in state["moments"].items():
        squares = s["rows"][:, None] * s["columns"] / s["rows"].mean().clamp_min(1e-30)
        squares = squares.reshape(s["shape"])
        moments[i] = {"step": s["step"], "exp_avg": torch.zeros_like(squares), "exp_avg_sq": squares}
    optimizer = {"state": moments, "param_groups": state["param_groups"]}
    return {"step": state["step"], "model": weights, "ema": weights, "optimizer": optimizer}


def _factors(squares: Tensor) -> dict[str, Tensor]:
    """Means of the rows and of the columns; a vector is one row, a kernel has an output a row."""
    matrix = squares.reshape(len(squares), -1) if squares.ndim > 1 else squares.reshape(1, -1)
    return {"rows": matrix.mean(1), "columns": matrix.mean(0)}


def averaged(out: Path) -> dict[str, Tensor]:
    """The averaged weights of the checkpoint in ``out``."""
    ema: dict[str, Tensor] = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)["ema"]
    return {name: value.float() for name, value in ema.items()}
