"""The fast path: what is computed once, what it costs in exact counts, and that no number changes that may not."""

from __future__ import annotations

import logging
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers import port_plugins as plugins
from helpers.operations import Operations
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import weft
from weft.core.api.attention_maps import Look, MapRecorder, Site
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.ports import (
    BlockInsert,
    ContextTokens,
    FeatureResiduals,
    InputChannels,
    TextRegion,
    WeightDelta,
)
from weft.core.api.predictions import Predictions
from weft.core.api.schedulers import SCHEDULERS
from weft.core.families.blocks import cross_attention_paths
from weft.core.sampling.scheduler_step import Stepper, Watch
from weft.core.unet.attention import cross_attention
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.testing import random_pipeline, random_unet

# how a network of Stable Diffusion 1.5's shape is made and counted
costs = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "attend_and_excite_cost.py"))

TIMESTEP = torch.tensor(500)
FIRST = "down_blocks.0.attentions.0.transformer_blocks.0"
SCENE = weft.Scene("a toy on grass", [weft.Subject("toy")])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_of(unet: Any, path: str) -> tuple[list[int], Any]:
    """How many rows a module is given at each call."""
    seen: list[int] = []
    hook = unet.get_submodule(path).register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    return seen, hook


def contributions(unet: Any, name: str, context: torch.Tensor) -> tuple[Any, ...]:
    return {
        "nothing": (),
        "tokens and regions": (
            ContextTokens(context[0], region=torch.ones(8, 8)),
            TextRegion(torch.tensor([1, 2]), torch.eye(8)),
        ),
        "block inserts": (BlockInsert(plugins.fusers(unet, 32), torch.ones(5, 32)),),
        "residuals": (FeatureResiduals(plugins.bump_residuals(unet), torch.full((1,), 0.1)),),
        "input channels": (InputChannels(plugins.extra_convolution(unet), torch.ones(1, 8, 8)),),
        "early weights": (WeightDelta(f"{FIRST}.attn1.to_k", torch.eye(32)),),
        "late weights": (WeightDelta("conv_out", torch.full((4, 32, 3, 3), 0.01)),),
    }[name]


@pytest.mark.parametrize(
    ("name", "first", "attended"),
    [
        ("nothing", 2, 2),
        ("tokens and regions", 2, 2),
        ("block inserts", 2, 2),
        ("residuals", 2, 2),
        ("late weights", 2, 2),
        ("input channels", 6, 6),
        ("early weights", 6, 6),
    ],
)
@torch.no_grad()
def test_equal_rows_are_computed_once_until_they_part(name: str, first: int, attended: int) -> None:
    """Three branches of two samples; only the middle branch has the contribution."""
    unet = random_unet()
    latents, context = normal(2, 4, 8, 8), normal(6, 11, 32, seed=1)
    given = contributions(unet, name, context)
    rows = [(), (), given, given, (), ()]
    plain = UNetForward(unet)(latents.repeat(3, 1, 1, 1), TIMESTEP, gather(list(context), rows))
    seen, hook = rows_of(unet, "conv_in")
    queries, other = rows_of(unet, f"{FIRST}.attn1.to_q")
    shared = UNetForward(unet, share=True)(latents, TIMESTEP, gather(list(context), rows))
    hook.remove()
    other.remove()
    assert (seen, queries) == ([first], [attended])
    assert shared.shape == plain.shape
    assert torch.allclose(shared, plain, atol=1e-5)
    assert not torch.allclose(plain[:2], plain[4:], atol=1e-3)


@torch.no_grad()
def test_on_a_cpu_nothing_is_shared_unless_asked_for() -> None:
    unet = random_unet()
    latents, context = normal(2, 4, 8, 8), normal(4, 11, 32, seed=1)
    seen, hook = rows_of(unet, "conv_in")
    ours = UNetForward(unet)(latents, TIMESTEP, gather(list(context), [()] * 4))
    hook.remove()
    assert seen == [4]
    assert torch.equal(ours, unet(latents.repeat(2, 1, 1, 1), TIMESTEP, context).sample)


def test_text_keys_and_values_are_made_once_for_all_steps() -> None:
    """One product for each of key and value, layer and set of branches: no more than two a layer and branch."""
    pipe, steps = random_pipeline(), 5
    calls: Counter[str] = Counter()
    hooks = [
        module.register_forward_hook(lambda m, args, out, name=f"{path}.{part}": calls.update([name]))
        for path, layer in cross_attention_paths(pipe.unet).items()
        for part, module in (("to_k", layer.to_k), ("to_v", layer.to_v), ("to_q", layer.to_q))
    ]
    try:
        pipe.generate(SCENE, steps=steps)
    finally:
        for hook in hooks:
            hook.remove()
    layers = len(cross_attention_paths(pipe.unet))
    assert {calls[name] for name in calls if name.endswith("to_q")} == {steps}
    assert sum(calls[name] for name in calls if not name.endswith("to_q")) == 2 * layers


