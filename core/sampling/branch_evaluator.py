"""Evaluating branches: every branch of every sample is a row of one UNet batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Float, Num
from torch import Tensor

from ..api.attention_maps import AttentionMaps, MapRecorder, Site
from ..api.branches import Branch, Prompt, SubjectPhrase
from ..api.conditioner import Conditioner, Prepared
from ..api.family import TextCondition
from ..api.guidance import Step
from ..api.map_edits import MapRows
from ..api.model_view import ModelView
from ..api.ports import (
    ContextTokens,
    Contribution,
    Entry,
    InputChannels,
    TextRegion,
    TextStates,
    TokenEmbeddings,
    WeightDelta,
)
from ..api.predictions import Predictions
from ..api.text_encoder import PromptTokens
from ..api.words import Word, checked, refuse_shared
from ..errors import PluginError, UserError
from ..scene.region import Region, as_region
from ..scene.scene import Scene
from ..unet.conditions import Conditions, RegionalText, gather
from ..unet.forward import UNetForward
from ..unet.shared_tokens import with_shared
from ..unet.weight_deltas import apply_deltas, is_of_text
from .guarded import guarded

KEPT = 8
"""Batches' keys and values that are kept: of a strategy that alternates, and not of every text of a schedule."""


@dataclass(frozen=True)
class Row:
    """What one row of a batch is conditioned on.

    Args:
        context: text states.
        contribution: to the UNet's ports.
        added: what enters by the time embedding; see `TextCondition`.
    """

    context: Float[Tensor, "t d"]
    contribution: Contribution
    added: Mapping[str, Float[Tensor, "..."]]


