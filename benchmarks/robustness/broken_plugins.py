"""Plugins that break the contract, each in one way that a plugin author could, by the check that is there for it."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.core.api.branches import LinearForm
from weft.core.api.conditioner import Conditioner, Fixed, Prepared
from weft.core.api.guidance import Batch, Guidance, LatentEdit, Step
from weft.core.api.plugin import Plugin
from weft.core.scene import record

if TYPE_CHECKING:
    from torch import Tensor

    from weft.core.api.model_view import ModelView
    from weft.core.scene import Scene

Amount = Annotated[float, Field(description="how much of it; 0 is off")]


@record
class Nudge(LatentEdit):
    """Sound: adds a number to the latents; the broken ones change one thing of it."""

    name: ClassVar[str] = "nudge"
    neutral: ClassVar[Mapping[str, Any]] = {"amount": 0.0}
    scene_fields: ClassVar[frozenset[str] | None] = frozenset()

    amount: Amount = 0.1

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount


@record
class SpacedName(Nudge):
    """Broken: no run file can name it."""

    name: ClassVar[str] = "Spaced Name"


@record
class SaysNothing(Nudge):
    """Broken: nothing says what its parameter is for."""

    name: ClassVar[str] = "says_nothing"

    power: float = 1.0


@record
class TakesASet(Nudge):
    """Broken: a set cannot be written in a run file."""

    name: ClassVar[str] = "takes_a_set"

    words: Annotated[frozenset[str], Field(description="in no order")] = frozenset({"toy"})


@record
class HoldsALock(Nudge):
    """Broken: it cannot be sent to another process."""

    name: ClassVar[str] = "holds_a_lock"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock", threading.Lock())


@dataclasses.dataclass(frozen=True)
class IsNoRecord(Nudge):
    """Broken: a plain dataclass checks nothing."""

    name: ClassVar[str] = "is_no_record"


@record
class TakesAnything(Nudge):
    """Broken: its parameter may be any object."""

    name: ClassVar[str] = "takes_anything"

    power: Annotated[Any, Field(description="of the amount")] = 1.0


@record
class IsNotNeutral(Nudge):
    """Broken: it moves the latents at its neutral parameters too."""

    name: ClassVar[str] = "is_not_neutral"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount + 1e-3


@record
class IgnoresTheForm(Guidance):
    """Broken: it starts from the full branch, whatever the strategies before it made of it."""

    name: ClassVar[str] = "ignores_the_form"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}

    scale: Amount = 2.0

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        return self.scale * LinearForm.of(step.full) + (1.0 - self.scale) * LinearForm.of(form.null())


@record
class LooksAtNeighbours(Nudge):
    """Broken: it moves every sample towards the mean of the batch."""

    name: ClassVar[str] = "looks_at_neighbours"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount * (latents.mean(dim=0, keepdim=True) - latents)


@record
class ReadsTheFirstScene(Nudge):
    """Broken: it takes the box of a batch's first scene for all of them."""

    name: ClassVar[str] = "reads_the_first_scene"

    def begin(self, batch: Batch) -> Guidance:
        return dataclasses.replace(self, amount=self.amount * _left(batch.scenes[0]))


@record
class CarriesOver(Nudge):
    """Broken: what it kept of the picture before changes the last bits of the next."""

    name: ClassVar[str] = "carries_over"
    kept: ClassVar[dict[str, float]] = {}

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        last = self.kept.get("mean", 0.0)
        self.kept["mean"] = float(latents.mean())
        return latents + self.amount * 1e-4 * last


@record
class Counts(Nudge):
    """Broken: it counts its calls in the class, so the second run is another one."""

    name: ClassVar[str] = "counts"
    calls: ClassVar[list[int]] = []

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        self.calls.append(0)
        return latents + self.amount * len(self.calls)


