"""Do all built-in plugins keep the contract, and does it catch plugins that do not?

The built-in ones are checked by their own tests, which know a model and a scene that suit each; this script runs those
and counts. The broken ones are here.

    python benchmarks/robustness/plugin_contract.py     # minutes
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from figures import keep
from pydantic import Field
from torch import Tensor

from weft.core.branches import LinearForm
from weft.core.conditioner import Conditioner, Fixed, Prepared
from weft.core.guidance import Guidance, LatentEdit, Step
from weft.core.plugin import Plugin
from weft.core.ports import ContextTokens
from weft.core.records import record
from weft.core.registry import registry
from weft.core.testing import CHECKS, Case

ROOT = Path(__file__).resolve().parents[2]


@record
class WritesTheModel(Conditioner):
    """Broken: adds to a parameter of the UNet."""

    name: ClassVar[str] = "writes_the_model"

    def prepare(self, scene: Any, host: Any) -> Prepared:
        host.unet.conv_in.bias.data.add_(0.01)
        return Fixed((ContextTokens(host.text.encode(host.text.tokens("two boats"))),))


@record
class LeavesAHook(Conditioner):
    """Broken: registers a hook and does not remove it."""

    name: ClassVar[str] = "leaves_a_hook"

    def prepare(self, scene: Any, host: Any) -> Prepared:
        host.unet.conv_out.register_forward_hook(lambda module, inputs, output: output)
        return Fixed((ContextTokens(host.text.encode(host.text.tokens("two boats"))),))


@record
class IsNotNeutral(Guidance):
    """Broken: scales the prediction at its neutral parameters too."""

    name: ClassVar[str] = "is_not_neutral"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}

    scale: Annotated[float, Field(description="of the prediction")] = 2.0

    def combine(self, guided: Tensor, values: Any, step: Step) -> Tensor:
        return guided * (self.scale + 1e-3)


@record
class ReadsGlobalNoise(LatentEdit):
    """Broken: draws noise from the global generator, so a batch is not its single images and nothing repeats."""

    name: ClassVar[str] = "reads_global_noise"
    neutral: ClassVar[Mapping[str, Any]] = {"amount": 0.0}

    amount: Annotated[float, Field(description="of noise")] = 0.1

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount * torch.randn_like(latents) if self.amount else latents


@record
class LooksAtNeighbours(LatentEdit):
    """Broken: moves every sample to the mean of the batch."""

    name: ClassVar[str] = "looks_at_neighbours"
    neutral: ClassVar[Mapping[str, Any]] = {"amount": 0.0}

    amount: Annotated[float, Field(description="towards the mean")] = 0.5

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        mean = latents.mean(dim=0, keepdim=True)
        return latents + self.amount * (mean - latents) + self.amount * 0.01 * latents


@record
class Forgets(Guidance):
    """Broken: counts its calls in a place of the class, so the second run is another one."""

    name: ClassVar[str] = "forgets"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}
    calls: ClassVar[list[int]] = []

    scale: Annotated[float, Field(description="of the null branch")] = 1.5

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        self.calls.append(0)
        scale = 1.0 + (self.scale - 1.0) * len(self.calls)
        return scale * form + (1.0 - scale) * LinearForm.of(form.null())


BROKEN: tuple[type[Plugin], ...] = (
    WritesTheModel,
    LeavesAHook,
    IsNotNeutral,
    ReadsGlobalNoise,
    LooksAtNeighbours,
    Forgets,
)


def catch(plugins: tuple[type[Plugin], ...] = BROKEN) -> dict[str, list[str]]:
    """The checks that refuse each broken plugin; every check has a model of its own, as a broken plugin may harm it."""
    from weft.core.testing.model import random_pipeline

    caught = {}
    for plugin in plugins:
        found = []
        for check in CHECKS:
            random_pipeline.cache_clear()
            try:
                check(plugin(), Case())
            except AssertionError:
                found.append(check.__name__.removeprefix("check_"))
            except Exception as error:
                found.append(f"{check.__name__.removeprefix('check_')} ({type(error).__name__})")
        caught[plugin.name] = found
    random_pipeline.cache_clear()
    return caught


def built_in() -> dict[str, Any]:
    """How many checks of built-in plugins passed, by their own tests."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "contract",
            "tests/plugins",
            f"--junit-xml={report}",
        ]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, env=None)
        cases = list(xml.parse(report).iter("testcase"))
    failed = [case.get("name", "") for case in cases if len(case) and case[0].tag in ("failure", "error")]
    names = {case.get("name", "").partition("[")[2].partition("-")[0] for case in cases}
    known = {item.name for item in registry().plugins()}
    return {
        "checks": len(CHECKS),
        "plugins": len(names & known),
        "plugins_without_a_contract_test": sorted(known - names),
        "passed": len(cases) - len(failed),
        "failed": failed,
    }


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {**built_in(), "broken": catch()}
    holds = (
        not found["failed"] and not found["plugins_without_a_contract_test"] and all(found["broken"].values())
    )
    bar = f"{len(CHECKS)} checks x every built-in plugin, and {len(BROKEN)} broken plugins all caught"
    keep("plugin_contract", bar, holds, found)


if __name__ == "__main__":
    main()
