"""subject_adapter: its tokens and nulls, boxes and images, and what it refuses."""

from __future__ import annotations

import io

import pytest
import torch
from helpers import port_plugins
from helpers import subject_models as models
from PIL import Image
from torch.nn import functional as F

import weft
from weft.core.api.branches import Branch
from weft.core.api.ports import BlockInsert
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.core.unet.conditions import Conditions, gather
from weft.core.unet.forward import UNetForward
from weft.core.unet.group import Group
from weft.plugins.conditioners.subject_adapter.networks import SubjectAdapterNetworks
from weft.plugins.shared.gated_attention import fourier_features
from weft.testing import Case, parametrize_with_checks, random_unet

BOX = (0.25, 0.5, 0.75, 1.0)
PICTURE = models.picture(0)
FULL = Branch.full(["subject_adapter"])
NULL = FULL.without("subject_adapter")


def scene(**subject) -> weft.Scene:
    return weft.Scene("a toy on grass", [weft.Subject("toy", **{"images": [PICTURE], **subject})])


def several(count: int) -> weft.Scene:
    words = ["toy", "star", "car", "boat"][:count]
    subjects = [weft.Subject(word, images=[models.picture(i)]) for i, word in enumerate(words)]
    return weft.Scene(" and ".join(words), subjects)


def draw(*conditioners, of: weft.Scene | None = None, **options) -> torch.Tensor:
    options = {"seeds": [0], "steps": 1, "guidance": [weft.ClassifierFree(3.0)], **options}
    return models.pipeline().generate(of or scene(box=BOX), conditioners, **options).latents


def prepared(of: weft.Scene, **fields) -> PreparedScene:
    model = models.pipeline().view((32, 32))
    return PreparedScene(of, model, {"subject_adapter": weft.SubjectAdapter(**fields)})


def tokens_of(of: weft.Scene, branch: Branch = FULL, **fields) -> torch.Tensor:
    (entry,) = prepared(of, **fields).row(branch).contribution
    assert isinstance(entry, BlockInsert)
    return entry.state


