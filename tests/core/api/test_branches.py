"""The algebra of branches and linear forms."""

from __future__ import annotations

import pytest

from weft.core.api.branches import Branch, LinearForm

FULL = Branch.full(["pseudo_word", "grounding"])


def test_fusing_then_classifier_free_is_the_papers_three_branches() -> None:
    alpha, scale = 0.5, 7.5
    form = LinearForm.of(FULL).map(
        lambda b: alpha * LinearForm.of(b) + (1 - alpha) * LinearForm.of(b.without("pseudo_word"))
    )
    form = scale * form + (1 - scale) * LinearForm.of(form.null())
    assert dict(form) == {FULL: 3.75, FULL.without("pseudo_word"): 3.75, Branch(prompt=""): -6.5}
    assert form.total == pytest.approx(1.0)


def test_equal_branches_merge_and_zeros_cost_nothing() -> None:
    form = LinearForm.of(FULL) + LinearForm.of(FULL) - 2.0 * LinearForm.of(FULL) + LinearForm.of(Branch())
    assert dict(form) == {FULL: 0.0, Branch(): 1.0}
    assert list(form.support()) == [Branch()]


def test_absent_is_not_off() -> None:
    assert FULL.without("grounding") != FULL.switched_off("grounding")
    assert FULL.without("grounding").strength("grounding") == 0.0
    assert FULL.scaled("grounding", 0.0) == FULL.switched_off("grounding")
    assert FULL.scaled("grounding", 0.5).strength("grounding") == 0.5


def test_null_keeps_off_what_is_off_everywhere() -> None:
    off = FULL.switched_off("grounding")
    assert LinearForm.of(off).null("x") == Branch(prompt="x", off=frozenset({"grounding"}))
    assert (LinearForm.of(off) + LinearForm.of(FULL)).null().off == frozenset()


def test_null_of_nothing() -> None:
    assert LinearForm().null() == Branch(prompt="")
    assert LinearForm().total == 0.0
    assert repr(LinearForm()) == "0"