@record
class RemembersTheLastScene(Nudge):
    """Broken: it uses what it worked out for the scene before."""

    name: ClassVar[str] = "remembers_the_last_scene"
    last: ClassVar[dict[str, float]] = {}

    def begin(self, batch: Batch) -> Guidance:
        own = _left(batch.scenes[0])
        used = self.last.get("box", own)
        self.last["box"] = own
        return dataclasses.replace(self, amount=self.amount * used)


@record
class HidesWhatItReads(Nudge):
    """Broken: it reads boxes and declares that it reads masks."""

    name: ClassVar[str] = "hides_what_it_reads"
    scene_fields: ClassVar[frozenset[str] | None] = frozenset({"subjects.mask"})

    def begin(self, batch: Batch) -> Guidance:
        return dataclasses.replace(self, amount=self.amount * _left(batch.scenes[0]))


@record
class MakesDoubles(Nudge):
    """Broken: it hands back float64."""

    name: ClassVar[str] = "makes_doubles"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents.double() + self.amount


@record
class ProjectsInFloat32(Conditioner):
    """Broken: its matrix is in float32 whatever the model's type is."""

    name: ClassVar[str] = "projects_in_float32"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import ContextTokens

        states = model.text.encode(model.text.tokens("two boats"))
        return Fixed((ContextTokens(states @ torch.eye(model.text.width)),))


@record
class KnowsOneSize(Nudge):
    """Broken: its mask is made for latents of 8 x 8."""

    name: ClassVar[str] = "knows_one_size"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        return latents + self.amount * latents.new_ones(8, 8)


@record
class DividesByTheSteps(Nudge):
    """Broken: a run of one step divides by zero."""

    name: ClassVar[str] = "divides_by_the_steps"

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        scale = 1.0 + self.amount * step.index / (step.total - 1)
        return scale * form + (1.0 - scale) * LinearForm.of(form.null())


@record
class NeedsASubject(Conditioner):
    """Broken: a scene without subjects is an IndexError."""

    name: ClassVar[str] = "needs_a_subject"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.ports import ContextTokens

        return Fixed((ContextTokens(model.text.encode(model.text.tokens(scene.subjects[0].phrase))),))


@record
class IgnoresItsSchedule(Conditioner):
    """Broken: it counts steps in its own way, and forgets its schedule."""

    name: ClassVar[str] = "ignores_its_schedule"

    def factor(self, step: Step) -> float:
        return 1.0

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.ports import ContextTokens

        return Fixed((ContextTokens(model.text.encode(model.text.tokens("two boats"))),))


@record
class WritesInPlace(Conditioner):
    """Broken: its module changes the hidden states that it is given, also outside its region."""

    name: ClassVar[str] = "writes_in_place"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import BlockInsert
        from weft.core.families.blocks import cross_attention_paths

        return Fixed(
            (BlockInsert(dict.fromkeys(cross_attention_paths(model.unet), _add_in_place), torch.ones(1)),)
        )


def _add_in_place(hidden: Tensor, state: Tensor, strength: Tensor, grid: tuple[int, int]) -> Tensor:
    return hidden.add_(strength[:, None, None])


@record
class ForgetsItsNull(Conditioner):
    """Broken: its weight deltas, which belong in every branch, are in the present one alone."""

    name: ClassVar[str] = "forgets_its_null"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.ports import WeightDelta

        weight = model.unet.get_parameter("conv_out.weight")
        return Fixed((WeightDelta("conv_out", weight * 0.1),))


@record
class MakesModulesForEach(Conditioner):
    """Broken: every scene has modules of its own, so that each is a call of its own."""

    name: ClassVar[str] = "makes_modules_for_each"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import InputChannels

        with torch.random.fork_rng():
            torch.manual_seed(0)
            convolution = torch.nn.Conv2d(1, model.unet.conv_in.out_channels, 3, padding=1).requires_grad_(
                False
            )
        entries = (InputChannels(convolution, torch.ones(1, *model.latent_size)),)
        return Fixed(entries, entries)


