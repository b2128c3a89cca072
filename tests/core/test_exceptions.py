"""An exception anywhere in a generation leaves the UNet, the text encoder and the VAE as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import diffusers
import pytest
import torch
from helpers import port_plugins
from torch import nn

import weft
from weft.core import pipeline
from weft.core.api import ports
from weft.core.api.conditioner import Fixed
from weft.core.api.guidance import LatentEdit
from weft.core.api.map_edits import MapCall, MapEdit
from weft.core.sampling import scheduler_step as stepper
from weft.core.unet import conditions
from weft.core.unet import weight_deltas as deltas
from weft.testing import random_pipeline

SCENE = weft.Scene(
    "a toy and a red star on grass",
    [weft.Subject("toy", box=(0.0, 0.0, 0.5, 1.0)), weft.Subject("star", box=(0.5, 0.0, 1.0, 1.0))],
)


class Boom(RuntimeError):
    """What is raised, and nothing else would be."""


@weft.record
class Still(LatentEdit):
    """Edits nothing."""

    name: ClassVar[str] = "still"
    neutral: ClassVar = {}

    def edit(self, latents, step):
        return latents


@weft.record
class Projected(weft.Conditioner):
    """Port 2: extra context tokens with projections of their own at one block."""

    name: ClassVar[str] = "projected"

    def prepare(self, scene, model):
        path = "up_blocks.1.attentions.0.transformer_blocks.0"
        inner = model.unet.get_submodule(path).attn2.to_q.out_features
        with torch.random.fork_rng():
            torch.manual_seed(3)
            pair = tuple(Projection(model.text.width, inner, bias=False).requires_grad_(False) for _ in "kv")
        tokens = torch.ones(2, model.text.width)
        return Fixed((ports.ContextTokens(tokens, {path: pair}),))


class Projection(nn.Linear):
    """A class of its own, to raise in."""


CONDITIONERS = [plugin() for plugin in port_plugins.ALL] + [Projected()]
GUIDANCE = [
    weft.AttendAndExcite(100.0, thresholds={0: 1.0, 1: 1.0}, updates=2),
    weft.Layout(100.0, threshold=0.0, updates=1),
    Still(),
    weft.ClassifierFree(7.5, rescale=0.5),
]


def generate(**options: Any) -> weft.Result:
    return random_pipeline().generate(
        SCENE, CONDITIONERS, GUIDANCE, **{"steps": 2, "seeds": [0, 1], "batch_size": 1, **options}
    )


def models() -> dict[str, nn.Module]:
    pipe = random_pipeline()
    return {"unet": pipe.unet, "text_encoder": pipe.text.model, "vae": pipe.vae}


@torch.no_grad()
def state() -> dict[str, Any]:
    """All that an exception could leave behind; tensors apart."""
    found: dict[str, Any] = {}
    for name, model in models().items():
        found[f"{name}: repr"] = repr(model)
        found[f"{name}: flags"] = [(p.requires_grad, p.grad is None, p._version) for p in model.parameters()]
        for path, module in model.named_modules():
            hooks = {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
            found[f"{name}.{path}"] = (hooks, sorted(vars(module)), module.training)
            if hasattr(module, "processor"):
                found[f"{name}.{path}.processor"] = id(module.processor)
    found["global"] = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state().tolist()
    return found


@torch.no_grad()
def outputs() -> dict[str, torch.Tensor]:
    """Parameters, and what each model makes of fixed inputs."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    unet, text, vae = models().values()
    context = text(torch.arange(77)[None])[0]
    found = {"text_encoder": context, "vae": vae.decode(noise).sample}
    found["unet"] = unet(noise, 500, encoder_hidden_states=context).sample
    for name, model in models().items():
        found |= {f"{name}.{path}": p.clone() for path, p in model.named_parameters()}
    return found


class Trap:
    """Stands in for a function: raises at one of the calls that are made in one gradient mode."""

    def __init__(
        self, function: Callable[..., Any], at: int, grad: bool | None, error: BaseException
    ) -> None:
        self.function, self.left, self.grad, self.error = function, at, grad, error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.grad is None or torch.is_grad_enabled() == self.grad:
            self.left -= 1
            if self.left == 0:
                raise self.error
        return self.function(*args, **kwargs)


def set_trap(monkeypatch, owner: Any, name: str, at: int, grad: bool | None, error: BaseException) -> Trap:
    trap = Trap(getattr(owner, name), at, grad, error)
    if isinstance(owner, type):
        # a plain function, so that it is bound to the object it is called on
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: trap(*args, **kwargs))
    else:
        monkeypatch.setattr(owner, name, trap)
    return trap


