"""The contract of plugins: every check finds the failure that it is there for, and refuses nothing that is sound."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from PIL import Image

from weft import Scene, Subject
from weft.core.testing import CHECKS
from weft.testing import Case, random_pipeline

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks" / "robustness"))
broken = importlib.import_module("broken_plugins")

SAID = {
    "can_be_registered": "'Spaced Name' is not lower case",
    "is_documented": "nothing says what the parameter 'power' is for",
    "survives_a_run_file": "a frozenset cannot be written in a run file",
    "survives_copying": "it cannot be pickled",
    "unknown_parameters_are_refused": "is the class decorated with @weft.record?",
    "wrong_values_are_refused": "'power' may be <object object",
    "import_is_free_of_torch": "importing broken_import imports torch",
    "neutral_is_identity": "the neutral plugin changes the latents",
    "chains_with_guidance": "the neutral plugin after classifier-free guidance changes the latents",
    "batch_equals_single": "seed 3 in a batch differs",
    "scenes_are_kept_apart": "scene 2 of a batch differs",
    "exact_mode_is_exact": "an image depends on those before it",
    "is_repeatable": "the same call again gives other latents",
    "other_scenes_leave_no_trace": "another scene in between changes the image",
    "schedule_is_kept": "with a schedule of 0 it changes the latents",
    "region_is_kept": "it acts outside its region",
    "null_is_stated": "its null lacks the weight deltas of its present form",
    "scenes_share_modules": "two scenes make",
    "scene_fields_are_declared": "it reads subjects.box, which is not in its 'scene_fields'",
    "dtype_and_device_are_kept": "latents are torch.float64",
    "half_precision_works": "a model in bfloat16 does not work",
    "other_sizes_work": "64 x 32 pixels cannot be drawn",
    "every_scheduler_works": "ddim, 1 step\\(s\\): .*division by zero",
    "bare_scene_is_drawn_or_refused": "is a PluginError, not a UserError",
    "unet_is_restored": "hooks are left on the model",
    "unet_is_restored_after_an_exception": "gradients changed",
    "inputs_are_not_written": "the scene was written",
    "nothing_is_kept": "tensors are kept from generation to generation",
    "global_state_is_untouched": "a global state changed: torch's random state$",
    "nothing_is_written_or_sent": "'/dev/null' was opened for writing",
}


def name(check) -> str:
    return check.__name__.removeprefix("check_")


@pytest.fixture
def fresh():
    """Models that a broken plugin may harm."""
    random_pipeline.cache_clear()
    yield
    random_pipeline.cache_clear()


def test_there_is_a_broken_plugin_for_every_check() -> None:
    assert len(CHECKS) == 30
    assert broken.BROKEN.keys() == SAID.keys() == {name(check) for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_every_check_catches_what_it_is_there_for(check, fresh) -> None:
    with pytest.raises(AssertionError, match=SAID[name(check)]):
        check(broken.BROKEN[name(check)](), Case())


@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_a_sound_plugin_is_not_refused(check) -> None:
    check(broken.Nudge(), Case())


def test_the_other_scene_has_the_boxes_elsewhere() -> None:
    case = Case()
    assert case.scene.subjects[0].box == (0.25, 0.25, 0.75, 1.0)
    assert case.other_scene.subjects[0].box == (0.125, 0.125, 0.375, 0.5)
    assert case.other_scene.prompt == "a toy on grass at night"


def test_the_other_scene_has_other_maps_and_images() -> None:
    half, plain = Image.new("RGB", (4, 2), "black"), Image.new("RGB", (4, 2), "navy")
    half.paste("white", (0, 0, 2, 2))
    toy = Subject("toy", images=(half,), mask=half.convert("L"))
    case = Case(scene=Scene("a toy", subjects=(toy,), maps={"edges": plain}, source=half))
    other = case.other_scene
    for turned in (other.source, other.subjects[0].images[0], other.subjects[0].mask):
        assert isinstance(turned, Image.Image)
        assert [turned.convert("L").getpixel((x, 0)) for x in (0, 3)] == [0, 255]
    assert isinstance(other.maps["edges"], Image.Image)
    assert other.maps["edges"].getpixel((0, 0)) == (255, 255, 127)
    assert case.scene.source is half


def test_a_plugin_that_declares_nothing_is_asked_nothing() -> None:
    check = next(check for check in CHECKS if name(check) == "scene_fields_are_declared")
    check(broken.NeedsASubject(), Case())
