"""keep_source: what it keeps, what it leaves free, what it refuses, and the plugin contract."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import weft
from weft.plugins.shared.edited_source import editable
from weft.testing import Case, parametrize_with_checks, random_pipeline

SOURCE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
RIGHT = (0.5, 0.0, 1.0, 1.0)
SCENE = weft.Scene("a toy on grass", [weft.Subject("toy", box=RIGHT)], source=SOURCE)


@parametrize_with_checks([weft.KeepSource(), weft.KeepSource(0.7, finish=False)], Case(scene=SCENE))
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "pndm", "unipc"])
def test_the_kept_part_is_the_source_and_the_rest_is_not(scheduler: str) -> None:
    pipeline = random_pipeline()
    source = pipeline.view((32, 32)).source_latents(SCENE)
    options = {"steps": 3, "guidance": [weft.KeepSource()], "scheduler": scheduler, "seeds": [0, 1]}
    for latents in pipeline.generate(SCENE, **options).latents:
        assert torch.equal(latents[..., :4], source[..., :4])
        assert not torch.allclose(latents[..., 4:], source[..., 4:], atol=0.1)


def test_what_may_change() -> None:
    model = random_pipeline().view((32, 48))
    mask = Image.new("L", (48, 32))
    mask.paste(255, (0, 0, 6, 16))
    both = weft.Scene("a toy", [weft.Subject("toy", box=RIGHT)], source=SOURCE, edit_mask=mask)
    by_mask = torch.zeros(8, 12)
    by_mask[:4, :2] = 1.0  # the second column is half bright
    assert torch.equal(editable(both, model), by_mask)
    boxed = weft.Scene("a toy", [weft.Subject("toy", box=(0.1, 0.1, 0.14, 0.5))])
    by_box = torch.zeros(8, 12)
    by_box[0:4, 1] = 1.0
    assert torch.equal(editable(boxed, model), by_box)


def test_refusals() -> None:
    def draw(scene) -> None:
        random_pipeline().generate(scene, guidance=["keep_source"], steps=1)

    with pytest.raises(weft.UserError, match=r"keep_source, scene 'a toy', field 'source'.*found none"):
        draw(weft.Scene("a toy"))
    with pytest.raises(weft.UserError, match=r"'edit_mask'.*a box or a mask, found none"):
        draw(weft.Scene("a toy", source=SOURCE))
    with pytest.raises(weft.UserError, match=r"'source'.*32 x 32 pixels, found 40 x 32"):
        draw(weft.Scene("a toy", [weft.Subject("toy", box=RIGHT)], source=SOURCE.resize((40, 32))))
