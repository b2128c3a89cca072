"""How fast is one cross-attention layer on a GPU, beside diffusers' attention processors?

A layer is its projections and its attention, of Stable Diffusion 1.5's shapes, weights random, bfloat16; on our side
from the second step on, when the text's keys and values are there. Beside it: `AttnProcessor2_0` for the text alone,
`IPAdapterAttnProcessor2_0` with one adapter and with two, `AttendExciteAttnProcessor` where maps are captured, forward
and with the gradient of the latents' side. See `bench_helpers/gpu_timing.py` for how pairs are timed. Without a GPU
the script compares small layers on the CPU, says what is not measured, and writes nothing.

    python benchmarks/gpu_layers.py             # seconds without a GPU; minutes with one
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from bench_helpers.gpu_timing import COLD_BYTES, Pair, report
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as peer,
)
from torch import Tensor, nn

from weft.core.api.attention_maps import Look, Site
from weft.core.api.ports import ContextTokens
from weft.core.unet.attention import cross_attention
from weft.core.unet.conditions import Conditions, gather

# (side of the feature map, channels) of the four sizes
LAYERS: Final = ((64, 320), (32, 640), (16, 1280), (8, 1280))
SMALL: Final = ((8, 32), (4, 64))
HEADS: Final = 8
ROWS: Final = 3
ADAPTERS: Final = (4, 16)
PATH: Final = "block"
CAPTURED: Final = Look(frozenset({PATH}))
TARGETS: Final = {"text": 0.95, "adapters": 1.3, "maps": 1.8}


def main() -> None:
    report("gpu_layers", "Cross-attention layers on a GPU", [text_pairs, adapter_pairs, map_pairs])


class Layer:
    """One layer with its inputs, on both sides.

    Args:
        side: of the feature map, in positions.
        channels: of it.
        adapters: tokens of each image prompt.
    """

    def __init__(
        self, device: torch.device, side: int, channels: int, adapters: tuple[int, ...] = ()
    ) -> None:
        self.on_gpu = device.type == "cuda"
        kind = torch.bfloat16 if self.on_gpu else torch.float32
        width = 768 if self.on_gpu else 32
        made = Attention(channels, width, heads=HEADS, dim_head=channels // HEADS)
        self.attention = made.to(device, kind).eval().requires_grad_(False)
        self.exact = copy.deepcopy(self.attention).double()
        positions = side**2
        bytes_of_set = 2 * ROWS * positions * channels * kind.itemsize
        self.sets = max(2, int(COLD_BYTES / bytes_of_set)) if self.on_gpu else 1
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device).to(kind)

        self.hidden = [normal(ROWS, positions, channels) for _ in range(self.sets)]
        self.text = normal(ROWS, 77, width)
        self.tokens = [normal(ROWS, count, width) for count in adapters]
        self.projections: list[tuple[nn.Module, nn.Module]] = []
        for _ in adapters:
            to_k, to_v = (nn.Linear(width, channels, bias=False).to(device, kind) for _ in range(2))
            self.projections.append((to_k.requires_grad_(False), to_v.requires_grad_(False)))
        self.site = Site(PATH, (side, side))
        self.where = f"{positions} positions, {channels} channels"
        self.conditions = self._conditions()
        self.ours(0)  # makes keys and values

    def _conditions(self) -> Conditions:
        shared = [{PATH: pair} for pair in self.projections]
        rows = [
            tuple(ContextTokens(tokens[row], way) for tokens, way in zip(self.tokens, shared, strict=True))
            for row in range(ROWS)
        ]
        return gather(list(self.text), rows)

    def ours(self, number: int, look: Look = Look(), hidden: Tensor | None = None) -> Any:  # noqa: B008
        given = self.hidden[number] if hidden is None else hidden
        return cross_attention(self.attention, given, self.site, self.conditions, look)

    def theirs(self, number: int, hidden: Tensor | None = None) -> Tensor:
        given = self.hidden[number] if hidden is None else hidden
        context: Any = (self.text, self.tokens) if self.tokens else self.text
        out: Tensor = self.attention(given, encoder_hidden_states=context)
        return out

    def plain(self) -> Tensor:
        """What both are to give, in float64, by diffusers' own processors."""
        if self.tokens:
            self.exact.set_processor(self.processor(torch.float64))
        context: Any = (self.text.double(), [one.double() for one in self.tokens])
        out: Tensor = self.exact(
            self.hidden[0].double(), encoder_hidden_states=context if self.tokens else context[0]
        )
        return out

    def processor(self, kind: torch.dtype) -> nn.Module:
        """diffusers' for image prompts, with our projections."""
        channels, width = self.attention.to_q.out_features, self.text.shape[-1]
        counts = tuple(one.shape[1] for one in self.tokens)
        made = IPAdapterAttnProcessor2_0(channels, width, num_tokens=counts, scale=[1.0] * len(counts))
        for number, (to_k, to_v) in enumerate(self.projections):
            made.to_k_ip[number].load_state_dict(to_k.state_dict())
            made.to_v_ip[number].load_state_dict(to_v.state_dict())
        return made.to(self.text.device, kind).requires_grad_(False)