def assert_unharmed(
    monkeypatch, owner: Any, name: str, at: int = 1, grad: bool | None = None, **options
) -> None:
    """Break a generation off at a place; then everything is as before, and the next generation too."""
    error = options.pop("error", Boom("here"))
    before, given = state(), outputs()
    with monkeypatch.context() as patch:
        trap = set_trap(patch, owner, name, at, grad, error)
        with pytest.raises((weft.WeftError, type(error))) as caught:
            generate(**options)
    assert trap.left == 0, "the place was not reached"
    assert error in (caught.value, caught.value.__cause__)
    assert state() == before
    for key, value in outputs().items():
        assert torch.equal(value, given[key]), f"{key} changed"


@pytest.fixture(scope="module")
def whole() -> torch.Tensor:
    return generate(steps=1, seeds=[0]).latents


@pytest.fixture(autouse=True)
def same_picture(whole):
    """After every test of this file the next generation gives the same bits."""
    yield
    assert torch.equal(generate(steps=1, seeds=[0]).latents, whole)


def test_what_is_left_behind_is_seen() -> None:
    before, layer = state(), random_pipeline().unet.conv_in
    handle = layer.register_forward_pre_hook(lambda module, inputs: None)
    assert state() != before
    handle.remove()
    layer.weight.requires_grad_(True)
    assert state() != before
    layer.weight.requires_grad_(False)
    assert state() == before


def called_modules() -> list[tuple[str, str]]:
    """(path, class) of one module of every class that the forward pass calls, whatever the class is used for."""
    found: dict[str, str] = {}
    hooks = []
    unet = random_pipeline().unet
    for path, module in unet.named_modules():
        if path and not isinstance(module, nn.ModuleList):

            def note(called: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
                found[type(called).__name__] = path

            hooks.append(module.register_forward_hook(note))
    try:
        generate(steps=1, seeds=[0])
    finally:
        for hook in hooks:
            hook.remove()
    return sorted((path, name) for name, path in found.items())


def test_in_every_class_of_module_of_the_unet(monkeypatch) -> None:
    places = called_modules()
    assert {"Conv2d", "Linear", "GroupNorm", "LayerNorm", "ResnetBlock2D", "FeedForward"} <= {
        name for _, name in places
    }
    for path, _ in places:
        assert_unharmed(monkeypatch, random_pipeline().unet.get_submodule(path), "forward", 2, grad=False)


@pytest.mark.parametrize(
    "path", ["conv_in", "time_embedding", "down_blocks.0.resnets.0", "down_blocks.0.attentions.0.norm"]
)
def test_in_the_unet_while_it_is_differentiated(monkeypatch, path: str) -> None:
    unet = random_pipeline().unet
    # the first call is the step's own evaluation of the energy, the second one of a refinement update
    for at in (1, 2):
        assert_unharmed(monkeypatch, unet.get_submodule(path), "forward", at, grad=True)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ports.TokenEmbeddings, "write"),
        (ports.TextStates, "write"),
        (Projection, "forward"),
        (conditions, "resize"),
        (port_plugins.OpenFuser, "__call__"),
        (nn.Conv2d, "_conv_forward"),
        (deltas, "_output"),
        (deltas, "_layer"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_in_the_ports(monkeypatch, owner: Any, name: str) -> None:
    # the states are written once, over all of the prompt's
    for at in (1,) if owner is ports.TextStates else (1, 2):
        assert_unharmed(monkeypatch, owner, name, at)


@pytest.mark.parametrize("made", ["bump_residuals", "extra_convolution"])
def test_in_modules_that_conditioners_bring(monkeypatch, made: str) -> None:
    make, error = getattr(port_plugins, made), Boom("here")

    def trapped(unet: nn.Module) -> Any:
        module = make(unet)
        if not isinstance(module, nn.Module):
            return Trap(module, 3, None, error)
        module.forward = Trap(module.forward, 3, None, error)
        return module

    before = state()
    with monkeypatch.context() as patch:
        patch.setattr(port_plugins, made, trapped)
        with pytest.raises(weft.PluginError, match="Boom: here"):
            generate()
    assert state() == before


def test_in_a_function_of_the_maps(monkeypatch) -> None:
    def refuse(maps: torch.Tensor, call: MapCall) -> torch.Tensor:
        raise Boom("here")

    before = state()
    with monkeypatch.context() as patch:
        patch.setattr(port_plugins.MapBlur, "prepare", lambda self, scene, model: Fixed((MapEdit(refuse),)))
        with pytest.raises(weft.PluginError, match="Boom: here"):
            generate()
    assert state() == before


@pytest.mark.parametrize("name", ["prepare", "present", "absent"])
def test_in_a_conditioner(monkeypatch, name: str) -> None:
    owner = port_plugins.Bumps if name == "prepare" else Fixed
    assert_unharmed(monkeypatch, owner, name)


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        *((weft.ClassifierFree, name, 1) for name in ("check", "begin", "rewrite", "reads", "combine")),
        *((weft.ClassifierFree, name, 2) for name in ("rewrite", "reads", "combine")),
        *(
            (weft.AttendAndExcite, name, at)
            for name in ("applies", "step_size", "refinement", "map_positions")
            for at in (1, 2)
        ),
        *((weft.AttendAndExcite, "loss", at) for at in (1, 2, 3, 4)),
        *((weft.Layout, "loss", at) for at in (1, 2)),
        *((Still, "edit", at) for at in (1, 2)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_in_a_strategy(monkeypatch, owner: Any, name: str, at: int) -> None:
    assert_unharmed(monkeypatch, owner, name, at)


def test_in_the_backward_pass(monkeypatch) -> None:
    for at in (1, 2, 5):
        assert_unharmed(monkeypatch, torch.autograd, "grad", at)


@pytest.mark.parametrize(("name", "at"), [("set_timesteps", 1), ("scale_model_input", 2)])
def test_in_the_scheduler(monkeypatch, name: str, at: int) -> None:
    assert_unharmed(monkeypatch, diffusers.DDIMScheduler, name, at)


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])
def test_in_the_step_that_sums_too(monkeypatch, scheduler: str) -> None:
    assert_unharmed(monkeypatch, stepper, "combine_and_step", 2, scheduler=scheduler)


