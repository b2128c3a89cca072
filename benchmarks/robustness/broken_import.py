"""A plugin whose module imports torch at its top, so that every command waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from weft.core.api.guidance import LatentEdit, Step
from weft.core.scene import record


@record
class ImportsTorch(LatentEdit):
    """Broken by its module alone."""

    name: ClassVar[str] = "imports_torch"
    neutral: ClassVar[Mapping[str, Any]] = {"amount": 0.0}

    amount: Annotated[float, Field(description="of ones; 0 is off")] = 0.1

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount * torch.ones_like(latents)