@record
class LeavesAHook(Conditioner):
    """Broken: it registers a hook and does not remove it."""

    name: ClassVar[str] = "leaves_a_hook"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        model.unet.conv_out.register_forward_hook(lambda module, inputs, output: output)
        return Fixed(())


@record
class TidiesUpAtTheEnd(Nudge):
    """Broken: it switches gradients on, and off again at the last step only."""

    name: ClassVar[str] = "tidies_up_at_the_end"
    borrowed: ClassVar[list[Any]] = []

    def begin(self, batch: Batch) -> Guidance:
        self.borrowed.append(batch.model.unet.conv_in.bias)
        self.borrowed[-1].requires_grad_(True)
        return self

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        if step.index == step.total - 1:
            self.borrowed.pop().requires_grad_(False)
        return latents + self.amount


@record
class WritesTheScene(Conditioner):
    """Broken: it leaves a note in the scene's maps."""

    name: ClassVar[str] = "writes_the_scene"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        scene.maps["seen"] = "yes"
        return Fixed(())


@record
class KeepsTensors(Nudge):
    """Broken: it keeps every step's latents."""

    name: ClassVar[str] = "keeps_tensors"
    kept: ClassVar[list[Tensor]] = []

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        self.kept.append(latents)
        return latents + self.amount


@record
class ReadsGlobalNoise(Nudge):
    """Broken: it draws noise from the global generator."""

    name: ClassVar[str] = "reads_global_noise"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        import torch

        return latents + self.amount * torch.randn_like(latents)


@record
class WritesAFile(Nudge):
    """Broken: it opens a file for writing at every step."""

    name: ClassVar[str] = "writes_a_file"

    def edit(self, latents: Tensor, step: Step) -> Tensor:
        with open(os.devnull, "w") as file:
            print(step, file=file)
        return latents + self.amount


def _left(scene: Scene) -> float:
    box = scene.subjects[0].box
    return 0.0 if box is None else box[0]


def _imports_torch() -> Plugin:
    from broken_import import ImportsTorch

    return ImportsTorch()


BROKEN: Mapping[str, Callable[[], Plugin]] = {
    "can_be_registered": SpacedName,
    "is_documented": SaysNothing,
    "survives_a_run_file": TakesASet,
    "survives_copying": HoldsALock,
    "unknown_parameters_are_refused": IsNoRecord,
    "wrong_values_are_refused": TakesAnything,
    "import_is_free_of_torch": _imports_torch,
    "neutral_is_identity": IsNotNeutral,
    "chains_with_guidance": IgnoresTheForm,
    "batch_equals_single": LooksAtNeighbours,
    "scenes_are_kept_apart": ReadsTheFirstScene,
    "exact_mode_is_exact": CarriesOver,
    "is_repeatable": Counts,
    "other_scenes_leave_no_trace": RemembersTheLastScene,
    "schedule_is_kept": IgnoresItsSchedule,
    "region_is_kept": WritesInPlace,
    "null_is_stated": ForgetsItsNull,
    "scenes_share_modules": MakesModulesForEach,
    "scene_fields_are_declared": HidesWhatItReads,
    "dtype_and_device_are_kept": MakesDoubles,
    "half_precision_works": ProjectsInFloat32,
    "other_sizes_work": KnowsOneSize,
    "every_scheduler_works": DividesByTheSteps,
    "bare_scene_is_drawn_or_refused": NeedsASubject,
    "unet_is_restored": LeavesAHook,
    "unet_is_restored_after_an_exception": TidiesUpAtTheEnd,
    "inputs_are_not_written": WritesTheScene,
    "nothing_is_kept": KeepsTensors,
    "global_state_is_untouched": ReadsGlobalNoise,
    "nothing_is_written_or_sent": WritesAFile,
}
"""One for each check of the contract, by the check's name."""
