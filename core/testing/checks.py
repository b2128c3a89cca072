"""The contract of conditioners and guidance strategies, one check a clause.

A plugin's test file runs them all::

    @weft.testing.parametrize_with_checks([MyConditioner(), MyStrategy(scale=2.0)])
    def test_contract(plugin, check):
        check(plugin)
"""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioner import Conditioner
from ..errors import UserError
from ..pipeline import Pipeline
from ..plugin import Plugin
from ..progress import Progress
from ..result import Result
from ..scene import Scene, Subject
from .model import random_pipeline

STEPS = 3
# batch 1 and batch 3 round differently in every matrix product; random weights do not amplify it past this
BATCH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """A model and a scene to check a plugin on.

    Args:
        pipeline: makes the model; a small random one by default.
        scene: what the plugin reads.
        conditioners: present in every generation, for a strategy that needs one.
    """

    pipeline: Callable[[], Pipeline] = random_pipeline
    scene: Scene = dataclasses.field(
        default_factory=lambda: Scene(
            "a toy on grass", subjects=(Subject("toy", box=(0.25, 0.25, 0.75, 1.0)),)
        )
    )
    conditioners: tuple[Conditioner, ...] = ()


Check = Callable[[Plugin, Case], None]


def parametrize_with_checks(plugins: Sequence[Plugin], case: Case | None = None) -> Any:
    """A pytest decorator: the test is called with every (plugin, check) pair.

    Args:
        plugins: instances, each with parameters at which it has an effect.
        case: the model and the scene to use, when the default ones do not suit.
    """
    import pytest

    chosen = case or Case()

    def bound(check: Check) -> Callable[[Plugin], None]:
        return lambda plugin: check(plugin, chosen)

    pairs = [
        pytest.param(plugin, bound(check), id=f"{plugin.name}-{check.__name__.removeprefix('check_')}")
        for plugin in plugins
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("plugin", "check"), pairs)


def check_neutral_is_identity(plugin: Plugin, case: Case) -> None:
    """At its neutral parameters the plugin changes no bit; at the given ones it changes something."""
    without = _draw(None, case)
    neutral = dataclasses.replace(plugin, **plugin.neutral)
    assert torch.equal(_draw(neutral, case).latents, without.latents), (
        "the neutral plugin changes the latents"
    )
    assert not torch.equal(_draw(plugin, case).latents, without.latents), "the plugin has no effect to check"


def check_unet_is_restored(plugin: Plugin, case: Case) -> None:
    """After a generation the model is the same: its representation, parameters, hooks and outputs."""
    before = _fingerprint(case)
    _draw(plugin, case)
    _compare(before, _fingerprint(case))


def check_unet_is_restored_after_an_exception(plugin: Plugin, case: Case) -> None:
    """The same when the generation is broken off at any step."""
    before = _fingerprint(case)
    for last in range(1, STEPS + 1):

        def stop(now: Progress, last: int = last) -> None:
            if now.step == last:
                raise KeyboardInterrupt

        try:
            _draw(plugin, case, progress=stop)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the generation was not broken off")
        _compare(before, _fingerprint(case))


def check_dtype_and_device_are_kept(plugin: Plugin, case: Case) -> None:
    """The latents stay float32 on the model's device, and a model in float64 works too."""
    pipeline = case.pipeline()
    modules = (pipeline.unet, pipeline.vae, pipeline.text.model)
    single = _draw(plugin, case).latents
    assert single.dtype == torch.float32, f"latents are {single.dtype}"
    assert single.device == pipeline.unet.device, f"latents are on {single.device}"
    try:
        for module in modules:
            module.double()
        double = _draw(plugin, case).latents
    finally:
        for module in modules:
            module.float()
    assert bool(torch.isfinite(double).all())
    assert torch.allclose(double.float(), single, atol=1e-2), "a float64 model gives another picture"


