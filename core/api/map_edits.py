"""Port 3, block: edits of attention maps, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from ..scene.scene import Scene
from .attention_maps import AttentionKind, Site
from .guidance import Step
from .ports import Entry
from .text_encoder import PromptTokens


@dataclass(frozen=True)
class MapRows:
    """What the rows of some attention maps are: one of a batch's samples each, in one branch.

    Args:
        samples: of every row, its sample's number in the batch.
        scenes: of every row, its sample's scene; empty outside a generation.
        texts: of every row, the tokens that its branch reads; empty outside a generation.
        sets: rows of one branch that belong together: those of a scene's companions (`Plugin.companions`), in the
            plugin's order, and last the scene's own; every row is in one set, most often alone.
    """

    samples: tuple[int, ...] = ()
    scenes: tuple[Scene, ...] = ()
    texts: tuple[PromptTokens, ...] = ()
    sets: tuple[tuple[int, ...], ...] = ()

    def only(self, rows: Sequence[int]) -> MapRows:
        """These rows alone, by their new numbers."""
        numbers = {row: number for number, row in enumerate(rows)}
        parts = [tuple(numbers[row] for row in one if row in numbers) for one in self.sets]
        return MapRows(
            samples=tuple(self.samples[row] for row in rows),
            scenes=tuple(self.scenes[row] for row in rows if self.scenes),
            texts=tuple(self.texts[row] for row in rows if self.texts),
            sets=tuple(part for part in parts if part),
        )


@dataclass(frozen=True)
class MapCall:
    """One call of a map edit's function, at one layer of one step.

    Args:
        site: the transformer block.
        attention: which of its attentions.
        rows: what each row of the probabilities is.
        step: where the sampler is; None outside a generation.
    """

    site: Site
    attention: AttentionKind
    rows: MapRows
    step: Step | None


MapFunction: TypeAlias = Callable[[Tensor, MapCall], Tensor]
"""(probabilities (rows, heads, positions, tokens or positions), what they are of) -> new ones of the same shape."""


@dataclass(frozen=True, eq=False)
class MapEdit(Entry):
    """A function of attention probabilities; its result is blended with them by the strength.

    The function is called with all rows of the batch that have the edit, in their order. `MapCall.rows` says which
    branch and sample each is; a row may read another one of its set, such as the source of an edit.

    Args:
        function: what is done; entries of the same function object, attention and paths are one call.
        attention: "cross", to the text, or "self", of the feature map's positions to each other.
        paths: the transformer blocks where it is done; None is all.

    In a region, the probabilities of its positions are changed.
    """

    function: MapFunction
    attention: AttentionKind = "cross"
    paths: frozenset[str] | None = None
