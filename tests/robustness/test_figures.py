"""A slice of every script of `benchmarks/robustness`: what the full size claims must hold here too."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "robustness"


@pytest.fixture
def script(request, monkeypatch) -> ModuleType:
    """The script of this name, imported as it is when it is run."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(request.param)


def scripts(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("script", [name], indirect=True)


@scripts("mutated_yaml")
def test_mutated_run_files_are_refused_or_read(script) -> None:
    found = script.run(300, seed=1)
    assert found["unhandled"] == 0, found["first"]
    assert found["valid"] > 0
    assert found["refused"] > 200


@scripts("scheduler_configs")
def test_mutated_scheduler_configurations_mean_what_they_mean_in_diffusers(script) -> None:
    found = script.run(208, seed=1)
    assert found["different"] == 0, found["first"]
    assert found["same"] > 170


@scripts("wrong_run_files")
def test_hand_made_mistakes_are_told_where_they_are(script) -> None:
    found = script.run()
    assert found["files"] >= 150
    assert found["wrong"] == []  # each at its place, and each with a hint


@scripts("mutated_images")
def test_mutated_pictures_are_refused_or_opened(script) -> None:
    found = script.run(200, seed=1)
    assert found["unhandled"] == 0, found["first"]
    assert found["crafted_and_accepted"] == []
    assert found["opened"] > 10
    assert found["crafted"] >= 18


@scripts("odd_images")
def test_one_shape_and_one_photo_mean_the_same_everywhere(script) -> None:
    found = script.run()
    assert found["attempts"] > 400
    assert found["read"] > 300
    assert found["silently_different"] == 0, found["first"]
    assert found["unhandled"] == 0, found["first"]


@scripts("users_files")
def test_users_files_are_loaded_or_named(script) -> None:
    found = script.run(every=4)
    assert found["attempts"] > 15
    assert found["silently_different"] == 0, found["first"]
    assert found["unhandled"] == 0, found["first"]


@scripts("hostile_provenance")
def test_hostile_provenance_breaks_nothing(script) -> None:
    found = script.run(40, seed=1)
    assert found["folders"] == 40
    assert found["unhandled"] == 0, found["first"]
    assert found["slowest_seconds"] < script.SECONDS


@scripts("mutated_safetensors")
def test_mutated_weights_are_refused_or_read(script) -> None:
    found = script.run(500, seed=1)
    assert found["unhandled"] == 0, found["first"]
    assert found["crafted_and_accepted"] == []
    assert found["filled"] > 0
    assert found["crafted"] >= 40


@scripts("hostile_artefacts")
def test_hostile_artefacts_run_nothing(script) -> None:
    assert len(script.cases()) >= 30
    names = [name for number, name in enumerate(script.cases()) if number % 3 == 0]
    found = script.run(names)
    assert found["executed"] == 0, found["first"]
    assert found["unhandled"] == 0, found["first"]
    assert found["loaded_and_should_not"] == []


@scripts("hostile_artefacts")
def test_the_audit_hook_would_see_them(script, tmp_path) -> None:
    import os
    import pickle

    watch = script.Watch()
    watch.folder, watch.on = tmp_path, True
    try:
        pickle.loads(pickle.dumps(script.Touch(tmp_path / "canary")))
        os.open(tmp_path / "written", os.O_CREAT | os.O_WRONLY)
    finally:
        watch.on = False
    events = {one.split(" ")[0] for one in watch.seen}
    assert {"pickle.find_class", "os.system", "open"} <= events
    assert (tmp_path / "canary").exists()


@scripts("kills")
def test_kills_leave_whole_files_and_resume(script) -> None:
    found = script.run(8)
    assert found["killed"] == 8
    assert found["corrupt"] == []
    assert found["other_after_resuming"] == []


@scripts("faults")
def test_faults_are_named_and_leave_the_model_as_it_was(script) -> None:
    found = script.run(every=9)
    assert found["faults"] >= 10
    assert found["first"] == []


@scripts("faults")
def test_there_are_a_hundred_faults(script, tmp_path) -> None:
    assert len(list(script.attempts(tmp_path))) >= 100


@scripts("determinism")
def test_exact_mode_is_exact(script) -> None:
    found = script.run((1, 3), ("euler_ancestral",), ("attend_and_excite",), steps=2)
    assert found["images_compared"] == 12  # every slot of every batch, alone and beside another scene
    assert found["exact_bytes_differing"] == 0
    assert found["exact_pictures_differing"] == 0
    assert found["normal_largest_difference"] <= script.TOLERANCE


@scripts("memory")
def test_memory_is_flat(script) -> None:
    found = script.run(24)
    assert found["images"] == 24
    assert found["growth_percent"] < 3  # few images are within the noise of allocators
