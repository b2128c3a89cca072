"""The judge reads what the world draws."""

import hashlib

import pytest
import torch

from weft.zoo import judge, world
from weft.zoo.judge.evaluate import Rate, detection_rates, matched, recognition, tensor
from weft.zoo.judge.masks import mask_means, mean
from weft.zoo.judge.model import HERE, overlap
from weft.zoo.judge.pictures import distort, labelled, labels
from weft.zoo.judge.train import SegmenterTask

PICTURES = [world.sample(seed, "held_out") for seed in range(50_000, 50_100)]
WITH_A_SUBJECT = [p for p in PICTURES if any(thing.subject is not None for thing in p.objects)][:4]
TRUTH = torch.stack([labels(p) for p in WITH_A_SUBJECT]).long()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return tensor(PICTURES)


@pytest.fixture(scope="module")
def readings(images: torch.Tensor) -> list[judge.Reading]:
    return judge.read(images)


def test_weights_are_the_pinned_ones() -> None:
    lines = (HERE / "SHA256SUMS").read_text().split("\n")
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}
    assert set(sums) == {"detector.safetensors", "identity.safetensors", "segmenter.safetensors"}
    for name, digest in sums.items():
        assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == digest
        assert (HERE / name).stat().st_size < (500_000 if name.startswith("segmenter") else 1_500_000)


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


def test_labels_the_pixels_of_held_out_renders(images: torch.Tensor) -> None:
    seen = judge.segment(images)
    assert seen.shape == (len(PICTURES), 64, 64)
    assert seen.dtype == torch.int64
    clean = mask_means(PICTURES, seen)
    assert clean["pixel: background or its noun right"].share >= 0.97
    assert clean["object: IoU of its mask, mean"].share >= 0.9
    assert clean["object: share of its pixels found, mean"].share >= 0.93
    assert clean["subject: IoU of its mask, mean"].share >= 0.85
    rough = mask_means(PICTURES, judge.segment(distort(images, torch.Generator().manual_seed(3))))
    assert rough["object: IoU of its mask, mean"].share >= 0.85


def test_labels_of_larger_pictures_are_those_of_64_pixels() -> None:
    large = (
        torch.stack([torch.from_numpy(p.image(128)).permute(2, 0, 1) for p in PICTURES[:20]]).float() / 255
    )
    seen = judge.segment(large)
    assert seen.shape == (20, 64, 64)
    assert mask_means(PICTURES[:20], seen)["object: IoU of its mask, mean"].share >= 0.85


def test_labels_depend_on_nothing_but_the_picture(images: torch.Tensor) -> None:
    state = torch.get_rng_state()
    together = judge.segment(images[:8])
    assert (judge.segment(images[3:4])[0] != together[3]).float().mean() < 1e-3
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_background_has_no_pixel_of_an_object() -> None:
    empty = tensor([world.Picture(background, (), seed=7) for background in world.BACKGROUNDS])
    assert (judge.segment(empty) > 0).float().mean() <= 0.005


def test_labels_are_the_visible_pixels_of_every_noun() -> None:
    for picture in PICTURES[:20]:
        shown = labels(picture)
        assert torch.equal(shown > 0, torch.from_numpy(picture.masks(64)).any(0))
        nouns = {thing.noun for thing in picture.objects}
        assert {world.NOUNS[label - 1] for label in shown.unique().tolist() if label} == nouns
    alone = world.sample(1, "held_out", count=1)
    rows, columns = torch.where(labels(alone) == 1 + world.NOUNS.index(alone.objects[0].noun))
    found = (columns.min() / 64, rows.min() / 64, (columns.max() + 1) / 64, (rows.max() + 1) / 64)
    assert [side.item() for side in found] == pytest.approx(alone.objects[0].box)