def check_batch_equals_single(plugin: Plugin, case: Case) -> None:
    """A seed means the same image alone and in a batch."""
    together = _draw(plugin, case, seeds=(3, 1, 2)).latents
    for number, seed in enumerate((3, 1, 2)):
        alone = _draw(plugin, case, seeds=(seed,)).latents[0]
        error = float((together[number] - alone).abs().max())
        assert error <= BATCH_TOLERANCE, f"seed {seed} differs by {error} in a batch"


def check_is_repeatable(plugin: Plugin, case: Case) -> None:
    """The same call gives the same bits: no state is left in the plugin."""
    assert torch.equal(_draw(plugin, case).latents, _draw(plugin, case).latents)


def check_global_state_is_untouched(plugin: Plugin, case: Case) -> None:
    """Global random states are neither read nor moved; default dtype, gradient mode and thread count stay."""
    first = _draw(plugin, case).latents
    before = _global_state()
    state = random.getstate()
    random.seed(12345)
    second = _draw(plugin, case).latents
    random.setstate(state)  # not compared: type checkers that tests switch on draw from it
    assert _global_state() == before, "a global state changed"
    assert torch.equal(first, second), "the result depends on the global random state of `random`"


def check_unknown_parameters_are_refused(plugin: Plugin, case: Case) -> None:
    """A parameter that does not exist is a `UserError` that names it, and parameters are frozen."""
    refusal = ""
    try:
        dataclasses.replace(plugin, no_such_parameter=1)  # type: ignore[call-arg]
    except UserError as error:
        refusal = str(error)
    assert "no_such_parameter" in refusal, "an unknown parameter was accepted, or the error does not name it"
    for item in dataclasses.fields(plugin):
        try:
            setattr(plugin, item.name, getattr(plugin, item.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"parameter '{item.name}' can be written")


def check_import_is_free_of_torch(plugin: Plugin, case: Case) -> None:
    """Importing the plugin's module does not import torch, so that commands answer at once."""
    module = sys.modules[type(plugin).__module__]
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.find_spec({module.__name__!r})\n"
        f"spec = spec or importlib.util.spec_from_file_location('plugin_under_check', {module.__file__!r})\n"
        "module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"importing {module.__name__} imports torch, or fails: {done.stderr}"


CHECKS: tuple[Check, ...] = (
    check_neutral_is_identity,
    check_unet_is_restored,
    check_unet_is_restored_after_an_exception,
    check_dtype_and_device_are_kept,
    check_batch_equals_single,
    check_is_repeatable,
    check_global_state_is_untouched,
    check_unknown_parameters_are_refused,
    check_import_is_free_of_torch,
)


def _draw(plugin: Plugin | None, case: Case, **options: Any) -> Result:
    plugins: dict[str, Any] = {"conditioners": case.conditioners, "guidance": ()}
    if plugin is not None:
        plugins["conditioners" if plugin.kind == "conditioner" else "guidance"] += (plugin,)
    return case.pipeline().generate(case.scene, **plugins, **{"steps": STEPS, "seeds": (0,), **options})


def _fingerprint(case: Case) -> tuple[str, dict[str, Tensor], list[int], Tensor]:
    pipeline = case.pipeline()
    modules: tuple[nn.Module, ...] = (pipeline.unet, pipeline.text.model, pipeline.vae)
    state = {
        f"{i}.{name}": tensor.clone()
        for i, m in enumerate(modules)
        for name, tensor in m.state_dict().items()
    }
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for m in modules for part in m.modules()]
    return "\n".join(map(repr, modules)), state, hooks, _draw(None, case).latents


def _compare(before: tuple[str, dict[str, Tensor], list[int], Tensor], after: Any) -> None:
    assert before[0] == after[0], "the model's representation changed"
    assert before[1].keys() == after[1].keys(), "the model's parameters have other names"
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in before[1].items()), (
        "a parameter was written"
    )
    assert before[2] == after[2], "hooks are left on the model"
    assert torch.equal(before[3], after[3]), "the model's output changed"


def _global_state() -> tuple[Any, ...]:
    numpy = np.random.get_state(legacy=False)
    return (
        torch.get_rng_state().tolist(),
        str(numpy),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )
