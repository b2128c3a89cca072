"""Small tools for a plugin's networks: modules filed by the path of the layer that they serve, and low-rank deltas."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from .ports import WeightDelta


class ByPath(nn.Module):
    """Modules under dotted paths, so that their tensors are named ``<path>.<name>`` as in the UNet itself.

    Args:
        modules: by path. A path may not lead through another module of the mapping.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._paths = tuple(modules)
        for path, module in modules.items():
            parent: nn.Module = self
            *folders, leaf = path.split(".")
            for folder in folders:
                if folder not in parent._modules:
                    parent.add_module(folder, nn.Module())
                parent = parent.get_submodule(folder)
            parent.add_module(leaf, module)

    def by_path(self) -> dict[str, nn.Module]:
        """The modules as they were given."""
        return {path: self.get_submodule(path) for path in self._paths}


class LowRankPair(nn.Module):
    """``B @ A`` for one linear or convolution layer; B starts at zero (LoRA, arXiv 2106.09685, section 4.1)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, *inner = weight.shape
        self.lora_A = nn.Parameter(torch.empty(rank, *inner))
        self.lora_B = nn.Parameter(torch.zeros(out, rank, *[1] * (len(inner) - 1)))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))


class LowRank(ByPath):
    """Trainable low-rank deltas of some layers of a frozen model.

    Args:
        model: whose layers they change; it is only read.
        paths: linear and convolution layers.
        rank: at most this, one for all layers or by path; a layer whose smaller side is below it takes that side.
        target: which model it is.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Iterable[str],
        rank: int | Mapping[str, int],
        target: Literal["unet", "text_encoder"] = "unet",
    ) -> None:
        weights: dict[str, Tensor] = {path: model.get_parameter(f"{path}.weight") for path in paths}
        ranks = rank if isinstance(rank, Mapping) else dict.fromkeys(weights, rank)
        super().__init__(
            {
                path: LowRankPair(weight, min(ranks[path], *weight.shape[:2]))
                for path, weight in weights.items()
            }
        )
        self._target = target

    @classmethod
    def matching(
        cls,
        model: nn.Module,
        pattern: str,
        rank: int,
        target: Literal["unet", "text_encoder"] = "unet",
    ) -> LowRank:
        """Deltas of the layers in whose paths a regular expression is found; of none where the rank is 0."""
        return cls(model, layers(model, pattern) if rank else (), rank, target)

    @classmethod
    def like(
        cls,
        model: nn.Module,
        tensors: Mapping[str, Tensor],
        prefix: str = "",
        target: Literal["unet", "text_encoder"] = "unet",
    ) -> LowRank:
        """Deltas of the layers and ranks that tensors named ``<prefix><path>.lora_A`` have; their values are not read.

        Names that are no layer of the model are left to `weft.plugin.fill_module`, which refuses what is left over.
        """
        ranks_by_path = {
            name.removeprefix(prefix).removesuffix(".lora_A"): tensor.shape[0]
            for name, tensor in tensors.items()
            if name.startswith(prefix) and name.endswith(".lora_A") and tensor.ndim
        }
        known = set(layers(model))
        ranks = {path: rank for path, rank in ranks_by_path.items() if path in known}
        return cls(model, ranks, ranks, target)

    def deltas(self) -> tuple[WeightDelta, ...]:
        """The port entries; they hold the parameters themselves, so gradients reach them."""
        return tuple(
            WeightDelta(path, pair.lora_B, pair.lora_A, self._target)
            for path, pair in self.by_path().items()
            if isinstance(pair, LowRankPair)
        )


def layers(model: nn.Module, pattern: str = "") -> tuple[str, ...]:
    """Paths of the linear and convolution layers in which a regular expression is ranks_by_path; of all by default."""
    return tuple(
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and re.search(pattern, path)
    )
