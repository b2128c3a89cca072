"""The page about kernels: its example runs, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

PAGE = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()


def test_the_examples_run_and_give_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert names["out"].shape == (2, 4096, 8, 40)
    assert names["maps"].shape == (1, 8, 4096, 77)
    assert names["toy"].shape == (1, 8, 4096)
    assert bool((names["toy"] > 0).all())
    changed = (names["changed"] != names["base"]).any(dim=-1)
    assert torch.equal(changed[0], names["left"])
    assert not changed[1].any()


def test_all_operators_are_on_the_page_and_registered() -> None:
    import weft.kernels.combine
    import weft.kernels.cross_attention
    import weft.kernels.low_rank  # noqa: F401

    named = set(re.findall(r"torch\.ops\.weft\.(\w+)", PAGE))
    assert named == {"cross_attention", "combine_and_step", "low_rank"}
    assert all(hasattr(torch.ops.weft, name) for name in named)