def test_evaluations_are_the_sum_of_the_supports() -> None:
    guidance = [weft.ClassifierFree(5.0, interval=(0.0, 0.5))]
    seen, hook = rows_of(random_pipeline().unet, "conv_out")
    try:
        result = random_pipeline().generate(SCENE, guidance=guidance, steps=6)
    finally:
        hook.remove()
    assert seen == [len(one.form.support()) for one in result.trace]
    assert seen == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("name", "theirs"), [("ddim", 14), ("euler", 14), ("dpmpp_2m", 17)])
def test_sum_and_step_are_one_operation(name: str, theirs: int) -> None:
    """Of three branches, at a step in the middle; diffusers' operations are counted beside it."""
    scheduler = (
        SCHEDULERS[name].scheduler_class(beta_schedule="scaled_linear", clip_sample=False)
        if name == "ddim"
        else SCHEDULERS[name].scheduler_class(beta_schedule="scaled_linear")
    )
    scheduler.set_timesteps(10)
    stepper, watch = Stepper(scheduler), Watch()
    branches = [Branch(prompt=text) for text in "abc"]
    form = LinearForm({branches[0]: 5.0, branches[1]: -1.0, branches[2]: -3.0})
    x = normal(1, 4, 8, 8)
    counted = []
    for index in range(3):
        predictions = Predictions({b: normal(1, 4, 8, 8, seed=i) for i, b in enumerate(branches)})
        stepper.begin(index)
        with Operations() as operations:
            x, faults = stepper.step(index, predictions, form, None, x)
            watch.add(index, form, x, faults)
        counted.append(operations.names)
    assert counted == [["combine_and_step"]] * 3

    other = SCHEDULERS[name].scheduler_class.from_config(scheduler.config)
    other.set_timesteps(10)
    for index, timestep in enumerate(other.timesteps[:3]):
        other.scale_model_input(x, timestep)
        stacked = normal(3, 4, 8, 8, seed=index)
        with Operations() as operations:
            first, second, last = stacked.chunk(3)
            guided = last + 5.0 * (first - last) - 1.0 * (second - last)
            other.step(guided, timestep, x)
    arithmetic = [one for one in operations.names if one not in ("_local_scalar_dense", "lift_fresh")]
    assert len(arithmetic) >= theirs


def test_a_layer_with_adapters_is_three_operations_on_a_gpu() -> None:
    """Fake tensors of a GPU: the query's projection, the attention, the output's projection; maps or not."""
    with FakeTensorMode(), torch.device("cuda"):
        layer = diffusers.models.attention_processor.Attention(
            320, cross_attention_dim=768, heads=8, dim_head=40, bias=False
        )
        rows = [
            (
                ContextTokens(torch.empty(4, 768)),
                ContextTokens(torch.empty(16, 768)),
            ),
            (),
            (),
        ]
        conditions = gather([torch.empty(77, 768)] * 3, rows)
        site, hidden = Site("block", (64, 64)), torch.empty(3, 4096, 320)
        looks = {False: Look(), True: Look(frozenset({"block"}), slice(0, 1))}
        for captured, look in looks.items():
            with torch.no_grad():
                cross_attention(layer, hidden, site, conditions, look)  # makes keys and values
                with Operations() as operations:
                    out, maps = cross_attention(layer, hidden, site, conditions, look)
            assert out.shape == hidden.shape
            assert (maps is not None) == captured
            assert operations.names == ["mm", "cross_attention", "addmm"]


def compiled(caplog: Any, backend: str, **options: Any) -> tuple[Any, Any, list[str]]:
    torch._dynamo.reset()
    options = {"steps": 3, "seeds": (0, 1), **options}
    plain = random_pipeline().generate(SCENE, **options)
    pipe = random_pipeline().compile(backend=backend)
    with caplog.at_level(logging.WARNING, logger="weft.core.unet.compile"):
        found = pipe.generate(SCENE, **options)
    assert pipe.compiled is not None
    lines = [record.getMessage() for record in caplog.records if record.name == "weft.core.unet.compile"]
    return plain, (found, pipe.compiled.failed), lines


