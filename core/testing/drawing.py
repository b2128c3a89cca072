"""Checks of what a plugin draws: alone and in company, in other sizes, types and schedulers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..api.branches import LinearForm
from ..api.guidance import Guidance, Step
from ..api.plugin import Plugin
from ..api.text_encoder import TextEncoder
from ..errors import UserError
from ..scene.image_io import open_image
from ..scene.record import record
from ..scene.scene import ImageSource, Scene, SceneImage
from .case import Case, draw, draw_chain

# batch 1 and batch 3 round differently in every matrix product; random weights do not amplify it past this
BATCH_TOLERANCE = 1e-3

# one of each kind: fused, with noise, of several steps, of several calls a step
_SCHEDULERS = ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "pndm", "unipc", "heun")


@record
class _Guided(Guidance):
    """Classifier-free guidance, whichever of the built-in plugins are there."""

    name: ClassVar[str] = "guided"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}

    scale: float = 3.0

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        return self.scale * form + (1.0 - self.scale) * LinearForm.of(form.null())


def check_neutral_is_identity(plugin: Plugin, case: Case) -> None:
    """At its neutral parameters the plugin changes no bit; at the given ones it changes something."""
    without = draw(None, case)
    neutral = dataclasses.replace(plugin, **plugin.neutral)
    assert torch.equal(draw(neutral, case).latents, without.latents), "the neutral plugin changes the latents"
    assert not torch.equal(draw(plugin, case).latents, without.latents), "the plugin has no effect to check"


def check_chains_with_guidance(plugin: Plugin, case: Case) -> None:
    """Before and after classifier-free guidance it is still neutral, bit for bit, and still gives finite latents."""
    guided = _Guided()
    without = draw(guided, case).latents
    neutral = dataclasses.replace(plugin, **plugin.neutral)
    for number, pair in enumerate(([neutral, guided], [guided, neutral])):
        order = ("before", "after")[number]
        assert torch.equal(draw_chain(pair, case).latents, without), (
            f"the neutral plugin {order} classifier-free guidance changes the latents"
        )
        chain = [plugin if one is neutral else one for one in pair]
        assert _finite(draw_chain(chain, case).latents), f"{order} classifier-free guidance it is not finite"


def check_batch_equals_single(plugin: Plugin, case: Case) -> None:
    """A seed means the same image alone and in a batch."""
    together = draw(plugin, case, seeds=(3, 1, 2)).latents
    for number, seed in enumerate((3, 1, 2)):
        _near(together[number], draw(plugin, case, seeds=(seed,)).latents[0], f"seed {seed} in a batch")


def check_scenes_are_kept_apart(plugin: Plugin, case: Case) -> None:
    """Two scenes in one batch are drawn as each alone: nothing of the first is used for the second."""
    scenes = [case.scene, case.other_scene]
    together = draw(plugin, case, scenes, seeds=(5,)).latents
    for number, scene in enumerate(scenes):
        alone = draw(plugin, case, scene, seeds=(5,)).latents[0]
        _near(together[number], alone, f"scene {number + 1} of a batch")


def check_exact_mode_is_exact(plugin: Plugin, case: Case) -> None:
    """In exact mode an image is the same bit for bit whatever is drawn before it."""
    exact: dict[str, Any] = {"reproducibility": "exact", "batch_size": 3}
    together = draw(plugin, case, seeds=(3, 1, 2), **exact).latents
    alone = draw(plugin, case, seeds=(2,), **exact).latents
    assert torch.equal(together[2:], alone), "an image depends on those before it in exact mode"


def check_is_repeatable(plugin: Plugin, case: Case) -> None:
    """The same call gives the same bits: no state is left in the plugin."""
    first, second = (draw(plugin, case).latents for _ in range(2))
    assert torch.equal(first, second), "the same call again gives other latents"


def check_other_scenes_leave_no_trace(plugin: Plugin, case: Case) -> None:
    """A scene is drawn the same after another one: nothing that was worked out for one serves the next."""
    first = draw(plugin, case).latents
    draw(plugin, case, case.other_scene)
    assert torch.equal(draw(plugin, case).latents, first), "another scene in between changes the image"


def check_dtype_and_device_are_kept(plugin: Plugin, case: Case) -> None:
    """The latents stay float32 on the model's device, and a model in float64 works too."""
    pipeline = case.pipeline()
    single = draw(plugin, case).latents
    assert single.dtype == torch.float32, f"latents are {single.dtype}"
    assert single.device == pipeline.unet.device, f"latents are on {single.device}"
    double = draw(plugin, _cast(case, torch.float64)).latents
    assert _finite(double)
    assert torch.allclose(double.float(), single, atol=1e-2), "a float64 model gives another image"


