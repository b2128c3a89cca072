"""One training task for any set of conditioners over one frozen UNet.

Every sample of a batch takes some of the conditioners: one alone, or several at once, so that each works alone and all
of them together. The UNet runs the same forward pass as in sampling, and the networks enter through the same ports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ....core.api.attention_maps import MapRecorder
from ....core.pipeline import Pipeline
from ....core.unet.conditions import Conditions
from ....core.unet.forward import UNetForward
from ....plugins.shared.attention_loss import balanced_loss, mask_loss
from ..loop import Task
from ..unet import timesteps
from .data import Batch, Examples
from .parts import PARTS, Part, Piece, Widths
from .preview import preview
from .recipe import ConditionersRecipe, Late


class ConditionersTask(Task):
    """Predicts the noise of latents under captions and conditioners; only the conditioners' networks learn."""

    def __init__(self, recipe: ConditionersRecipe, pipe: Pipeline, examples: Examples) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.pipe, self.examples = recipe, pipe, examples
        self.unet_forward = UNetForward(pipe.unet)
        model = pipe.view(pipe.size)
        batch = examples.batch(torch.Generator().manual_seed(0), 1)
        widths = Widths(image=batch.pooled.shape[-1], patch=batch.patches.shape[-1])
        self.parts: dict[str, Part] = {
            name: PARTS[name](model, widths, options) for name, options in recipe.conditioners.items()
        }
        self.model = nn.ModuleDict({name: part.networks for name, part in self.parts.items()})
        for name, path in recipe.start.items():
            self.parts[name].load(path, whole=False)
        for name, path in recipe.frozen.items():
            self.parts[name].load(path)
            self.parts[name].networks.requires_grad_(False)
        self.scheduler = DDPMScheduler.from_config(dict(pipe.scheduler))
        self.cumulative: Tensor = self.scheduler.alphas_cumprod
        snr = self.cumulative / (1 - self.cumulative)
        self.weights = snr.clamp(max=recipe.min_snr) / snr
        # squared error of the picture for one of what the UNet predicts
        self.pictured = (
            1 - self.cumulative if self.scheduler.config["prediction_type"] == "v_prediction" else 1 / snr
        )
        self.empty = torch.tensor(pipe.text.tokens("").ids)
        self.recorded = frozenset() if recipe.attention is None else pipe.map_paths(model.latent_size)

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        recipe, n = self.recipe, self.recipe.loop.batch_size
        chosen = self._chosen(rng, n)
        # a picture without a subject teaches nothing to a conditioner that reads references
        shown = torch.stack([chosen[name] for name, part in self.parts.items() if part.needs_references] or
                            [torch.zeros(n, dtype=torch.bool)]).any(0)  # fmt: skip
        batch = self._fewer_references(self.examples.batch(rng, n, shown), rng)
        absent = {
            name: rows & (torch.rand(n, generator=rng) < recipe.absent) for name, rows in chosen.items()
        }
        drop = torch.rand(n, generator=rng) < recipe.drop_caption
        t = timesteps(rng, n, recipe.middle)
        noise = torch.randn(batch.latents.shape, generator=rng)
        noisy = self.scheduler.add_noise(batch.latents, noise, t).to(device)
        ids = torch.where(drop[:, None], self.empty, batch.ids)
        # without its caption a subject has no word to take, so the nouns are unknown
        batch = Batch(
            **(vars(batch) | {"ids": ids, "nouns": batch.nouns.masked_fill(drop[:, None, None], -1)})
        ).to(device)
        chosen, absent = ({name: rows.to(device) for name, rows in some.items()} for some in (chosen, absent))
        pieces = self.pieces(batch, chosen, absent)
        conditions = self.conditions(batch, pieces)
        maps = MapRecorder(self.recorded, slice(None)) if self.recorded else None
        predicted = self.unet_forward(noisy, t.to(device), conditions, maps)
        assert predicted is not None
        error = (predicted.float() - self._target(batch, noise.to(device), t.to(device))).square()
        shown = (batch.masks * batch.referenced.any(-1)[:, :, None, None]).amax(1, keepdim=True)
        weight = 1 + recipe.subject_weight * shown
        each = (error * weight).mean((1, 2, 3)) / weight.mean((1, 2, 3))
        if recipe.late is not None:
            early, change = self._early(recipe.late, batch, chosen, absent, noisy, t, predicted)
            each = each.where(~early, recipe.late.weight * change)
        weighted = (self.weights[t].to(device) * each).mean()
        losses = {"loss": weighted, "min_snr": weighted, "mse": error.mean()}
        if recipe.late is not None:
            losses["late"] = change.sum() / early.sum().clamp_min(1)
        if recipe.token_attention:
            looked_at = [loss.mean() for piece in pieces for loss in piece.attention]
            losses["tokens"] = torch.stack([weighted.new_zeros(()), *looked_at]).sum() / max(
                1, len(looked_at)
            )
            losses["loss"] = losses["loss"] + recipe.token_attention * losses["tokens"]
        if maps is not None and recipe.attention is not None:
            form = balanced_loss if recipe.attention.form == "balanced" else mask_loss
            found = {
                site: reduce(p, "b heads n t -> b n t", "mean") for site, p in maps.probabilities.items()
            }
            local = form(found, batch.nouns, batch.masks)
            # a noisier picture says less about where things will be: the loss fades with the signal's share
            losses["attention"] = (local * self.cumulative[t].to(device)).mean()
            losses["loss"] = losses["loss"] + recipe.attention.weight * losses["attention"]
        return losses

    def _early(
        self,
        late: Late,
        batch: Batch,
        chosen: Mapping[str, Bool[Tensor, " b"]],
        absent: Mapping[str, Bool[Tensor, " b"]],
        noisy: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        predicted: Float[Tensor, "b c h w"],
    ) -> tuple[Bool[Tensor, " b"], Float[Tensor, " b"]]:
        """The samples in which a late conditioner takes part too early, and how much it changes the picture predicted.

        The change is against the frozen model with the other conditioners of the sample. It is measured on the picture
        and not on the noise, a small error of which is a large one of the picture where there is little but noise.
        """
        takes_part = torch.stack([chosen[name] for name in late.conditioners]).any(0)
        early = takes_part & (t >= late.above).to(takes_part.device)
        change = predicted.new_zeros(len(early))
        rows = early.nonzero()[:, 0]
        if len(rows):
            times = t.to(rows.device)[rows]
            others = {name: taken[rows] & (name not in late.conditioners) for name, taken in chosen.items()}
            some = batch.rows(rows)
            with torch.no_grad():
                pieces = self.pieces(some, others, {name: taken[rows] for name, taken in absent.items()})
                without = self.unet_forward(noisy[rows], times, self.conditions(some, pieces))
            assert without is not None
            moved = (predicted[rows] - without).float().square().mean((1, 2, 3))
            change = change.index_copy(0, rows, moved * self.pictured.to(rows.device)[times])
        return early, change

    def _target(self, batch: Batch, noise: Tensor, t: Tensor) -> Float[Tensor, "b c h w"]:
        if self.scheduler.config["prediction_type"] == "v_prediction":
            velocity: Tensor = self.scheduler.get_velocity(batch.latents, noise, t)
            return velocity
        return noise

    def pieces(
        self, batch: Batch, chosen: Mapping[str, Bool[Tensor, " b"]], absent: Mapping[str, Bool[Tensor, " b"]]
    ) -> list[Piece]:
        """What every conditioner contributes; of the ``chosen`` samples some take the ``absent`` form."""
        return [part(batch, chosen[name], absent[name]) for name, part in self.parts.items()]

    def conditions(self, batch: Batch, pieces: Sequence[Piece]) -> Conditions:
        """What the batch is conditioned on."""
        with torch.no_grad():
            context = self.pipe.text.states(batch.ids)
        for piece in pieces:
            context = piece.context(context)
        return Conditions(
            context,
            inserts=tuple(group for piece in pieces for group in piece.inserts),
            channels=tuple(group for piece in pieces for group in piece.channels),
            deltas=tuple(group for piece in pieces for group in piece.deltas),
        )

    def _chosen(self, rng: torch.Generator, n: int) -> dict[str, Bool[Tensor, " b"]]:
        names = list(self.parts)
        alone = torch.rand(n, generator=rng) < self.recipe.alone
        shares = torch.tensor([self.recipe.shares.get(name, 1.0) for name in names])
        one = torch.multinomial(shares, n, replacement=True, generator=rng)
        some = torch.rand(n, len(names), generator=rng) < 0.5
        some[torch.arange(n), one] = True
        return {name: torch.where(alone, one == i, some[:, i]) for i, name in enumerate(names)}

    def _fewer_references(self, batch: Batch, rng: torch.Generator) -> Batch:
        """Hide references, so that subjects are known by one, two, ... pictures as the recipe shares them."""
        shares = torch.tensor(self.recipe.references)
        count: Int[Tensor, "b s"] = 1 + torch.multinomial(
            shares, batch.known.numel(), replacement=True, generator=rng
        ).view(batch.known.shape)
        kept = torch.arange(batch.referenced.shape[-1]) < count[..., None]
        return Batch(**(vars(batch) | {"referenced": batch.referenced & kept}))

    def preview(self, path: Path) -> None:
        preview(self.recipe, self.pipe, self.parts).save(path)