class PreparedScene:
    """A scene that every conditioner of the run has read, once.

    Args:
        scene: the scene.
        model: the model.
        conditioners: by their names in branches; one of strength 0 is left out.

    Raises:
        UserError: from a conditioner, about the scene.
        PluginError: a conditioner raised something else.
    """

    def __init__(self, scene: Scene, model: ModelView, conditioners: Mapping[str, Conditioner]) -> None:
        self.scene, self._model, self._conditioners = scene, model, conditioners
        self._prepared = {
            name: _prepared(name, guarded(name, "prepare", partial(conditioner.prepare, scene, model)))
            for name, conditioner in conditioners.items()
        }
        self._words = {
            name: checked(guarded(name, "words", partial(getattr, one, "words")), name, model.text.width)
            for name, one in self._prepared.items()
        }
        refuse_shared(self._words)
        for name, words in self._words.items():
            if words and conditioners[name].region is not None:
                hint = "A region can read another text: ContextTokens joined 'instead'."
                word = f"word '{next(iter(words))}' of '{name}'"
                raise UserError(word, "no region, since a word is read everywhere", "one", hint)
        self._tokens: dict[Hashable, PromptTokens] = {}
        self._rows: dict[Hashable, Row] = {}
        self._forms: dict[Hashable, Contribution] = {}
        self._factors: dict[tuple[str, int], float] = {}
        self._areas: dict[str, Float[Tensor, "h w"]] = {}
        self._regions: dict[int, Float[Tensor, "h w"] | None] = {}
        for subject in scene.subjects:
            # a subject that the tokenizer cuts off is an error now
            self.tokens(Branch.full(conditioners)).positions(subject)

    def tokens(self, branch: Branch, step: Step | None = None) -> PromptTokens:
        """The tokens of a branch's prompt, with the words of the conditioners that are present in it.

        Args:
            branch: which.
            step: at which schedules are looked up; None is as if they were all 1.
        """
        key = self._reading(branch, step)
        if key not in self._tokens:
            text, factors, sequences = key
            words = {
                word: Word(vectors, self._conditioners[name].strength * factor)
                for name, factor in factors
                for word, vectors in self._words[name].items()
            }
            self._tokens[key] = self._model.text.tokens(text, words, sequences)
        return self._tokens[key]

    def _reading(self, branch: Branch, step: Step | None) -> tuple[str, tuple[tuple[str, float], ...], int]:
        """What the tokens of a branch depend on: its text, the strengths of words, and the most sequences."""
        bring = [name for name, words in self._words.items() if words and branch.is_present(name)]
        factors = [(name, self._factor(name, branch, step)) for name in bring if name not in branch.off]
        here = [one.sequences for name, one in self._prepared.items() if name not in branch.off]
        present = tuple((name, factor) for name, factor in factors if factor != 0.0)
        return self._text(branch.prompt), present, max(here, default=1)

    def _text(self, prompt: Prompt) -> str:
        if not isinstance(prompt, SubjectPhrase):
            return self.scene.prompt if prompt is None else prompt
        subjects = self.scene.subjects
        if prompt.number >= len(subjects):
            wanted = f"at least {prompt.number + 1} subject(s)"
            raise UserError(f"scene '{self.scene.prompt}'", wanted, str(len(subjects)))
        return subjects[prompt.number].phrase

    def region(self, number: int) -> Float[Tensor, "h w"] | None:
        """Where the subject of this number should be, at the image's size; None where the scene does not say."""
        if number not in self._regions:
            self._regions[number] = self._model.region(self.scene.subjects[number])
        return self._regions[number]

    def key(self, branch: Branch, step: Step | None = None) -> Hashable:
        """Equal for branches that come to the same row at a step."""
        factors = self.factors(branch, step)
        forms = [
            (name, branch.is_present(name), factor)
            for name, factor in factors.items()
            if factor != 0.0 and self._form(name, branch, step)
        ]
        return self._reading(branch, step), tuple(forms)

    def factors(self, branch: Branch, step: Step | None) -> dict[str, float]:
        """What multiplies each conditioner's own strength; of those that are not off."""
        return {name: self._factor(name, branch, step) for name in self._prepared if name not in branch.off}

    def structure(self, branch: Branch, step: Step | None) -> Hashable:
        """Equal where rows are the same but for the strengths of what enters the UNet."""
        forms = []
        for name, factor in self.factors(branch, step).items():
            if entries := self._form(name, branch, step):
                # of what enters the text, the strength is in the text states
                written = factor if any(map(_enters_text, entries)) else None
                forms.append((name, branch.is_present(name), written))
        return self._reading(branch, step), tuple(forms)

    def row(self, branch: Branch, step: Step | None = None) -> Row:
        """What a branch is conditioned on, with the strengths in the UNet at a factor of 1."""
        key = self.structure(branch, step)
        if key not in self._rows:
            self._rows[key] = self._resolve(branch, step)
        return self._rows[key]

    def _factor(self, name: str, branch: Branch, step: Step | None) -> float:
        factor = branch.factor(name)
        if step is None:
            return factor
        if (name, step.index) not in self._factors:
            read = partial(self._conditioners[name].factor, step)
            self._factors[name, step.index] = float(guarded(name, f"factor at step {step.index}", read))
        return factor * self._factors[name, step.index]

    def _form(self, name: str, branch: Branch, step: Step | None) -> Contribution:
        """A conditioner's entries in a branch, with its strength and region."""
        present = branch.is_present(name)
        key = (name, present, self._reading(branch, step))
        if key not in self._forms:
            prepared, conditioner, tokens = (
                self._prepared[name],
                self._conditioners[name],
                self.tokens(branch, step),
            )
            read = prepared.present if present else prepared.absent
            entries = guarded(name, read.__name__, lambda: tuple(read(tokens)))
            entries = tuple(_entry(entry, name, read.__name__, len(tokens.ids)) for entry in entries)
            entries = tuple(self._placed(name, one.scaled(conditioner.strength)) for one in entries)
            self._forms[key] = tuple(one for one in entries if one.strength != 0.0)
        return self._forms[key]

    def _placed(self, name: str, entry: Entry) -> Entry:
        """The entry where its conditioner acts."""
        if (field := self._conditioners[name].region) is None:
            return entry
        region = as_region(field)
        mask = self._area(name, region)
        if entry.region is not None:
            return replace(entry, region=entry.region * mask)
        return replace(entry, region=mask, resize=region.resize)

    def _area(self, name: str, region: Region) -> Float[Tensor, "h w"]:
        if name not in self._areas:
            self._areas[name] = self._model.area(region, self.scene)
        return self._areas[name]

    def _resolve(self, branch: Branch, step: Step | None) -> Row:
        entries: list[Entry] = []
        for name, factor in self.factors(branch, step).items():
            for entry in self._form(name, branch, step):
                if not _enters_text(entry):
                    entries.append(entry)
                elif factor != 0.0:
                    entries.append(entry.scaled(factor))
        everywhere = [entry for entry in entries if not _regional_text(entry)]
        text, regions = self._text_states(self.tokens(branch, step), everywhere)
        texts = []
        for name in dict.fromkeys(entry.origin for entry in entries if _regional_text(entry)):
            there = [entry for entry in entries if not _regional_text(entry) or entry.origin == name]
            first = next(entry for entry in there if _regional_text(entry))
            states = self._text_states(self.tokens(branch, step), there)[0].context
            texts.append(RegionalText(states, region=first.region, resize=first.resize, origin=name))
        of_unet = [entry for entry in entries if not _enters_text(entry)]
        self._check_input(of_unet)
        return Row(text.context, (*of_unet, *regions, *texts), text.added)

    def _check_input(self, entries: Sequence[Entry]) -> None:
        """Refuse a branch in which nothing feeds the input that the model reads beside the latents."""
        extra = self._model.extra_input
        fed = any(isinstance(entry, InputChannels) and entry.convolution is extra for entry in entries)
        if extra is not None and not fed:
            wanted = (
                f"a conditioner that feeds the {extra.in_channels} channels which it reads beside the latents"
            )
            hint = "Its present and its null form feed `ModelView.extra_input` through `InputChannels`."
            raise UserError("the model's UNet", wanted, "none", hint)

    def _text_states(
        self, tokens: PromptTokens, entries: Sequence[Entry]
    ) -> tuple[TextCondition, tuple[TextRegion, ...]]:
        """The text states of a prompt as some entries make them, and the weights of tokens that share its softmax."""
        model = self._model
        embeddings = [entry for entry in entries if isinstance(entry, TokenEmbeddings)]
        deltas = [
            entry for entry in entries if isinstance(entry, WeightDelta) and entry.target == "text_encoder"
        ]
        encoder = model.text.with_model(apply_deltas(model.text.model, deltas))
        text = model.family.condition(encoder, tokens, embeddings, model.size)
        context = text.context[None]
        for entry in entries:
            if isinstance(entry, TextStates):
                context = guarded(entry.origin, "text states", partial(entry.write, context))
        context, regions = with_shared(context[0], entries)
        return replace(text, context=context.to(model.dtype)), regions


