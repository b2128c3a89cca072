"""Samples that belong together are denoised in one batch, whatever its size, and edits find each other's rows."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import weft
from weft.core.api.registry import Registry
from weft.core.load import load
from weft.core.testing import CHECKS, Case
from weft.plugin import Batch, Fixed, LatentEdit, MapCall, MapEdit
from weft.testing import random_model, random_pipeline

SOURCE, TARGET = "a toy on grass", "a boat on grass"
SEEDS = (1, 2, 3)


def of_the_source(maps: torch.Tensor, call: MapCall) -> torch.Tensor:
    """Every row takes the maps of the first of its set."""
    changed = maps.clone()
    for first, *others in call.rows.sets:
        changed[others] = maps[first]
    return changed


@weft.record
class FromSource(weft.Conditioner):
    """Draws with the attention maps of the same scene at another prompt (Prompt-to-Prompt's replacement)."""

    name: ClassVar[str] = "from_source"

    source: str = SOURCE

    def companions(self, scene):
        return () if scene.prompt == self.source else (dataclasses.replace(scene, prompt=self.source),)

    def prepare(self, scene, model):
        return Fixed((MapEdit(of_the_source, "cross"), MapEdit(of_the_source, "self")))


def draw(pipe=None, conditioners=(), guidance=("classifier_free",), prompts=(TARGET,), **options) -> Any:
    defaults: dict[str, Any] = {"steps": 3, "seeds": SEEDS}
    scenes = [weft.Scene(prompt) for prompt in prompts]
    return (pipe or random_pipeline()).generate(scenes, conditioners, guidance, **defaults | options)


class _FromSourceProcessor:
    """The same in diffusers: of rows (null source, null target, source, target) the last takes the third's maps."""

    def __call__(self, attn, hidden, encoder_hidden_states=None, **_):
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(project(of))
            for project, of in ((attn.to_q, hidden), (attn.to_k, context), (attn.to_v, context))
        )
        maps = attn.get_attention_scores(query, key).unflatten(0, (len(hidden), -1)).clone()
        maps[3] = maps[2]
        return attn.to_out[0](attn.batch_to_head_dim(maps.flatten(0, 1) @ value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_an_edit_across_samples_is_diffusers_at_every_batch_size(folder, batch_size: int) -> None:
    pipe = load(folder, device="cpu", dtype=torch.float64)
    ours = draw(pipe, [FromSource()], [weft.ClassifierFree(5.0)], batch_size=batch_size)
    plain = draw(pipe, (), [weft.ClassifierFree(5.0)])
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.unet.set_attn_processor(_FromSourceProcessor())
    assert len(ours) == len(SEEDS)
    assert [one.scene.prompt for one in ours.samples] == [TARGET] * 3
    for number, seed in enumerate(SEEDS):
        noise = ours.latents.new_tensor(
            torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed)).numpy()
        )
        expected = theirs(
            [SOURCE, TARGET],
            latents=noise.repeat(2, 1, 1, 1),
            num_inference_steps=3,
            guidance_scale=5.0,
            output_type="latent",
        ).images[1]
        assert (ours.latents[number] - expected).abs().max() <= 1e-9
        assert (ours.latents[number] - plain.latents[number]).abs().max() > 1e-3


def test_exact_mode_draws_a_set_together() -> None:
    exact = draw(conditioners=[FromSource()], reproducibility="exact")
    alone = draw(conditioners=[FromSource()], seeds=(2,), reproducibility="exact")
    assert torch.equal(exact.latents[1], alone.latents[0])
    assert len(exact.trace) == 9


def test_a_scene_without_companions_is_untouched_beside_one_with() -> None:
    both = draw(conditioners=[FromSource()], prompts=(SOURCE, TARGET), seeds=(1,))
    plain = draw(prompts=(SOURCE,), seeds=(1,))
    assert torch.allclose(both.latents[0], plain.latents[0], atol=1e-4)
    assert [one.scene.prompt for one in both.samples] == [SOURCE, TARGET]
    assert len(both.images) == len(both.maps or ()) == 2


@weft.record
class Blend(LatentEdit):
    """Ends with the mean of the latents of a set."""

    name: ClassVar[str] = "blend"
    neutral: ClassVar[Mapping[str, Any]] = {"prompts": ()}

    prompts: tuple[str, ...] = ("two boats", "a red star")

    def companions(self, scene):
        return () if scene.prompt in self.prompts else tuple(weft.Scene(prompt) for prompt in self.prompts)

    def begin(self, batch: Batch):
        return _Blending(self.prompts, batch.sets)


@weft.record
class _Blending(LatentEdit):
    name: ClassVar[str] = "blend"
    neutral: ClassVar[Mapping[str, Any]] = {"prompts": ()}

    prompts: tuple[str, ...]
    sets: Any

    def edit(self, latents, step):
        if step.index < step.total - 1:
            return latents
        changed = latents.clone()
        for one in self.sets:
            changed[one[-1]] = latents[list(one)].mean(dim=0)
        return changed


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_strategy_reads_its_sets_beside_a_conditioners(batch_size: int) -> None:
    """Both want companions; each finds its own, and the mean is over the right ones."""
    ours = draw(conditioners=[FromSource()], guidance=[Blend()], batch_size=batch_size)
    edited = draw(conditioners=[FromSource()], guidance=[])
    # a companion has no companions of its own, so the conditioner does nothing to these
    boats, star = (draw(guidance=[], prompts=(prompt,)) for prompt in Blend().prompts)
    expected = (edited.latents + boats.latents + star.latents) / 3
    assert torch.allclose(ours.latents, expected, atol=1e-4)


def test_companions_that_fail_name_the_plugin() -> None:
    @weft.record
    class Bad(weft.Conditioner):
        name: ClassVar[str] = "bad"

        def companions(self, scene):
            raise KeyError("source")

        def prepare(self, scene, model):
            return Fixed(())

    with pytest.raises(weft.PluginError, match=r"plugin 'bad', companions: KeyError"):
        draw(conditioners=[Bad()])


@pytest.fixture
def page_plugin(tmp_path, monkeypatch):
    """The conditioner of docs/attention-maps.md."""
    page = (Path(__file__).parents[3] / "docs" / "attention-maps.md").read_text()
    (code,) = re.findall(r"```python\n# source_maps\.py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "source_maps.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("source_maps", None)
    (cls,) = importlib.import_module("source_maps").weft_plugins()
    return cls


def test_the_pages_conditioner_is_this_ones_while_it_acts(page_plugin) -> None:
    """With three steps it acts at the first three of three: 0, 1/3 and 2/3 are below 0.8."""
    ours = draw(conditioners=[FromSource()], seeds=(1,))
    assert torch.equal(draw(conditioners=[page_plugin(SOURCE)], seeds=(1,)).latents, ours.latents)
    longer = draw(conditioners=[page_plugin(SOURCE)], seeds=(1,), steps=8)
    assert not torch.equal(longer.latents, draw(conditioners=[FromSource()], seeds=(1,), steps=8).latents)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_pages_conditioner_passes_the_contract(page_plugin, check) -> None:
    check(Registry([]).add(page_plugin)("a red toy in snow"), Case())
