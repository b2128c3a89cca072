"""Subjects that are shown by images, and the nouns that stand for them. Free of torch."""

from __future__ import annotations

import re

from weft.plugin import Scene, Subject, UserError, locate

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def shown_subjects(scene: Scene, plugin: str) -> tuple[Subject, ...]:
    """The subjects of a scene that have images.

    Raises:
        UserError: none has.
    """
    subjects = tuple(subject for subject in scene.subjects if subject.images)
    if not subjects:
        place, hint = f"{plugin}, scene '{scene.prompt}'", "Set 'images' in a subject."
        raise UserError(place, "a subject with reference images", "none", hint)
    return subjects


def noun_span(prompt: str, subject: Subject) -> tuple[int, int]:
    """Character range of the last word of a subject's phrase, its head noun, in a prompt that holds the phrase."""
    start, end = locate(prompt, subject.phrase, subject.occurrence)
    words = [word.span() for word in _WORD.finditer(prompt, start, end)]
    return words[-1] if words else (start, end)


def check_nouns(scene: Scene, plugin: str) -> None:
    """Refuse a scene whose subjects with images do not each have a noun of their own.

    Raises:
        UserError: no subject has an image, or two of them share a noun; it names the subject.
    """
    spans: list[tuple[int, int]] = []
    subjects = shown_subjects(scene, plugin)
    for subject in subjects:
        start, end = noun_span(scene.prompt, subject)
        for other, (first, last) in zip(subjects, spans, strict=False):
            if start < last and first < end:
                raise UserError(
                    f"subject '{subject.phrase}', field 'phrase'",
                    "a noun of its own, for the word of its images",
                    f"'{scene.prompt[start:end]}', which is the noun of subject '{other.phrase}' too",
                )
        spans.append((start, end))
