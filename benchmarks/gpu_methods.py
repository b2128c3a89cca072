"""How fast is a whole step on a GPU, beside diffusers: 2, 3 and 4 branches, image prompts, GLIGEN, Attend-and-Excite?

The UNet is Stable Diffusion 1.5's in shape, its weights random, bfloat16; a step is one evaluation of all its branches
from the second on, when the text's keys and values are there. Both sides are compiled, but for the updates of
Attend-and-Excite, which diffusers cannot compile and which run plain on both. See `bench_helpers/gpu_timing.py` for how
pairs are timed. Without a GPU the script compares small UNets on the CPU, traced and not compiled, says what is not
measured, and writes nothing.

    python benchmarks/gpu_methods.py            # a minute without a GPU; about 10 minutes with one
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from attend_and_excite_cost import loss
from bench_helpers.gpu_timing import Pair, report
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as peer,
)
from torch import Tensor, nn

from weft.core.api.attention_maps import Look
from weft.core.api.ports import BlockInsert, ContextTokens, Contribution
from weft.core.families.blocks import cross_attention_paths
from weft.core.unet.conditions import Conditions, gather
from weft.core.unet.forward import UNetForward
from weft.plugins.conditioners.grounding.networks import GroundingNetworks
from weft.testing import random_unet
from weft.zoo.models import cards

TARGET: Final = 1.05
UPDATE_TARGET: Final = 1.8
OBJECTS: Final = 30
KNOWN: Final = 2


def main() -> None:
    report(
        "gpu_methods",
        "Steps on a GPU",
        [
            *(lambda device, count=count: [branches(device, count)] for count in (2, 3, 4)),
            lambda device: [image_prompt(device)],
            lambda device: [grounded(device)],
            attend_and_excite,
        ],
    )


class Scale:
    """A UNet and what it reads: of full size on a GPU, of the tests' size on a CPU.

    Args:
        rows: branches.
        attention: diffusers' ``attention_type``.
    """

    def __init__(self, device: torch.device, rows: int, attention: str = "default") -> None:
        torch._dynamo.reset()  # it refuses to compile one function for more than eight UNets
        self.device, self.on_gpu = device, device.type == "cuda"
        self.kind = torch.bfloat16 if self.on_gpu else torch.float32
        self.unet = self._made(attention)
        self.width = int(self.unet.config["cross_attention_dim"])
        side = 64 if self.on_gpu else 16
        self.latents = self.normal(1, 4, side, side)
        self.contexts = self.normal(rows, 77, self.width, seed=1)
        self.timestep = torch.tensor(500, device=device)
        self.side = side

    def _made(self, attention: str) -> UNet2DConditionModel:
        if not self.on_gpu:
            return random_unet(attention_type=attention).requires_grad_(False)
        config = json.loads((cards()["sd15"].folder / "unet" / "config.json").read_text())
        torch.manual_seed(0)
        with torch.device(self.device):
            made = UNet2DConditionModel.from_config({**config, "attention_type": attention})
        return made.to(self.kind).eval().requires_grad_(False)

    def normal(self, *shape: int, seed: int = 0) -> Tensor:
        drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.device, self.kind)

    def compiled(self, function: Any) -> Any:
        """Compiled on a GPU; on a CPU traced as a whole, which takes no minutes."""
        backend = "inductor" if self.on_gpu else "eager"
        return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)

    def step(self, unet: UNet2DConditionModel, rows: Sequence[Contribution]) -> Callable[[int], Tensor]:
        """Our evaluation of all rows, compiled after the first."""
        forward, conditions = UNetForward(unet), gather(list(self.contexts), rows)
        forward(self.latents, self.timestep, conditions)
        form = self.compiled(forward._forward)
        return lambda i: form(self.latents, self.timestep, conditions, Look())[0]

    def their_step(
        self, unet: UNet2DConditionModel, context: Any = None, **options: Any
    ) -> Callable[[int], Tensor]:
        """diffusers' evaluation of as many rows, compiled."""
        many = self.latents.repeat(len(self.contexts), 1, 1, 1)
        given = self.contexts if context is None else context
        form = self.compiled(unet)
        return lambda i: form(many, self.timestep, given, return_dict=False, **options)[0]

    def exact(self, unet: UNet2DConditionModel, context: Any = None, **options: Any) -> Callable[[], Tensor]:
        """diffusers' evaluation in float64."""

        def evaluate() -> Tensor:
            many = self.latents.double().repeat(len(self.contexts), 1, 1, 1)
            given = self.contexts.double() if context is None else doubled(context)
            wide = copy.deepcopy(unet).double()
            return wide(many, self.timestep, given, return_dict=False, **doubled(options))[0]

        return evaluate