def test_a_compiler_that_fails_is_logged_once_and_the_plain_form_runs(caplog) -> None:
    plain, (found, failed), lines = compiled(caplog, "no_such_backend")
    assert failed
    assert len(lines) == 1
    assert "no_such_backend" in lines[0]
    assert torch.allclose(found.latents, plain.latents, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # beside a training a process was seen to get a twentieth of a core
def test_the_walk_compiles_to_one_graph_and_gives_the_same_numbers() -> None:
    """In a process of its own, in which no shapes are checked: the checks are no part of the graph."""
    script = (
        "import torch, weft\n"
        "from weft.testing import random_pipeline\n"
        "pipe = random_pipeline()\n"
        "fast = pipe.compile(backend='aot_eager')\n"
        "given = {'scene': weft.Scene('a toy on grass'), 'steps': 3, 'guidance': [weft.ClassifierFree(2.0)]}\n"
        "plain, found = pipe.generate(**given), fast.generate(**given)\n"
        "error = float((plain.latents - found.latents).abs().max())\n"
        "graphs = torch._dynamo.utils.counters['stats']['unique_graphs']\n"
        "print(fast.compiled.failed, graphs, error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failed, graphs, error = done.stdout.split()
    assert (failed, graphs) == ("False", "1")
    assert float(error) <= 1e-5


def test_weight_deltas_run_plain_and_say_so(caplog) -> None:
    _, (_, failed), lines = compiled(caplog, "eager", conditioners=[plugins.RandomLora()])
    assert not failed
    assert lines == [
        "running the UNet plain: weight deltas make other layers, for which it would be compiled anew"
    ]


def test_latents_that_are_not_finite_name_the_first_step() -> None:
    watch, form = Watch(), LinearForm.of(Branch())
    bad = torch.tensor([[[[1.0, float("nan")]]]])
    watch.add(0, form, torch.ones(1, 1, 1, 2), None)
    with pytest.raises(weft.PluginError, match=r"step 1.*not finite"):
        watch.add(1, form, bad, None)
    # on a GPU nothing is looked at before the end
    late = Watch()
    late.add(4, form, torch.empty(1, 1, 1, 2, device="meta"), torch.tensor([[0, 0]]))
    late.add(5, form, torch.empty(1, 1, 1, 2, device="meta"), torch.tensor([[0, 3]]))
    late.add(6, form, torch.empty(1, 1, 1, 2, device="meta"), torch.tensor([[1, 0]]))
    with pytest.raises(weft.PluginError, match="step 5"):
        late.finish()


def test_recorded_maps_are_the_same_when_shared() -> None:
    unet = random_unet()
    latents, context = normal(2, 4, 8, 8), normal(4, 11, 32, seed=1)
    paths = frozenset(cross_attention_paths(unet))
    found = []
    for share in (False, True):
        recorder = MapRecorder(paths, slice(2, 4))
        with torch.no_grad():
            UNetForward(unet, share=share)(latents, TIMESTEP, gather(list(context), [()] * 4), recorder)
        found.append(recorder.probabilities)
    assert found[0].keys() == found[1].keys()
    for site, maps in found[0].items():
        assert maps.shape[0] == 2
        assert torch.allclose(found[1][site], maps, atol=1e-5)


def test_flops_of_three_branches_on_stable_diffusions_shape() -> None:
    """Counted on the meta device, from the second step on, against three calls of diffusers' own forward."""
    unet = costs["network"](torch.float16).requires_grad_(False)
    context = torch.empty(77, 768, device="meta", dtype=torch.float16)
    latents = torch.empty(1, 4, 64, 64, device="meta", dtype=torch.float16)
    forward, conditions = UNetForward(unet), gather([context] * 3, [()] * 3)
    with torch.no_grad(), costs["fused"]():
        forward(latents, TIMESTEP, conditions)
        with FlopCounterMode(display=False) as ours:
            forward(latents, TIMESTEP, conditions)
        with FlopCounterMode(display=False) as theirs:
            unet(latents, TIMESTEP, context[None])
    ratio = ours.get_total_flops() / (3 * theirs.get_total_flops())
    assert 0.9 < ratio <= 0.965


def test_a_gradient_of_attend_and_excite_keeps_little_and_stops_early() -> None:
    """The figures of `benchmarks/attend_and_excite_cost.py`, on the shape of Stable Diffusion 1.5 in float16."""
    cost = costs["ours"](torch.float16)
    assert cost.saved <= 0.36e9
    assert cost.forward <= 400e9
    assert cost.backward <= 480e9
