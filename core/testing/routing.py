"""Checks of where, when and in which branch a conditioner acts; what guidance strategies do is not looked at here."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from ..api.branches import Branch
from ..api.conditioner import Conditioner
from ..api.plugin import Plugin
from ..api.ports import Contribution, FeatureResiduals, InputChannels, WeightDelta
from ..sampling.branch_evaluator import PreparedScene
from ..scene.region import Region
from ..unet.conditions import Conditions, gather
from .case import STEPS, Case, draw

# outside a region the text is read by an operation that adds 0 times what is inside
REGION_TOLERANCE = 1e-3


def check_schedule_is_kept(plugin: Plugin, case: Case) -> None:
    """With a schedule of 0 it is left out, bit for bit; one that is 1 at every step changes no bit."""
    if not isinstance(plugin, Conditioner):
        return
    never, without = draw(replace(plugin, schedule=0.0), case).latents, draw(None, case).latents
    # companions are drawn all the same, and a batch of another size rounds otherwise
    alone = not plugin.companions(case.scene)
    error = float((never - without).abs().max())
    assert error <= (0.0 if alone else REGION_TOLERANCE), "with a schedule of 0 it changes the latents"
    always = draw(replace(plugin, schedule={0.0: 1.0, 1.0: 1.0}), case).latents
    assert torch.equal(always, draw(plugin, case).latents), "with a schedule of ones the latents are others"
    first = draw(replace(plugin, schedule=(0.0, 1 / STEPS)), case).latents
    assert not torch.equal(first, never), "with a schedule of the first step alone it has no effect"


def check_region_is_kept(plugin: Plugin, case: Case) -> None:
    """In a region of the whole image it is as without one, bit for bit; in a region of nothing it does nothing."""
    if not isinstance(plugin, Conditioner):
        return
    height, width = case.pipeline().size
    everywhere, nowhere = (
        Region(mask=Image.new("L", (width, height), brightness)) for brightness in (255, 0)
    )
    whole = draw(replace(plugin, region=everywhere), case).latents
    assert torch.equal(whole, draw(plugin, case).latents), "a region of the whole image changes the latents"
    prepared = plugin.prepare(case.scene, case.pipeline().view((height, width)))
    if not prepared.words:  # new words are read wherever they stand
        error = draw(replace(plugin, region=nowhere), case).latents - draw(None, case).latents
        assert float(error.abs().max()) <= REGION_TOLERANCE, "it acts outside its region"


def check_null_is_stated(plugin: Plugin, case: Case) -> None:
    """A null that lacks the residuals, channels or weight deltas of the present form is meant to: ``null`` says so.

    Models that carry these in both branches, such as ControlNet, LoRA and inpainting, are quietly wrong without them.
    """
    if not isinstance(plugin, Conditioner):
        return
    prepared = plugin.prepare(case.scene, case.pipeline().view(case.pipeline().size))
    text = case.pipeline().text.tokens(case.scene.prompt)
    present, absent = tuple(prepared.present(text)), tuple(prepared.absent(text))
    if plugin.null is None:
        missing = _carried(present) - _carried(absent)
        assert not missing, (
            f"its null lacks the {', '.join(sorted(missing))} of its present form, and 'null' does not say why"
        )
    if plugin.null == "same":
        assert _values(present) == _values(absent), "its 'null' is 'same', and its absent form is another"
    if plugin.null == "none":
        assert not absent, "its 'null' is 'none', and its absent form has entries"


def check_scenes_share_modules(plugin: Plugin, case: Case) -> None:
    """Rows of two scenes are batched: what it prepares for each shares its modules, so that each runs once."""
    if not isinstance(plugin, Conditioner):
        return
    pipeline = case.pipeline()
    model, branch = pipeline.view(pipeline.size), Branch.full([plugin.name])
    rows = [
        PreparedScene(scene, model, {plugin.name: plugin}).row(branch)
        for scene in (case.scene, replace(case.scene))
    ]

    def groups(count: int) -> dict[str, int]:
        some = rows[:count]
        conditions = gather(
            [row.context for row in some], [row.contribution for row in some], [row.added for row in some]
        )
        return _groups(conditions)

    alone, together = groups(1), groups(2)
    assert together == alone, f"two scenes make {together} calls by port, and one scene makes {alone}"


def _groups(conditions: Conditions) -> dict[str, int]:
    ports = ("tokens", "regions", "inserts", "edits", "residuals", "channels", "deltas")
    return {port: len(getattr(conditions, port)) for port in ports}


def _carried(entries: Contribution) -> set[str]:
    names = {
        FeatureResiduals: "feature residuals",
        InputChannels: "input channels",
        WeightDelta: "weight deltas",
    }
    return {name for kind, name in names.items() if any(isinstance(entry, kind) for entry in entries)}


def _values(entries: Contribution) -> list[Any]:
    """What entries hold, by identity of their tensors and modules."""
    return [
        (type(entry), *(id(getattr(entry, field.name)) for field in dataclasses.fields(entry)))
        for entry in entries
    ]