@parametrize_with_checks(
    [weft.SubjectAdapter(), weft.SubjectAdapter(use_box=False, strength=0.5)],
    Case(pipeline=models.pipeline, scene=scene(box=BOX)),
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_tokens_are_the_papers() -> None:
    """MLP([v, Fourier(l)]) with the released layer norm, the box's features at every patch."""
    networks = models.adapter_networks(places=2)
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(1, 2, 5, models.PATCH_WIDTH, generator=generator)
    boxes = torch.tensor([[BOX, (0.0, 0.0, 0.5, 0.5)]])
    got = networks.tokens(patches, boxes, torch.ones(1, 2, dtype=torch.bool))
    norm, first, _, second = networks.projection
    for subject in range(2):
        for patch in range(5):
            joined = torch.cat([patches[0, subject, patch], fourier_features(boxes[0, subject])])
            expected = second(F.gelu(first(norm(joined))))
            assert torch.allclose(got[0, 5 * subject + patch], expected, atol=1e-5)


def test_nulls_stand_for_what_is_not_known() -> None:
    """And nothing is read of an unknown subject's features, not even a number that is none."""
    networks = models.adapter_networks(places=3)
    patches, boxes = torch.full((1, 3, 5, models.PATCH_WIDTH), torch.nan), torch.full((1, 3, 4), torch.nan)
    patches[:, 0], boxes[:, 0] = 1.0, 0.5
    known, boxed = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    got = networks.tokens(patches, boxes, known, boxed)[0]
    for place in (1, 2):
        null = torch.cat([networks.null_image_feature, networks.null_position_feature[place]])
        assert torch.allclose(got[5 * place : 5 * place + 5], networks.projection(null), atol=1e-5)
    assert torch.equal(got, networks.tokens(patches[:, :1], boxes[:, :1], known[:, :1])[0])
    unboxed = networks.tokens(patches[:, :1], boxes[:, :1], known[:, :1], ~known[:, :1])[0]
    position = torch.cat([patches[0, 0, 0], networks.null_position_feature[0]])
    assert torch.allclose(unboxed[:5], networks.projection(position), atol=1e-5)


def test_the_absent_form_is_the_learned_nulls() -> None:
    networks = models.adapter_networks()
    blank = torch.zeros(1, 3, models.PATCHES, models.PATCH_WIDTH), torch.zeros(1, 3, 4)
    expected = networks.tokens(*blank, torch.zeros(1, 3, dtype=torch.bool))[0]
    null = tokens_of(scene(box=BOX), NULL)
    assert torch.equal(null, expected)
    assert torch.equal(null, tokens_of(several(2), NULL))
    assert tokens_of(scene(box=BOX)).shape == null.shape == (3 * models.PATCHES, 24)
    assert not torch.allclose(tokens_of(scene(box=BOX))[: models.PATCHES], null[: models.PATCHES])


def test_boxes_and_the_boxes_of_masks() -> None:
    masked = scene(mask=models.bright((8, 16, 24, 32)))
    boxed, unboxed = tokens_of(scene(box=BOX)), tokens_of(scene())
    assert torch.equal(tokens_of(masked), boxed)
    assert torch.equal(tokens_of(scene(box=BOX), use_box=False), unboxed)
    assert torch.equal(tokens_of(masked, use_box=False), unboxed)
    assert not torch.allclose(boxed, unboxed, atol=1e-3)


def test_the_first_picture_of_a_subject_is_read() -> None:
    other = models.picture(7)
    assert torch.equal(tokens_of(scene(images=[PICTURE, other])), tokens_of(scene()))
    assert not torch.allclose(tokens_of(scene(images=[other, PICTURE])), tokens_of(scene()), atol=1e-3)


def test_subjects_without_pictures_take_no_place() -> None:
    subjects = [weft.Subject("grass", box=(0.0, 0.0, 1.0, 0.5)), weft.Subject("toy", images=[PICTURE])]
    assert torch.equal(tokens_of(weft.Scene("a toy on grass", subjects)), tokens_of(scene()))


def test_fresh_networks_change_no_bit(tmp_path) -> None:
    made = SubjectAdapterNetworks.create(random_unet(), models.PATCH_WIDTH, 24, 0.5)
    path = models.write(made, tmp_path / "adapter.safetensors")
    assert torch.equal(draw(weft.SubjectAdapter(weights=path)), draw())


@pytest.mark.parametrize(("ff_ratio", "places"), [(4.0, 2), (0.5, 4)])
def test_sizes_follow_from_a_file(ff_ratio, places) -> None:
    unet = random_unet()
    made = SubjectAdapterNetworks.create(unet, models.PATCH_WIDTH, 40, ff_ratio, places)
    read = SubjectAdapterNetworks.from_tensors(made.state_dict(), unet, models.PATCH_WIDTH)
    assert read.places == places
    assert read.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in read.state_dict().items())


def test_gradients_reach_every_tensor_from_a_batch() -> None:
    unet, networks = random_unet().requires_grad_(False), models.adapter_networks()
    patches, boxes = torch.randn(2, 3, 5, models.PATCH_WIDTH), torch.rand(2, 3, 4)
    known = torch.tensor([[True, True, False], [False, False, False]])
    state = networks.tokens(patches, boxes, known)
    assert torch.allclose(state[:1], networks.tokens(patches[:1], boxes[:1], known[:1]), atol=1e-5)
    inserts = (Group(BlockInsert(networks.block_modules, state[0]), None, state, torch.ones(2)),)
    latents, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 32)
    predicted = UNetForward(unet)(latents, torch.tensor(500), Conditions(context, inserts=inserts))
    predicted.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in networks.parameters())