def test_means_of_masks_on_known_labels() -> None:
    pictures, truth = WITH_A_SUBJECT, TRUTH
    assert {m.share for m in mask_means(pictures, truth).values()} == {1.0}
    nothing = mask_means(pictures, torch.zeros_like(truth))
    assert nothing["pixel: background or its noun right"].share == pytest.approx((truth == 0).double().mean())
    assert nothing["object: share of its pixels found, mean"].share == 0
    everywhere = torch.zeros_like(truth)
    for shown, picture in zip(everywhere, pictures, strict=True):
        shown += 1 + world.NOUNS.index(picture.objects[0].noun)
    found = mask_means(pictures, everywhere)
    areas = [p.masks(64)[0].mean() for p in pictures]
    assert found["object: IoU of its mask, mean"].share * sum(
        len(p.objects) for p in pictures
    ) == pytest.approx(sum(areas), rel=1e-6)


def test_two_objects_of_one_noun_are_measured_apart() -> None:
    wanted = [("ball", color, None, box, None) for color, box in
              (("red", (0.1, 0.1, 0.4, 0.4)), ("blue", (0.5, 0.5, 0.9, 0.9)))]  # fmt: skip
    pictures = [world.compose("snow", wanted, seed) for seed in (0, 1)]
    seen = torch.stack([labels(p) for p in pictures]).long()
    seen[:, 30:] = 0  # the second of each is missed, and nothing is wrong about the first
    found = mask_means([*pictures, *WITH_A_SUBJECT], torch.cat([seen, TRUTH]))
    count = 4 + sum(len(p.objects) for p in WITH_A_SUBJECT)
    assert found["object: IoU of its mask, mean"].share == pytest.approx((count - 2) / count)


def test_interval_of_a_mean_counts_pictures_not_objects() -> None:
    values = torch.tensor([0.2, 0.9, 0.4, 0.7])
    apart = mean(values, torch.arange(4))
    half = 1.959964 * values.std().item() / 2
    assert apart.interval == pytest.approx((0.55 - half, 0.55 + half))
    twice = mean(values.repeat(2), torch.arange(4).repeat(2))
    assert twice.n == 8
    assert twice.interval == pytest.approx(apart.interval)
    assert mean(torch.tensor([1.0, 0.9]), torch.tensor([5, 7])).interval[1] == 1
    assert mean(values, torch.zeros(4).long()).interval == (0, 1)
    assert mean(torch.zeros(0), torch.zeros(0).long()).n == 0
    empty = [world.Picture("sand", (), seed=3)]
    assert mask_means(empty, torch.zeros(1, 64, 64).long())["object: IoU of its mask, mean"].n == 0


def test_the_segmenter_learns() -> None:
    torch.manual_seed(0)
    task = SegmenterTask(labelled(range(4), "train", subjects=0.4), batch_size=2)
    optimizer = torch.optim.AdamW(task.model.parameters(), 1e-2)
    losses = []
    for step in range(12):
        loss = task.losses(step, torch.Generator().manual_seed(step), torch.device("cpu"))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_refuses_other_shapes() -> None:
    for reads in (judge.read, judge.segment):
        with pytest.raises(ValueError, match="64"):
            reads(torch.zeros(1, 3, 96, 96))
        with pytest.raises(ValueError, match="64"):
            reads(torch.zeros(3, 64, 64))


def test_matches_each_object_once() -> None:
    thing = PICTURES[0].objects[0]
    seen = judge.Seen(thing.noun, "red", "plain", thing.box, 0.9)
    assert matched([thing, thing], [seen]).count(seen) == 1
    left, top, right, bottom = thing.box
    assert overlap(thing.box, (left, top, (left + right) / 2, bottom)) == pytest.approx(0.5)
    assert matched([thing], [judge.Seen("ball", "red", "plain", (0.0, 0.0, 0.01, 0.01), 0.9)]) == [None]


def test_a_rate_reads_as_its_share_and_interval() -> None:
    assert str(Rate(8, 10)) == "80.00 % | 10 | 49.02 to 94.33"
