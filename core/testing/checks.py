"""The contract of conditioners and guidance strategies, one check a clause.

A plugin's test file runs them all::

    @weft.testing.parametrize_with_checks([MyConditioner(), MyStrategy(scale=2.0)])
    def test_contract(plugin, check):
        check(plugin)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..api.plugin import Plugin
from . import declaration, drawing, reading, routing, traces
from .case import Case, Check

CHECKS: tuple[Check, ...] = (
    declaration.check_can_be_registered,
    declaration.check_is_documented,
    declaration.check_survives_a_run_file,
    declaration.check_survives_copying,
    declaration.check_unknown_parameters_are_refused,
    declaration.check_wrong_values_are_refused,
    declaration.check_import_is_free_of_torch,
    drawing.check_neutral_is_identity,
    drawing.check_chains_with_guidance,
    drawing.check_batch_equals_single,
    drawing.check_scenes_are_kept_apart,
    drawing.check_exact_mode_is_exact,
    drawing.check_is_repeatable,
    drawing.check_other_scenes_leave_no_trace,
    routing.check_schedule_is_kept,
    routing.check_region_is_kept,
    routing.check_null_is_stated,
    routing.check_scenes_share_modules,
    reading.check_scene_fields_are_declared,
    drawing.check_dtype_and_device_are_kept,
    drawing.check_half_precision_works,
    drawing.check_other_sizes_work,
    drawing.check_every_scheduler_works,
    drawing.check_bare_scene_is_drawn_or_refused,
    traces.check_unet_is_restored,
    traces.check_unet_is_restored_after_an_exception,
    traces.check_inputs_are_not_written,
    traces.check_nothing_is_kept,
    traces.check_global_state_is_untouched,
    traces.check_nothing_is_written_or_sent,
)


def parametrize_with_checks(plugins: Sequence[Plugin], case: Case | None = None) -> Any:
    """A pytest decorator: the test is called with every (plugin, check) pair.

    Args:
        plugins: instances, each with parameters at which it has an effect.
        case: the model and the scene to use, when the default ones do not suit.
    """
    import pytest

    chosen = case or Case()

    def bound(check: Check) -> Callable[[Plugin], None]:
        return lambda plugin: check(plugin, chosen)

    pairs = [
        pytest.param(plugin, bound(check), id=f"{plugin.name}-{check.__name__.removeprefix('check_')}")
        for plugin in plugins
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("plugin", "check"), pairs)
