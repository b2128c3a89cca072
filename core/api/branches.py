"""Branches and linear forms: the algebra that guidance strategies rewrite. Free of torch.

A branch is the set of conditioners that are present and the prompt that it reads. A linear form maps branches to
coefficients that sum to 1; its support is what the UNet evaluates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SubjectPhrase:
    """A prompt that differs from scene to scene: the phrase of each scene's own subject.

    Args:
        number: which subject, counted from 0.
    """

    number: int


Prompt = str | SubjectPhrase | None
"""What a branch reads: a text, a subject's phrase, or None for the scene's own prompt."""


@dataclass(frozen=True)
class Branch:
    """One way to evaluate the UNet.

    Args:
        present: (conditioner, strength) pairs; a conditioner of the run that is neither here nor in ``off`` takes
            its absent form (null grounding tokens, zero mask, plain noun).
        off: conditioners that contribute nothing at all, not even their null.
        prompt: what it reads.
        scales: (conditioner, factor) pairs that multiply its strength in whichever form it has here, in the order of
            their names.
    """

    present: tuple[tuple[str, float], ...] = ()
    off: frozenset[str] = frozenset()
    prompt: Prompt = None
    scales: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def full(conditioners: Iterable[str]) -> Branch:
        """The branch in which every conditioner is present at strength 1."""
        return Branch(tuple((name, 1.0) for name in conditioners))

    def is_present(self, conditioner: str) -> bool:
        """Whether it has its present form here."""
        return dict(self.present).get(conditioner, 0.0) != 0.0

    def strength(self, conditioner: str) -> float:
        """Strength of a conditioner's present form here; 0 when it is absent or off."""
        return dict(self.present).get(conditioner, 0.0) * dict(self.scales).get(conditioner, 1.0)

    def factor(self, conditioner: str) -> float:
        """What multiplies a conditioner's own strength here, in the form that it has; 0 when it is off."""
        if conditioner in self.off:
            return 0.0
        return (dict(self.present).get(conditioner) or 1.0) * dict(self.scales).get(conditioner, 1.0)

    def adding(self, conditioner: str, strength: float = 1.0) -> Branch:
        """The same branch with one more conditioner present, for example one that a strategy brings."""
        return replace(self, present=(*self.without(conditioner).present, (conditioner, strength)))

    def without(self, *conditioners: str) -> Branch:
        """The same branch with these conditioners in their absent form."""
        return replace(self, present=tuple(pair for pair in self.present if pair[0] not in conditioners))

    def switched_off(self, *conditioners: str) -> Branch:
        """The same branch without any trace of these conditioners."""
        return replace(self.without(*conditioners), off=self.off | set(conditioners))

    def scaled(self, conditioner: str, factor: float) -> Branch:
        """The same branch with one conditioner's strength multiplied, its present and its absent form alike.

        A factor of 0 switches it off.
        """
        if factor == 0.0:
            return self.switched_off(conditioner)
        scales = dict(self.scales)
        scales[conditioner] = scales.get(conditioner, 1.0) * factor
        return replace(self, scales=tuple(sorted(pair for pair in scales.items() if pair[1] != 1.0)))

    def reading(self, prompt: Prompt) -> Branch:
        """The same branch with another prompt."""
        return replace(self, prompt=prompt)


class LinearForm(Mapping[Branch, float]):
    """An immutable sum of branches with coefficients; equal branches merge.

    ``2 * form``, ``form + form`` and ``form - form`` are what they are on paper.
    """

    def __init__(self, terms: Mapping[Branch, float] | Iterable[tuple[Branch, float]] = ()) -> None:
        pairs = terms.items() if isinstance(terms, Mapping) else terms
        merged: dict[Branch, float] = {}
        for branch, coefficient in pairs:
            merged[branch] = merged.get(branch, 0.0) + coefficient
        self._terms = merged

    @staticmethod
    def of(branch: Branch) -> LinearForm:
        """The form ``1 * branch``."""
        return LinearForm({branch: 1.0})

    def __getitem__(self, branch: Branch) -> float:
        return self._terms[branch]

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __add__(self, other: LinearForm) -> LinearForm:
        return LinearForm([*self.items(), *other.items()])

    def __sub__(self, other: LinearForm) -> LinearForm:
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> LinearForm:
        return LinearForm([(branch, factor * coefficient) for branch, coefficient in self.items()])

    def __repr__(self) -> str:
        return " + ".join(f"{coefficient:g} * {branch}" for branch, coefficient in self.items()) or "0"

    def map(self, change: Callable[[Branch], Branch | LinearForm]) -> LinearForm:
        """Replace every branch by another branch, or by a form, and collect."""
        total = LinearForm()
        for branch, coefficient in self.items():
            changed = change(branch)
            total = total + coefficient * (LinearForm.of(changed) if isinstance(changed, Branch) else changed)
        return total

    def null(self, prompt: str = "") -> Branch:
        """The branch that reads ``prompt`` with every conditioner absent.

        What is off in every branch stays off, and what is scaled alike in every branch stays scaled.
        """
        if not self:
            return Branch(prompt=prompt)
        off = frozenset.intersection(*(branch.off for branch in self))
        scales = set.intersection(*(set(branch.scales) for branch in self))
        return Branch(prompt=prompt, off=off, scales=tuple(sorted(scales)))

    def share(self, keep: Callable[[Branch], bool]) -> LinearForm:
        """The terms of some branches, brought to a sum of 1; the whole form where they sum to 0, or there are none."""
        part = LinearForm([(branch, c) for branch, c in self.items() if keep(branch)])
        return 1.0 / part.total * part if abs(part.total) > 1e-6 else self

    def support(self) -> LinearForm:
        """The form without the coefficients that are exactly 0, which cost no evaluation."""
        return LinearForm([(branch, c) for branch, c in self.items() if c != 0.0])

    @property
    def total(self) -> float:
        """The sum of the coefficients; a guidance chain keeps it at 1."""
        return math.fsum(self.values())