def _enters_text(entry: Entry) -> bool:
    """Whether it changes the text states, so that its strength is in them."""
    return (
        isinstance(entry, TokenEmbeddings | TextStates)
        or (isinstance(entry, WeightDelta) and entry.target == "text_encoder")
        or (isinstance(entry, ContextTokens) and entry.joined == "shared")
    )


def _regional_text(entry: Entry) -> bool:
    """Whether a region reads a text of its own because of it."""
    return entry.region is not None and (
        isinstance(entry, TokenEmbeddings | TextStates)
        or (isinstance(entry, WeightDelta) and (entry.target == "text_encoder" or is_of_text(entry.path)))
    )


def _prepared(name: str, prepared: Any) -> Prepared:
    """What `prepare` gave, if it is what it should be."""
    if not isinstance(prepared, Prepared):
        expected = f"expected a Prepared, such as Fixed(entries), found {type(prepared).__name__}"
        raise PluginError(name, "prepare", expected)
    return prepared


def _entry(entry: Any, name: str, form: str, tokens: int) -> Entry:
    """A port entry with its origin, if it is one, and its words lie within the prompt's tokens."""
    if not isinstance(entry, Entry):
        raise PluginError(name, form, f"expected port entries, found {type(entry).__name__}")
    if isinstance(entry, TokenEmbeddings | TextStates | TextRegion):
        beyond = [place for place in entry.positions.tolist() if not 0 <= place < tokens]
        if beyond:
            reason = f"a {type(entry).__name__} is at token {beyond[0]}, and the prompt has {tokens} tokens"
            raise PluginError(name, form, reason)
    return replace(entry, origin=name)


@dataclass(frozen=True)
class MapRequest:
    """Maps of one branch to keep while it is evaluated.

    Args:
        branch: which.
        paths: transformer blocks, for their cross-attention.
        self_paths: transformer blocks, for their self-attention.
    """

    branch: Branch
    paths: frozenset[str] = frozenset()
    self_paths: frozenset[str] = frozenset()


