"""Running the forward pass in a compiled form, with the plain form to fall back on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..api.attention_maps import AttentionKind, Grid, Look
from ..api.guidance import Step
from .conditions import Conditions

Captured: TypeAlias = tuple[AttentionKind, str, Grid, Tensor]
"""Which attention, the block's path, its feature map's size, the probabilities."""

Prediction: TypeAlias = tuple[Tensor | None, list[Captured]]
"""What was predicted, and what was captured."""

logger = logging.getLogger(__name__)


class Compiled:
    """Compiles the forward pass with `torch.compile` when it is first called with conditions of a new make.

    The first call under every Conditions object runs plain: it makes the keys and values that later steps share, and so
    they are inputs of the compiled form and no part of it. Weight deltas make other layers of the UNet's, for which all
    would be compiled anew, and map edits are told the step, which it would hold fast; such calls run plain. So does
    everything after a compilation that failed. Each is logged once.

    Args:
        backend: of `torch.compile`.
        mode: of `torch.compile`; "reduce-overhead" replays CUDA graphs.
    """

    def __init__(self, backend: str = "inductor", mode: str | None = None) -> None:
        self._backend, self._mode = backend, mode
        self._form: Callable[..., Prediction] | None = None
        self._logged: set[str] = set()
        self.failed = False

    def __call__(
        self,
        plain: Callable[..., Prediction],
        latents: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        look: Look,
        step: Step | None,
    ) -> Prediction:
        """The function's result for these arguments, compiled or plain."""
        if conditions.deltas:
            self._log("weight deltas make other layers, for which it would be compiled anew")
        if conditions.edits:
            self._log("map edits are told the step, which a compiled UNet would hold fast")
        if self.failed or conditions.deltas or conditions.edits or not conditions.started:
            return plain(latents, timestep, conditions, look, step)
        try:
            if self._form is None:
                self._form = torch.compile(
                    plain, backend=self._backend, mode=self._mode, fullgraph=True, dynamic=False
                )
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return self._form(latents, timestep, conditions, look, None)
        except (
            Exception
        ) as error:  # compilers fail in any way; an error of the forward pass itself is raised again below
            self.failed = True
            self._log(
                f"compiling failed ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]})"
            )
            return plain(latents, timestep, conditions, look, step)

    def _log(self, reason: str) -> None:
        if reason not in self._logged:
            self._logged.add(reason)
            logger.warning("running the UNet plain: %s", reason)
