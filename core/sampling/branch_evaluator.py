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
from ..api.guidance import Step
from ..api.map_edits import MapRows
from ..api.model_view import ModelView
from ..api.ports import Contribution, Entry, TextRegion, TextStates, TokenEmbeddings, WeightDelta
from ..api.predictions import Predictions
from ..api.text_encoder import PromptTokens
from ..api.words import Word, checked, refuse_shared
from ..errors import PluginError, UserError
from ..scene.scene import Scene
from ..unet.conditions import Conditions, gather
from ..unet.forward import UNetForward
from ..unet.shared_tokens import with_shared
from ..unet.weight_deltas import apply_deltas
from .guarded import guarded


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
        self._tokens: dict[Hashable, PromptTokens] = {}
        self._rows: dict[Hashable, Row] = {}
        self._forms: dict[Hashable, Contribution] = {}
        self._regions: dict[int, Float[Tensor, "h w"] | None] = {}
        for subject in scene.subjects:
            # a subject that the tokenizer cuts off is an error now
            self.tokens(Branch.full(conditioners)).positions(subject)

    def tokens(self, branch: Branch) -> PromptTokens:
        """The tokens of a branch's prompt, with the words of the conditioners that are present in it."""
        key = self._reading(branch)
        if key not in self._tokens:
            text, strengths, sequences = key
            words = {
                word: Word(vectors, self._conditioners[name].strength * strength)
                for name, strength in strengths
                for word, vectors in self._words[name].items()
            }
            self._tokens[key] = self._model.text.tokens(text, words, sequences)
        return self._tokens[key]

    def _reading(self, branch: Branch) -> tuple[str, tuple[tuple[str, float], ...], int]:
        """What the tokens of a branch depend on: its text, the strengths of words, and the most sequences."""
        strengths = [(name, branch.strength(name)) for name, words in self._words.items() if words]
        here = [one.sequences for name, one in self._prepared.items() if name not in branch.off]
        present = tuple((name, strength) for name, strength in strengths if strength != 0.0)
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

    def key(self, branch: Branch) -> Hashable:
        """Equal for branches that come to the same row."""
        states = []
        for name in self._prepared:
            strength = branch.strength(name)
            if name not in branch.off and self._form(name, strength != 0.0, branch):
                states.append((name, strength))
        return self._reading(branch), tuple(states)

    def row(self, branch: Branch) -> Row:
        """What a branch is conditioned on."""
        key = self.key(branch)
        if key not in self._rows:
            self._rows[key] = self._resolve(branch)
        return self._rows[key]

    def _form(self, name: str, present: bool, branch: Branch) -> Contribution:
        key = (name, present, self._reading(branch))
        if key not in self._forms:
            prepared, tokens = self._prepared[name], self.tokens(branch)
            read = prepared.present if present else prepared.absent
            entries = guarded(name, read.__name__, lambda: tuple(read(tokens)))
            self._forms[key] = tuple(_entry(entry, name, read.__name__, len(tokens.ids)) for entry in entries)
        return self._forms[key]

    def _resolve(self, branch: Branch) -> Row:
        tokens = self.tokens(branch)
        entries: Contribution = ()
        for name, conditioner in self._conditioners.items():
            if name not in branch.off:
                strength = branch.strength(name)
                # the absent form of a conditioner is its trained null, at the strength of the conditioner itself
                factor = conditioner.strength * (strength or 1.0)
                entries += tuple(e.scaled(factor) for e in self._form(name, strength != 0.0, branch))
        entries = tuple(entry for entry in entries if entry.strength != 0.0)
        embeddings = [entry for entry in entries if isinstance(entry, TokenEmbeddings)]
        deltas = [
            entry for entry in entries if isinstance(entry, WeightDelta) and entry.target == "text_encoder"
        ]
        model = self._model
        with apply_deltas(model.text.model, deltas) as changed:
            text = model.family.condition(model.text.with_model(changed), tokens, embeddings, model.size)
        context = text.context[None]
        for entry in entries:
            if isinstance(entry, TextStates):
                context = guarded(entry.origin, "text states", partial(entry.write, context))
        context, regions = with_shared(context[0], entries)
        return Row(context.to(model.dtype), (*entries, *regions), text.added)


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
        branches: Iterable[Branch],
        requests: Sequence[MapRequest] = (),
        step: Step | None = None,
    ) -> tuple[Predictions, list[AttentionMaps | None]]:
        """Predict for every branch, in one batch; branches that come to the same rows are evaluated once.

        Args:
            latents: one per sample, scaled for the timestep.
            timestep: of all of them, or of each where one branch is evaluated.
            branches: what to evaluate.
            requests: maps to keep.
            step: where the sampler is, for map edits.

        Returns:
            The predictions, and for every request its maps, or None where its branch is not evaluated.
        """
        # last first: with classifier-free guidance the null branch leads the batch, as it does in diffusers, and the
        # same rows in the same places round alike
        branches = list(branches)[::-1]
        slots: dict[Hashable, int] = {}
        slot_of = [slots.setdefault(self._key(branch), len(slots)) for branch in branches]
        distinct = [branches[slot_of.index(slot)] for slot in range(len(slots))]
        places = {branch: slot_of[branches.index(branch)] for branch in dict.fromkeys(branches)}
        asked = [request for request in requests if request.branch in places]
        cross, rows = _wanted([(places[one.branch], one.paths) for one in asked], len(latents))
        own, own_rows = _wanted([(places[one.branch], one.self_paths) for one in asked], len(latents))
        recorder = MapRecorder(cross, rows, False, own, own_rows) if asked else None
        # the latents of one copy: the forward pass repeats them where the branches part
        predicted = self._unet(latents, timestep, self._gathered(distinct), recorder, step)
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
        request: MapRequest,
        step: Step | None = None,
    ) -> AttentionMaps:
        """The maps of one branch; the UNet is left after the last of them. Differentiable in the latents."""
        recorder = MapRecorder(request.paths, stop=True, self_paths=request.self_paths)
        self._unet(latents, timestep, self._gathered([request.branch]), recorder, step)
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

    def _rows(self, branches: Sequence[Branch]) -> MapRows:
        count = len(self._scenes)
        return MapRows(
            samples=tuple(range(count)) * len(branches),
            scenes=tuple(one.scene for one in self._scenes) * len(branches),
            texts=tuple(scene.tokens(branch) for branch in branches for scene in self._scenes),
            sets=tuple((row,) for row in range(count * len(branches))),
        )

    def _row_sets(self, branches: Sequence[Branch]) -> dict[str, tuple[tuple[int, ...], ...]]:
        starts = range(0, len(self._scenes) * len(branches), len(self._scenes))
        return {
            name: tuple(tuple(start + sample for sample in one) for start in starts for one in sets)
            for name, sets in self._sets.items()
        }

    def _key(self, branch: Branch) -> Hashable:
        return tuple(scene.key(branch) for scene in self._scenes)

    def _gathered(self, branches: Sequence[Branch]) -> Conditions:
        key = tuple(self._key(branch) for branch in branches)
        if key not in self._conditions:
            rows = [scene.row(branch) for branch in branches for scene in self._scenes]
            self._conditions[key] = gather(
                [row.context for row in rows],
                [row.contribution for row in rows],
                [row.added for row in rows],
                self._rows(branches),
                self._row_sets(branches),
            )
        return self._conditions[key]


def _wanted(slots: Sequence[tuple[int, frozenset[str]]], count: int) -> tuple[frozenset[str], slice]:
    """The blocks to capture for requests in these slots, and the rows: one slot's where one is enough, else all."""
    slots = [(slot, paths) for slot, paths in slots if paths]
    first = {slot for slot, _ in slots}
    rows = slice(min(first) * count, (min(first) + 1) * count) if len(first) == 1 else slice(None)
    return frozenset[str]().union(*(paths for _, paths in slots)), rows
