"""The judge reads what the world draws."""

import hashlib

import pytest
import torch

from weft.zoo import judge, world
from weft.zoo.judge.evaluate import Rate, detection_rates, matched, recognition, tensor
from weft.zoo.judge.model import HERE, overlap
from weft.zoo.judge.pictures import distort

PICTURES = [world.sample(seed, "held_out") for seed in range(50_000, 50_100)]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return tensor(PICTURES)


@pytest.fixture(scope="module")
def readings(images: torch.Tensor) -> list[judge.Reading]:
    return judge.read(images)


def test_weights_are_the_pinned_ones() -> None:
    lines = (HERE / "SHA256SUMS").read_text().split("\n")
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}
    assert set(sums) == {"detector.safetensors", "identity.safetensors"}
    for name, digest in sums.items():
        assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == digest
        assert (HERE / name).stat().st_size < 1_500_000


def test_reads_held_out_renders(readings: list[judge.Reading]) -> None:
    rates = detection_rates(PICTURES, readings)
    assert rates["object: noun and colour right at IoU >= 0.5"].share >= 0.95
    assert rates["object: pattern right at IoU >= 0.5"].share >= 0.95
    assert rates["subject: noun right at IoU >= 0.5"].share >= 0.95
    assert rates["picture: background right"].share >= 0.95
    assert rates["picture: something seen that is not there"].share <= 0.05


def test_reads_rough_renders(images: torch.Tensor) -> None:
    rough = distort(images, torch.Generator().manual_seed(3))
    assert (
        detection_rates(PICTURES, judge.read(rough))["object: noun and colour right at IoU >= 0.5"].share
        >= 0.9
    )


def test_reads_larger_pictures(readings: list[judge.Reading]) -> None:
    large = (
        torch.stack([torch.from_numpy(p.image(128)).permute(2, 0, 1) for p in PICTURES[:20]]).float() / 255
    )
    rates = detection_rates(PICTURES[:20], judge.read(large))
    assert rates["object: noun and colour right at IoU >= 0.5"].share >= 0.9


def test_reading_depends_on_nothing_but_the_picture(
    images: torch.Tensor, readings: list[judge.Reading]
) -> None:
    state = torch.get_rng_state()
    assert judge.read(images) == readings
    alone = judge.read(images[:1])[0]
    assert [(s.noun, s.color, s.pattern) for s in alone.objects] == [
        (s.noun, s.color, s.pattern) for s in readings[0].objects
    ]
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_background_has_no_object() -> None:
    empty = tensor([world.Picture(background, (), seed=7) for background in world.BACKGROUNDS])
    found = judge.read(empty)
    assert sum(len(reading.objects) for reading in found) <= 1
    assert [reading.background for reading in found] == list(world.BACKGROUNDS)


def test_recognises_held_out_subjects() -> None:
    assert recognition(judge.load(), subjects=50, each=2).share >= 0.9


def test_identity_is_a_unit_vector_per_box(images: torch.Tensor) -> None:
    boxes = torch.tensor([p.objects[0].box for p in PICTURES[:6]])
    found = judge.identity(images[:6], boxes)
    assert found.shape[0] == 6
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    with pytest.raises(ValueError, match="one box"):
        judge.identity(images[:6], boxes[:5])


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="64"):
        judge.read(torch.zeros(1, 3, 96, 96))
    with pytest.raises(ValueError, match="64"):
        judge.read(torch.zeros(3, 64, 64))


def test_matches_each_object_once() -> None:
    thing = PICTURES[0].objects[0]
    seen = judge.Seen(thing.noun, "red", "plain", thing.box, 0.9)
    assert matched([thing, thing], [seen]).count(seen) == 1
    left, top, right, bottom = thing.box
    assert overlap(thing.box, (left, top, (left + right) / 2, bottom)) == pytest.approx(0.5)
    assert matched([thing], [judge.Seen("ball", "red", "plain", (0.0, 0.0, 0.01, 0.01), 0.9)]) == [None]


def test_interval_is_wilsons() -> None:
    # 8 of 10 from Brown, Cai and DasGupta, Statistical Science 16, 2001, eq. 4
    assert Rate(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Rate(10, 10).interval[1] == pytest.approx(1.0)
