from collections.abc import Callable

import pytest
import weft
from weft.plugin import Plugin, Scene, Subject, parametrize_with_checks, random_pipeline

from attention_centre import AttentionCentre

SCENE = Scene("a toy on grass", subjects=(Subject("toy"),))


@parametrize_with_checks([AttentionCentre(at=(0.9, 0.1))])
def test_contract(plugin: Plugin, check: Callable[[Plugin], None]) -> None:
    check(plugin)


def test_the_energy_falls() -> None:
    """At the last step, before its own update, with large steps against next to none."""

    def last(scale: float) -> float:
        centre = AttentionCentre(at=(0.9, 0.1), scale=scale)
        trace = random_pipeline().generate(SCENE, guidance=[centre], steps=3).trace
        return trace[-1].descents[0].losses[0][0]

    assert last(300.0) < last(1e-6)


def test_a_phrase_that_the_scene_has_not_is_refused() -> None:
    with pytest.raises(weft.UserError, match="boat"):
        random_pipeline().generate(SCENE, guidance=[AttentionCentre(phrase="boat")], steps=1)