def check_half_precision_works(plugin: Plugin, case: Case) -> None:
    """A model in bfloat16 works, with latents in float32: no tensor of a fixed type meets the model's."""
    try:
        half = draw(plugin, _cast(case, torch.bfloat16)).latents
    except Exception as error:
        raise AssertionError(f"a model in bfloat16 does not work: {error}") from error
    assert half.dtype == torch.float32, f"latents are {half.dtype}"
    assert _finite(half), "latents of a model in bfloat16 are not finite"


def check_other_sizes_work(plugin: Plugin, case: Case) -> None:
    """Images that are not square, and larger than the model's own, are drawn."""
    height, width = case.pipeline().size
    for size in ((height, 2 * width), (2 * height, width)):
        try:
            drawn = draw(plugin, case, _resized(case.scene, size), height=size[0], width=size[1])
        except Exception as error:
            raise AssertionError(f"{size[1]} x {size[0]} pixels cannot be drawn: {error}") from error
        assert drawn.images[0].size == (size[1], size[0])
        assert _finite(drawn.latents), f"{size[1]} x {size[0]} pixels are not finite"


def check_every_scheduler_works(plugin: Plugin, case: Case) -> None:
    """Latents stay finite and of their usual size with every kind of scheduler, also in a run of a single step."""
    for scheduler in _SCHEDULERS:
        for steps in (1, 2):
            without = draw(None, case, scheduler=scheduler, steps=steps).latents
            try:
                drawn = draw(plugin, case, scheduler=scheduler, steps=steps).latents
            except Exception as error:
                raise AssertionError(f"{scheduler}, {steps} step(s): {error}") from error
            assert _finite(drawn), f"{scheduler}, {steps} step(s): not finite"
            assert float(drawn.std()) <= 10 * float(without.std()), (
                f"{scheduler}, {steps} step(s): out of scale"
            )


def check_bare_scene_is_drawn_or_refused(plugin: Plugin, case: Case) -> None:
    """A prompt alone is drawn, or refused by a `UserError`; it is never another exception."""
    try:
        drawn = draw(plugin, case, Scene(case.scene.prompt))
    except UserError:
        return
    except Exception as error:
        raise AssertionError(
            f"a scene without subjects is a {type(error).__name__}, not a UserError that says what it lacks: {error}"
        ) from error
    assert _finite(drawn.latents), "latents of a scene without subjects are not finite"


def _cast(case: Case, dtype: torch.dtype) -> Case:
    """The case with a copy of its model in another type."""
    pipeline = case.pipeline()
    # diffusers' own `to` warns of parts that these models do not have
    modules: list[Any] = [pipeline.text.model, pipeline.unet, pipeline.vae]
    model, unet, vae = (nn.Module.to(copy.deepcopy(module), dtype) for module in modules)
    text = TextEncoder(pipeline.text.tokenizer, model)
    other = dataclasses.replace(pipeline, text=text, unet=unet, vae=vae)
    return dataclasses.replace(case, pipeline=lambda: other)


def _resized(scene: Scene, size: tuple[int, int]) -> Scene:
    """The scene with those of its images that have to be of the drawn image's (height, width) made so."""

    def fit(image: SceneImage) -> ImageSource:
        return (
            open_image(image.source, image.place).resize((size[1], size[0]))
            if image.spatial
            else image.source
        )

    return scene.map_images(fit)


def _near(actual: Tensor, wanted: Tensor, what: str) -> None:
    error = float((actual - wanted).abs().max())
    assert error <= BATCH_TOLERANCE, f"{what} differs by {error}"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