def doubled(value: Any) -> Any:
    """Every tensor in float64."""
    if isinstance(value, dict):
        return {key: doubled(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(doubled(one) for one in value)
    return value.double() if isinstance(value, Tensor) else value


def branches(device: torch.device, count: int) -> Pair:
    """Prompts alone."""
    scale = Scale(device, count)
    unet = scale.unet
    ours, theirs = scale.step(unet, [()] * count), scale.their_step(unet)
    return Pair(f"step of {count} branches / diffusers, compiled", ours, theirs, scale.exact(unet), 1, TARGET)


def image_prompt(device: torch.device) -> Pair:
    """The null and the full branch of an image prompt of four tokens, with a null of its own."""
    scale = Scale(device, 2)
    unet, theirs = scale.unet, copy.deepcopy(scale.unet)
    projections: dict[str, tuple[nn.Module, nn.Module]] = {}
    for path, layer in cross_attention_paths(unet).items():
        processor = IPAdapterAttnProcessor2_0(layer.to_q.out_features, scale.width, scale=[0.6])
        processor = processor.to(scale.device, scale.kind).requires_grad_(False)
        projections[path] = processor.to_k_ip[0], processor.to_v_ip[0]
        theirs.get_submodule(f"{path}.attn2").set_processor(processor)
    tokens = scale.normal(2, 4, scale.width, seed=2)
    rows = [(ContextTokens(one, projections, strength=0.6),) for one in tokens]
    context = scale.contexts, [tokens]
    return Pair(
        "step of 2 branches with an image prompt / diffusers' IP-Adapter, compiled",
        scale.step(unet, rows),
        scale.their_step(theirs, context),
        scale.exact(theirs, context),
        1,
        TARGET,
    )


def grounded(device: torch.device) -> Pair:
    """The null and the full branch of GLIGEN with two boxes, its gates open."""
    scale = Scale(device, 2, "gated")
    gated = scale.unet
    for module in gated.modules():
        if isinstance(module, GatedSelfAttentionDense):
            module.alpha_attn.fill_(1.0)
            module.alpha_dense.fill_(-0.7)
    plain = Scale(device, 2).unet
    tensors = gated.state_dict()
    plain.load_state_dict({name: tensors[name] for name in plain.state_dict()})
    networks = GroundingNetworks.from_tensors(tensors, plain)
    known = torch.zeros(2, OBJECTS, device=device, dtype=scale.kind)
    known[1, :KNOWN] = 1.0
    boxes = torch.tensor([0.0, 0.25, 0.5, 1.0], device=device, dtype=scale.kind).expand(2, OBJECTS, 4)
    phrases = scale.normal(2, OBJECTS, scale.width, seed=3)
    tokens = networks.tokens(boxes, phrases, known)
    objects = {"boxes": boxes, "positive_embeddings": phrases, "masks": known}
    return Pair(
        "step of 2 branches with boxes / diffusers' GLIGEN, compiled",
        scale.step(plain, [(BlockInsert(networks.block_modules, one),) for one in tokens]),
        scale.their_step(gated, cross_attention_kwargs={"gligen": objects}),
        scale.exact(gated, cross_attention_kwargs={"gligen": objects}),
        1,
        TARGET,
    )


def attend_and_excite(device: torch.device) -> list[Pair]:
    """The update of one sample's latents, and the same with the step of 2 branches that follows."""
    scale = Scale(device, 1)
    unet, grid = scale.unet, scale.side // 4
    forward, conditions = UNetForward(unet), gather(list(scale.contexts), [()])
    # diffusers reads the maps of a quarter of the latents' sides
    wanted = frozenset(path for path, size in sites(forward, scale, conditions).items() if size == grid)
    look = Look(wanted, stop=True)

    def ours(i: int) -> Tensor:
        moved = scale.latents.detach().requires_grad_(True)
        with torch.enable_grad():
            found = forward._forward(moved, scale.timestep, conditions, look)[1]
            maps = torch.cat([one for _, _, one in found], dim=1).mean(dim=1)
            return torch.autograd.grad(loss(maps[0].reshape(grid, grid, -1)), moved)[0]

    def theirs_of(unet: UNet2DConditionModel, kind: torch.dtype) -> Callable[[int], Tensor]:
        store = peer.AttentionStore((grid, grid))
        places = {"mid_block": "mid", "up_blocks": "up", "down_blocks": "down"}
        unet = copy.deepcopy(unet).to(kind)
        unet.set_attn_processor(
            {
                name: peer.AttendExciteAttnProcessor(store, places[name.split(".")[0]])
                for name in unet.attn_processors
            }
        )
        store.num_att_layers = len(unet.attn_processors)

        def update(i: int) -> Tensor:
            moved = scale.latents.detach().to(kind).requires_grad_(True)
            with torch.enable_grad():
                unet(moved, scale.timestep, encoder_hidden_states=scale.contexts.to(kind))
                maps = store.aggregate_attention(["up", "down", "mid"])
                return torch.autograd.grad(loss(maps), moved)[0]

        return update

    theirs, exact = theirs_of(unet, scale.kind), theirs_of(unet, torch.float64)
    pair = Scale(device, 2)
    our_step, their_step = pair.step(pair.unet, [(), ()]), pair.their_step(pair.unet)
    update = "update of Attend-and-Excite"
    return [
        Pair(f"{update} / diffusers", ours, theirs, lambda: exact(0), 1, UPDATE_TARGET),
        Pair(
            f"{update}, then a step of 2 branches / diffusers, its step compiled",
            lambda i: (our_step(i), ours(i)),
            lambda i: (their_step(i), theirs(i)),
            pair.exact(pair.unet),
            1,
            TARGET,
        ),
    ]


def sites(forward: UNetForward, scale: Scale, conditions: Conditions) -> dict[str, int]:
    """The side of every cross-attention layer's feature map; it also makes the text's keys and values."""
    every = frozenset(cross_attention_paths(scale.unet))
    found = forward._forward(scale.latents, scale.timestep, conditions, Look(every))[1]
    return {path: grid[0] for path, grid, _ in found}


if __name__ == "__main__":
    main()
