"""Attention probabilities: which layers to record, and what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..errors import UserError
from ..scene.scene import Scene
from .text_encoder import PromptTokens

Grid = tuple[int, int]
"""(height, width) of a feature map, in positions."""

AttentionKind: TypeAlias = Literal["cross", "self"]
"""Which of a transformer block's two attentions: to the text's tokens, or to the feature map's own positions."""


@dataclass(frozen=True)
class Site:
    """One transformer block: its path in the UNet, and its feature map's size."""

    path: str
    grid: Grid


@dataclass(frozen=True)
class Look:
    """Which probabilities to capture.

    Args:
        paths: transformer blocks, for their cross-attention.
        rows: of the batch.
        stop: leave the UNet after the last of ``paths`` and ``self_paths``, when nothing but the maps is wanted.
        self_paths: transformer blocks, for their self-attention.
        self_rows: of the batch, for these.
    """

    paths: frozenset[str] = frozenset()
    rows: slice = field(default_factory=lambda: slice(None))
    stop: bool = False
    self_paths: frozenset[str] = frozenset()
    self_rows: slice = field(default_factory=lambda: slice(None))

    def wants(self, path: str) -> bool:
        return path in self.paths

    @property
    def count(self) -> int:
        """How many layers are captured."""
        return len(self.paths) + len(self.self_paths)


@dataclass
class MapRecorder:
    """Collects the probabilities of some rows at some layers while the UNet runs, as they are before any edit.

    Args:
        paths, rows, stop, self_paths, self_rows: as in `Look`.
    """

    paths: frozenset[str] = frozenset()
    rows: slice = field(default_factory=lambda: slice(None))
    stop: bool = False
    self_paths: frozenset[str] = frozenset()
    self_rows: slice = field(default_factory=lambda: slice(None))
    probabilities: dict[Site, Float[Tensor, "s heads n t"]] = field(default_factory=dict)
    self_probabilities: dict[Site, Float[Tensor, "s heads n n"]] = field(default_factory=dict)

    @property
    def look(self) -> Look:
        return Look(self.paths, self.rows, self.stop, self.self_paths, self.self_rows)

    @property
    def done(self) -> bool:
        """Whether all of them are there and nothing else was wanted."""
        return self.stop and len(self.probabilities) + len(self.self_probabilities) == self.look.count

    def add(self, attention: AttentionKind, path: str, grid: Grid, probabilities: Tensor) -> None:
        """Keep what was captured at a layer."""
        kept = self.probabilities if attention == "cross" else self.self_probabilities
        kept[Site(path, grid)] = probabilities


@dataclass(frozen=True)
class AttentionMaps:
    """Recorded probabilities of one evaluation of one branch, as they are before any edit.

    Args:
        by_site: of cross-attention, (samples, heads, positions, tokens) for every recorded layer.
        texts: the tokens that each sample's branch read.
        scenes: each sample's scene.
        regions: for each sample, where the subject of a number should be.
        self_by_site: of self-attention, (samples, heads, positions, positions) for every recorded layer.
    """

    by_site: dict[Site, Float[Tensor, "s heads n t"]]
    texts: Sequence[PromptTokens]
    scenes: Sequence[Scene]
    regions: Sequence[Callable[[int], Float[Tensor, "_h _w"] | None]] = ()
    self_by_site: dict[Site, Float[Tensor, "s heads n n"]] = field(default_factory=dict)

    def region(self, sample: int, number: int) -> Float[Tensor, "_h _w"] | None:
        """Where the scene wants a subject, at the image's size: its mask, else its box, else None."""
        return self.regions[sample](number)

    @property
    def grids(self) -> list[Grid]:
        """The sizes that were recorded, finest first."""
        return sorted({site.grid for site in self.by_site}, reverse=True)

    def mean(self, grid: Grid) -> Float[Tensor, "s h w t"]:
        """The mean over all heads of all layers of one size.

        Raises:
            UserError: no layer of that size was recorded.
        """
        layers = [maps for site, maps in self.by_site.items() if site.grid == grid]
        if not layers:
            raise UserError("attention maps", f"a size among {self.grids}", str(grid))
        stacked = torch.cat(layers, dim=1)  # s heads n t, heads of all layers
        return rearrange(stacked.mean(dim=1), "s (h w) t -> s h w t", h=grid[0], w=grid[1])