def sizes(device: torch.device) -> tuple[tuple[int, int], ...]:
    return LAYERS if device.type == "cuda" else SMALL


def text_pairs(device: torch.device) -> list[Pair]:
    """The text alone."""
    found = []
    for size in sizes(device):
        layer = Layer(device, *size)
        layer.attention.set_processor(AttnProcessor2_0())
        name = f"text / AttnProcessor2_0, {layer.where}"
        found.append(Pair(name, layer.ours, layer.theirs, layer.plain, layer.sets, TARGETS["text"]))
    return found


def adapter_pairs(device: torch.device) -> list[Pair]:
    """The text and one image prompt, or two."""
    found = []
    for count in range(1, len(ADAPTERS) + 1):
        for size in sizes(device):
            layer = Layer(device, *size, ADAPTERS[:count])
            layer.attention.set_processor(layer.processor(layer.text.dtype))
            name = f"text and {count} image prompt(s) / IPAdapterAttnProcessor2_0, {layer.where}"
            found.append(Pair(name, layer.ours, layer.theirs, layer.plain, layer.sets, TARGETS["adapters"]))
    return found


def map_pairs(device: torch.device) -> list[Pair]:
    """The text with its maps captured, and the gradient of a loss on them; at the sizes that methods read."""
    found = []
    for size in sizes(device)[1:3]:
        layer = Layer(device, *size)
        stores = {
            True: peer.AttentionStore((size[0], size[0])),
            False: peer.AttentionStore((size[0], size[0])),
        }
        for double, attention in ((True, layer.exact), (False, layer.attention)):
            stores[double].num_att_layers = 1
            attention.set_processor(peer.AttendExciteAttnProcessor(stores[double], "down"))

        def slope(hidden: Tensor, maps_of: Callable[[Tensor], Tensor]) -> Tensor:
            moved = hidden.detach().requires_grad_(True)
            with torch.enable_grad():
                maps = maps_of(moved)
                wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
                (gradient,) = torch.autograd.grad(wide.square().sum(), moved)
            return gradient

        def ours(i: int, layer: Layer = layer) -> Tensor:
            return slope(layer.hidden[i], lambda x: layer.ours(i, CAPTURED, x)[1].mean(dim=(0, 1)))

        def theirs(i: int, layer: Layer = layer, stores: Any = stores) -> Tensor:
            def maps_of(x: Tensor) -> Tensor:
                layer.theirs(i, x)
                return stores[False].aggregate_attention(("down",)).flatten(0, 1)

            return slope(layer.hidden[i], maps_of)

        def exact(layer: Layer = layer, stores: Any = stores) -> Tensor:
            def maps_of(x: Tensor) -> Tensor:
                layer.exact(x, encoder_hidden_states=layer.text.double())
                return stores[True].aggregate_attention(("down",)).flatten(0, 1)

            return slope(layer.hidden[0].double(), maps_of)

        name = f"maps and their gradient / AttendExciteAttnProcessor, {layer.where}"
        found.append(Pair(name, ours, theirs, exact, layer.sets, TARGETS["maps"]))
    return found


if __name__ == "__main__":
    main()