def test_rows_of_two_scenes_share_one_call() -> None:
    rows = [prepared(of).row(branch) for of in (scene(box=BOX), several(2)) for branch in (NULL, FULL)]
    conditions = gather([row.context for row in rows], [row.contribution for row in rows])
    (group,) = conditions.inserts
    assert group.rows is None
    assert group.state.shape[0] == 4


@pytest.mark.parametrize("other", port_plugins.ALL, ids=lambda cls: cls.name)
def test_beside_other_plugins_in_either_order(other) -> None:
    ours = weft.SubjectAdapter()
    first, last = draw(ours, other()), draw(other(), ours)
    # two modules of one block run one after the other, so only these depend on the order
    assert torch.allclose(first, last, atol=1e-3) or other.name == "fuser"
    assert torch.isfinite(last).all()
    assert not torch.allclose(first, draw(other()), atol=1e-3)
    assert not torch.allclose(first, draw(ours), atol=1e-6)
    assert torch.equal(draw(weft.SubjectAdapter(strength=0.0), other()), draw(other()))


def test_off_outside_its_window() -> None:
    late = draw(weft.SubjectAdapter(), steps=2, guidance=[weft.Delayed("subject_adapter", (1.0, 1.0))])
    assert torch.equal(late, draw(steps=2, guidance=[]))


def test_a_scene_without_pictures_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"subject_adapter, scene 'a toy.*reference images, found none"):
        draw(weft.SubjectAdapter(), of=scene(images=[]))


def test_more_subjects_than_places_are_refused() -> None:
    assert torch.isfinite(draw(weft.SubjectAdapter(), of=several(3))).all()
    with pytest.raises(weft.UserError, match=r"subject 'boat', field 'images'.*at most 3 subject.*found 4"):
        draw(weft.SubjectAdapter(), of=several(4))


def test_pictures_that_cannot_be_read_are_refused(tmp_path) -> None:
    place = r"subject 'toy', field 'images': expected "
    with pytest.raises(weft.UserError, match=place + "a file that exists"):
        draw(weft.SubjectAdapter(), of=scene(images=[tmp_path / "nothing.png"]))
    encoded = io.BytesIO()
    PICTURE.save(encoded, "PNG")
    (tmp_path / "cut.png").write_bytes(encoded.getvalue()[:600])
    with pytest.raises(weft.UserError, match=place + "a whole image"):
        draw(weft.SubjectAdapter(), of=scene(images=[tmp_path / "cut.png"]))
    Image.new("1", (8000, 5000)).save(tmp_path / "large.png")
    with pytest.raises(weft.UserError, match=place + "at most 32 megapixels, found 8000 x 5000"):
        draw(weft.SubjectAdapter(), of=scene(images=[tmp_path / "large.png"]))


def test_masks_that_say_nothing_are_refused() -> None:
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'mask': expected a place that covers"):
        draw(weft.SubjectAdapter(), of=scene(mask=models.bright((0, 0, 0, 0))))
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'mask'.*32 x 32 pixels, found 16 x 16"):
        draw(weft.SubjectAdapter(), of=scene(mask=models.bright((0, 0, 9, 9), (16, 16))))


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    def drawn_with(unet, width: int) -> None:
        made = SubjectAdapterNetworks.create(unet, width, 24, 0.5)
        draw(weft.SubjectAdapter(weights=models.write(made, tmp_path / f"{width}.safetensors")))

    with pytest.raises(
        weft.UserError, match=r"subject_adapter.*tensor 'null_image_feature'.*\(32,\), found \(48,\)"
    ):
        drawn_with(random_unet(), 48)
    wider = random_unet(block_out_channels=(48, 64, 64))
    with pytest.raises(weft.UserError, match=r"'adapter\.down_blocks\.0.*\(32.*found \(48"):
        drawn_with(wider, models.PATCH_WIDTH)
    with pytest.raises(weft.UserError, match=r"nothing\.safetensors.*a file that exists"):
        draw(weft.SubjectAdapter(weights=tmp_path / "nothing.safetensors"))
