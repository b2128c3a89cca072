"""Checks of what a plugin leaves behind: in the model, in what it was given, in the process and outside it."""

from __future__ import annotations

import copy
import gc
import os
import random
import sys
import threading
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..api.plugin import Plugin
from ..sampling.progress import Progress
from .case import STEPS, Case, draw

_MOVING = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.system",
    "os.truncate",
    "os.symlink",
    "os.exec",
    "os.posix_spawn",
    "shutil.rmtree",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "urllib.Request",
)
"""What the interpreter reports, beside files that are opened for writing."""


def check_unet_is_restored(plugin: Plugin, case: Case) -> None:
    """After a generation the model is the same: representation, parameters, modes, gradients, hooks and outputs."""
    before = _fingerprint(case)
    draw(plugin, case)
    _compare(before, _fingerprint(case))


def check_unet_is_restored_after_an_exception(plugin: Plugin, case: Case) -> None:
    """The same when the generation is broken off at any step; and the plugin draws what it drew before."""
    before, drawn = _fingerprint(case), draw(plugin, case).latents
    for last in range(1, STEPS + 1):

        def stop(now: Progress, last: int = last) -> None:
            if now.step == last:
                raise KeyboardInterrupt

        try:
            draw(plugin, case, progress=stop)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the generation was not broken off")
        _compare(before, _fingerprint(case))
    assert torch.equal(draw(plugin, case).latents, drawn), (
        "after an exception the plugin draws something else"
    )


def check_inputs_are_not_written(plugin: Plugin, case: Case) -> None:
    """The scene, its images and the plugin's own parameters are the same after a generation."""
    scene, own = copy.deepcopy(case.scene), copy.deepcopy(plugin)
    draw(plugin, case)
    assert case.scene == scene, "the scene was written"
    assert plugin == own, "the plugin's parameters were written"


def check_nothing_is_kept(plugin: Plugin, case: Case) -> None:
    """No tensor of a generation lives on after it, so that memory is flat over many images."""
    draw(plugin, case)  # fills caches
    counts = []
    for seed in range(3):
        draw(plugin, case, seeds=(seed,))
        gc.collect()
        counts.append(sum(1 for one in gc.get_objects() if issubclass(type(one), Tensor)))
    assert not counts[0] < counts[1] < counts[2], f"tensors are kept from generation to generation: {counts}"


def check_global_state_is_untouched(plugin: Plugin, case: Case) -> None:
    """Global random states are neither read nor moved; default dtype, gradient mode and thread count stay."""
    first = draw(plugin, case).latents
    before = _global_state()
    state = random.getstate()
    random.seed(12345)
    second = draw(plugin, case).latents
    random.setstate(state)  # not compared: type checkers that tests switch on draw from it
    after = _global_state()
    changed = [name for name, value in before.items() if after[name] != value]
    assert not changed, f"a global state changed: {', '.join(changed)}"
    assert torch.equal(first, second), "the result depends on the global random state of `random`"


def check_nothing_is_written_or_sent(plugin: Plugin, case: Case) -> None:
    """While an image is drawn no file is written, no process is started and no connection is made."""
    draw(plugin, case)  # what is imported late may leave compiled modules
    with _WATCH as events:
        draw(plugin, case)
    assert not events, f"while drawing: {'; '.join(events[:3])}"


class _Watch:
    """An audit hook, which cannot be taken out again, and sleeps outside ``with``."""

    def __init__(self) -> None:
        self.events: list[str] | None = None
        self.thread, self.added = 0, False

    def __enter__(self) -> list[str]:
        if not self.added:
            sys.addaudithook(self._hear)
            self.added = True
        self.thread, self.events = threading.get_ident(), []
        return self.events

    def __exit__(self, *error: object) -> None:
        self.events = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.events is None or threading.get_ident() != self.thread:
            return
        if event == "open" and isinstance(flags := arguments[2], int):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.events.append(f"'{arguments[0]}' was opened for writing")
        elif event in _MOVING:
            self.events.append(f"{event} {arguments[:1]}")


_WATCH = _Watch()


def _fingerprint(case: Case) -> tuple[str, dict[str, Tensor], list[Any], Tensor]:
    pipeline = case.pipeline()
    modules: tuple[nn.Module, ...] = (pipeline.unet, pipeline.text.model, pipeline.vae)
    state = {
        f"{i}.{name}": tensor.clone()
        for i, m in enumerate(modules)
        for name, tensor in m.state_dict().items()
    }
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for m in modules for part in m.modules()]
    training = [part.training for m in modules for part in m.modules()]
    gradients = [(one.requires_grad, one.grad is None) for m in modules for one in m.parameters()]
    return "\n".join(map(repr, modules)), state, [hooks, training, gradients], draw(None, case).latents


def _compare(before: tuple[str, dict[str, Tensor], list[Any], Tensor], after: Any) -> None:
    assert before[0] == after[0], "the model's representation changed"
    assert before[1].keys() == after[1].keys(), "the model's parameters have other names"
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in before[1].items()), (
        "a parameter was written"
    )
    for number, what in enumerate(
        ("hooks are left on the model", "a module's mode changed", "gradients changed")
    ):
        assert before[2][number] == after[2][number], what
    assert torch.equal(before[3], after[3]), "the model's output changed"


def _global_state() -> dict[str, Any]:
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": str(np.random.get_state(legacy=False)),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's precision of float32 products": torch.get_float32_matmul_precision(),
        "the working folder": os.getcwd(),
        "the environment": dict(os.environ),
        "the import path": list(sys.path),
        "the filters of warnings": list(warnings.filters),
    }
