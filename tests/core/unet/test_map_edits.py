"""Edits of attention maps: of either attention, in the layers they name, and told what they are called on."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

from weft.core.api.attention_maps import MapRecorder
from weft.core.api.branches import Branch
from weft.core.api.guidance import Step
from weft.core.api.map_edits import MapCall, MapEdit, MapRows
from weft.core.families.blocks import cross_attention_paths
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.testing import random_unet

TIMESTEP = torch.tensor(501)
STEP = Step(3, 10, 501.0, Branch())
MIDDLE = "mid_block.attentions.0.transformer_blocks.0"
FIRST = "down_blocks.0.attentions.0.transformer_blocks.0"


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def inputs(rows: int = 2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 4, 8, 8, generator=generator), torch.randn(rows, 11, 32, generator=generator)


def forward(unet, contributions, recorder=None, share=None):
    latents, context = inputs(len(contributions))
    conditions = gather(list(context), contributions)
    return UNetForward(unet, share=share)(latents, TIMESTEP, conditions, recorder, STEP)


def identity(maps: torch.Tensor, call: MapCall) -> torch.Tensor:
    return torch.eye(maps.shape[-1]).to(maps).expand_as(maps)


@pytest.mark.parametrize("path", [MIDDLE, FIRST])
def test_an_identity_map_equals_diffusers_processor(path: str) -> None:
    unet = random_unet().double()
    latents, context = (one.double() for one in inputs())
    entry = MapEdit(identity, "self", frozenset({path}))
    plain, edited = (
        UNetForward(unet)(latents, TIMESTEP, gather(list(context), [(), one])) for one in ((), (entry,))
    )
    unet.get_submodule(f"{path}.attn1").processor = PAGIdentitySelfAttnProcessor2_0()
    expected = unet(torch.cat([latents[1:]] * 2), TIMESTEP, torch.cat([context[1:]] * 2)).sample[1:]
    assert torch.allclose(edited[1:], expected, rtol=0, atol=1e-12)
    assert (edited[1] - plain[1]).abs().max() > 1e-4
    assert torch.equal(edited[0], plain[0])


@pytest.mark.parametrize("attention", ["cross", "self"])
def test_an_edit_is_called_at_its_layers_with_its_rows(attention: str) -> None:
    calls: list[tuple[tuple[int, ...], MapCall]] = []

    def look(maps: torch.Tensor, call: MapCall) -> torch.Tensor:
        calls.append((tuple(maps.shape), call))
        return maps

    unet = random_unet()
    entry = MapEdit(look, attention, frozenset({MIDDLE, FIRST}))
    changed = forward(unet, [(), (entry,), (entry,)])
    assert torch.allclose(changed, forward(unet, [()] * 3), atol=1e-5)
    (_, first), (shape, middle) = calls
    assert (first.site.path, first.site.grid) == (FIRST, (8, 8))
    assert (middle.site.path, middle.site.grid) == (MIDDLE, (2, 2))
    assert shape == (2, 4, 4, 11 if attention == "cross" else 4)
    assert middle.attention == attention
    assert middle.step == STEP
    assert middle.rows.samples == (1, 2)
    assert middle.rows.sets == ((0,), (1,))
    calls.clear()
    forward(unet, [(MapEdit(look, attention),)])
    assert [call.site.path for _, call in calls] == list(cross_attention_paths(unet))


def test_edits_of_one_layer_follow_each_other_in_their_own_rows() -> None:
    unet = random_unet()
    halve = MapEdit(lambda maps, call: 0.5 * maps, "self", strength=0.5)
    more = MapEdit(lambda maps, call: maps + 1.0, "self", frozenset({MIDDLE}))
    both = MapEdit(lambda maps, call: 0.75 * maps + (1.0 if call.site.path == MIDDLE else 0.0), "self")
    together = forward(unet, [(halve,), (more,), (halve, more)])
    alone = forward(unet, [(halve,), (more,), (both,)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (together[2] - forward(unet, [()] * 3)[2]).abs().max() > 1e-4


def test_recording_self_attention_changes_no_bit() -> None:
    unet = random_unet()
    paths = frozenset(cross_attention_paths(unet))
    recorder = MapRecorder(self_paths=paths, self_rows=slice(1, 2))
    plain = forward(unet, [()] * 2)
    assert torch.equal(forward(unet, [()] * 2, recorder), plain)
    assert not recorder.probabilities
    assert {site.path for site in recorder.self_probabilities} == paths
    for site, maps in recorder.self_probabilities.items():
        positions = site.grid[0] * site.grid[1]
        assert maps.shape == (1, 4, positions, positions)
        assert torch.allclose(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_a_recorded_self_attention_map_is_what_diffusers_computes() -> None:
    unet = random_unet()
    recorder = MapRecorder(self_paths=frozenset({MIDDLE}))
    forward(unet, [()] * 2, recorder)
    layer = unet.get_submodule(f"{MIDDLE}.attn1")
    scores = []

    def keep(module, arguments, keywords) -> None:
        hidden = arguments[0]
        query, key = (module.head_to_batch_dim(project(hidden)) for project in (module.to_q, module.to_k))
        scores.append(module.get_attention_scores(query, key).unflatten(0, (2, -1)))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    latents, context = inputs()
    unet(latents, TIMESTEP, context)
    handle.remove()
    (maps,) = recorder.self_probabilities.values()
    assert torch.allclose(maps, scores[0], atol=1e-6)


def test_a_pass_may_stop_after_the_last_self_attention_map() -> None:
    recorder = MapRecorder(self_paths=frozenset({FIRST}), stop=True)
    assert forward(random_unet(), [()], recorder) is None
    assert recorder.done


@pytest.mark.parametrize("what", ["edit", "record"])
def test_rows_that_are_shared_part_where_an_edit_or_a_capture_wants_them(what: str) -> None:
    unet = random_unet()
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(4, 11, 32, generator=generator)
    entries = (MapEdit(identity, "self", frozenset({FIRST})),) if what == "edit" else ()
    conditions = [gather(list(context), [(), (), entries, entries]) for _ in range(2)]
    recorders = [
        MapRecorder(self_paths=frozenset({FIRST}), self_rows=slice(2, 4)) if what == "record" else None
        for _ in range(2)
    ]
    shared, apart = (
        UNetForward(unet, share=share)(latents, TIMESTEP, conditions[share], recorders[share])
        for share in (True, False)
    )
    assert torch.allclose(shared, apart, atol=1e-5)
    if what == "record":
        first, second = (next(iter(one.self_probabilities.values())) for one in recorders)
        assert torch.allclose(first, second, atol=1e-6)


def test_the_rows_of_a_set_are_those_that_have_the_edit() -> None:
    rows = MapRows((0, 1, 2, 0, 1, 2), sets=((0, 2), (1,), (3, 5), (4,)))
    assert rows.only((2, 3, 5)).sets == ((0,), (1, 2))
    assert rows.only((2, 3, 5)).samples == (2, 0, 2)