class BranchEvaluator:
    """Runs the UNet for the branches of a form.

    Args:
        unet: its forward pass.
        scenes: the prepared scene of every sample of the batch.
        sets: by conditioner, samples that belong together, for its map edits; by default each alone.

    Attributes:
        evaluations: UNet evaluations of one sample so far, for the run's trace.
    """

    def __init__(
        self,
        unet: UNetForward,
        scenes: Sequence[PreparedScene],
        sets: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        self._unet, self._scenes, self._sets = unet, scenes, sets or {}
        self._conditions: dict[Hashable, Conditions] = {}
        self.evaluations = 0

    def __call__(
        self,
        latents: Float[Tensor, "s c h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " s"],
        step: Step | None,
        branches: Iterable[Branch],
        requests: Sequence[MapRequest] = (),
    ) -> tuple[Predictions, list[AttentionMaps | None]]:
        """Predict for every branch, in one batch; branches that come to the same rows are evaluated once.

        Args:
            latents: one per sample, scaled for the timestep.
            timestep: of all of them, or of each where one branch is evaluated.
            step: where the sampler is, for schedules and map edits; None outside a generation.
            branches: what to evaluate.
            requests: maps to keep.

        Returns:
            The predictions, and for every request its maps, or None where its branch is not evaluated.
        """
        # last first: with classifier-free guidance the null branch leads the batch, as it does in diffusers, and the
        # same rows in the same places round alike
        branches = list(branches)[::-1]
        slots: dict[Hashable, int] = {}
        slot_of = [slots.setdefault(self._key(branch, step), len(slots)) for branch in branches]
        distinct = [branches[slot_of.index(slot)] for slot in range(len(slots))]
        places = {branch: slot_of[branches.index(branch)] for branch in dict.fromkeys(branches)}
        asked = [request for request in requests if request.branch in places]
        cross, rows = _wanted([(places[one.branch], one.paths) for one in asked], len(latents))
        own, own_rows = _wanted([(places[one.branch], one.self_paths) for one in asked], len(latents))
        recorder = MapRecorder(cross, rows, False, own, own_rows) if asked else None
        # the latents of one copy: the forward pass repeats them where the branches part
        predicted = self._unet(latents, timestep, self._gathered(distinct, step), recorder, step)
        assert predicted is not None
        self.evaluations += len(distinct)
        parts = predicted.chunk(len(distinct))
        predictions = Predictions(
            {branch: parts[slot] for branch, slot in zip(branches, slot_of, strict=True)}
        )
        return predictions, [
            self._maps(recorder, request, places[request.branch]) if recorder and request in asked else None
            for request in requests
        ]

    def maps(
        self,
        latents: Float[Tensor, "s c h w"],
        timestep: Num[Tensor, ""],
        step: Step,
        request: MapRequest,
    ) -> AttentionMaps:
        """The maps of one branch; the UNet is left after the last of them. Differentiable in the latents."""
        recorder = MapRecorder(request.paths, stop=True, self_paths=request.self_paths)
        self._unet(latents, timestep, self._gathered([request.branch], step), recorder, step)
        return self._maps(recorder, request, 0)

    def _maps(self, recorder: MapRecorder, request: MapRequest, slot: int) -> AttentionMaps:
        count = len(self._scenes)

        def of_slot(kept: Mapping[Site, Tensor], paths: frozenset[str], rows: slice) -> dict[Site, Tensor]:
            start = slot * count - (rows.start or 0)
            return {site: maps[start : start + count] for site, maps in kept.items() if site.path in paths}

        return AttentionMaps(
            of_slot(recorder.probabilities, request.paths, recorder.rows),
            [scene.tokens(request.branch) for scene in self._scenes],
            [one.scene for one in self._scenes],
            [one.region for one in self._scenes],
            of_slot(recorder.self_probabilities, request.self_paths, recorder.self_rows),
        )

    def _rows(self, branches: Sequence[Branch], step: Step | None) -> MapRows:
        count = len(self._scenes)
        return MapRows(
            samples=tuple(range(count)) * len(branches),
            scenes=tuple(one.scene for one in self._scenes) * len(branches),
            texts=tuple(scene.tokens(branch, step) for branch in branches for scene in self._scenes),
            sets=tuple((row,) for row in range(count * len(branches))),
        )

    def _row_sets(self, branches: Sequence[Branch]) -> dict[str, tuple[tuple[int, ...], ...]]:
        starts = range(0, len(self._scenes) * len(branches), len(self._scenes))
        return {
            name: tuple(tuple(start + sample for sample in one) for start in starts for one in sets)
            for name, sets in self._sets.items()
        }

    def _key(self, branch: Branch, step: Step | None) -> Hashable:
        return tuple(scene.key(branch, step) for scene in self._scenes)

    def _gathered(self, branches: Sequence[Branch], step: Step | None) -> Conditions:
        rows = [(branch, scene) for branch in branches for scene in self._scenes]
        key = tuple(scene.structure(branch, step) for branch, scene in rows)
        if key not in self._conditions:
            while len(self._conditions) >= KEPT:
                del self._conditions[next(iter(self._conditions))]
            contents = [scene.row(branch, step) for branch, scene in rows]
            self._conditions[key] = gather(
                [row.context for row in contents],
                [row.contribution for row in contents],
                [row.added for row in contents],
                self._rows(branches, step),
                self._row_sets(branches),
            )
        return self._conditions[key].scaled([scene.factors(branch, step) for branch, scene in rows])


def _wanted(slots: Sequence[tuple[int, frozenset[str]]], count: int) -> tuple[frozenset[str], slice]:
    """The blocks to capture for requests in these slots, and the rows: one slot's where one is enough, else all."""
    slots = [(slot, paths) for slot, paths in slots if paths]
    first = {slot for slot, _ in slots}
    rows = slice(min(first) * count, (min(first) + 1) * count) if len(first) == 1 else slice(None)
    return frozenset[str]().union(*(paths for _, paths in slots)), rows