@pytest.mark.parametrize(
    ("scheduler", "owner"),
    [("pndm", diffusers.PNDMScheduler), ("unipc", diffusers.UniPCMultistepScheduler)],
)
def test_in_a_schedulers_own_step(monkeypatch, scheduler: str, owner: type) -> None:
    assert_unharmed(monkeypatch, owner, "step", 2, scheduler=scheduler)


def test_in_the_text_encoder(monkeypatch) -> None:
    model = random_pipeline().text.model
    for path in ("encoder.layers.1.self_attn", "encoder.layers.1.mlp.fc1", "final_layer_norm"):
        # the calls after the first are those of branches, with written embeddings and with deltas on the encoder
        for at in (1, 3):
            assert_unharmed(monkeypatch, model.get_submodule(path), "forward", at)


@pytest.mark.parametrize("path", ["post_quant_conv", "decoder.mid_block", "decoder.conv_out"])
def test_in_the_vae(monkeypatch, path: str) -> None:
    for at in (1, 2):  # of the first batch, and of the second
        assert_unharmed(monkeypatch, random_pipeline().vae.get_submodule(path), "forward", at)


def test_after_the_decoder(monkeypatch) -> None:
    assert_unharmed(monkeypatch, pipeline, "to_images")


class Callbacks:
    """What a caller hands over."""

    @staticmethod
    def progress(now: Any) -> None:
        return None

    @staticmethod
    def on_batch(part: weft.Result) -> None:
        return None


@pytest.mark.parametrize(("name", "calls"), [("progress", (1, 2, 3, 6)), ("on_batch", (1, 2))])
def test_in_the_callers_functions(monkeypatch, name: str, calls: tuple[int, ...]) -> None:
    for at in calls:
        callbacks = Callbacks()
        assert_unharmed(
            monkeypatch, callbacks, name, at, **{name: lambda *args, c=callbacks: getattr(c, name)(*args)}
        )


def test_by_an_interrupt(monkeypatch) -> None:
    unet = random_pipeline().unet
    layer = unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.ff")
    assert_unharmed(monkeypatch, layer, "forward", 2, grad=False, error=KeyboardInterrupt())
    assert_unharmed(monkeypatch, unet.conv_in, "forward", 2, grad=True, error=KeyboardInterrupt())
    assert_unharmed(monkeypatch, deltas, "_output", 2, error=KeyboardInterrupt())


def test_a_delta_that_does_not_fit_leaves_none_of_the_others() -> None:
    """The first delta is installed already when the second is refused."""

    @weft.record
    class Half(weft.Conditioner):
        name: ClassVar[str] = "half"

        def prepare(self, scene, model):
            fits, path = model.unet.conv_in.weight, "no.such.layer"
            return Fixed((ports.WeightDelta("conv_in", fits.clone()), ports.WeightDelta(path, fits.clone())))

    before = state()
    with pytest.raises(weft.PluginError, match=r"no\.such\.layer"):
        random_pipeline().generate(SCENE, [Half()], steps=1)
    assert state() == before
