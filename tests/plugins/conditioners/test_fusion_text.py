"""fusion_text: its states by hand, what takes part in which branch, together with pseudo_word, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from helpers import port_plugins, word_model
from helpers.word_model import model, picture, prepared
from safetensors.torch import load_file, save_file

import weft
from weft.core.api.branches import Branch
from weft.core.api.ports import TextStates, WeightDelta
from weft.core.unet.conditions import gather
from weft.plugins.conditioners.fusion_text.networks import FusionTextNetworks
from weft.plugins.conditioners.fusion_text.prompt import extend
from weft.testing import Case, parametrize_with_checks

TOY = weft.Subject("toy", images=[picture(0)], box=(0.25, 0.25, 0.75, 1.0))
SCENE = weft.Scene("a toy on grass", [TOY])
FULL = Branch.full(["fusion_text"])


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def networks() -> FusionTextNetworks:
    tensors = load_file(word_model.folder() / "weft" / "fusion_text.safetensors")
    view = model().view((32, 32))
    return FusionTextNetworks.from_tensors(
        tensors, view.text.model, view.unet, word_model.IMAGE, word_model.TEXT
    )


def draw(scene, *conditioners, **options):
    options = {"steps": 2, "guidance": [weft.ClassifierFree(5.0)], **options}
    return model().generate(scene, conditioners, **options).latents


def states(scene, branch=FULL, **fields) -> torch.Tensor:
    return prepared(scene, weft.FusionText(**fields)).row(branch).context


def plain(prompt) -> torch.Tensor:
    return model().text.encode(model().text.tokens(prompt))


@parametrize_with_checks([weft.FusionText()], Case(pipeline=model, scene=SCENE))
def test_contract(plugin, check) -> None:
    with torch.enable_grad():
        check(plugin)


def test_the_prompt_is_extended_behind_its_words() -> None:
    extended = extend("a toy and a red star on grass. ", ["toy", "star"], "xyz")
    assert extended.text == "a toy and a red star on grass, the toy is xyz, the star is xyz"
    assert [extended.text[slice(*place)] for place in extended.placeholders] == ["xyz", "xyz"]
    assert extended.placeholders[0][0] < extended.placeholders[1][0]
    tokens = model().text.tokens
    # the start token and eight words
    assert tokens(extended.text).ids[:9] == tokens("a toy and a red star on grass.").ids[:9]


@pytest.mark.parametrize("placeholder", ["sks", "capybara"])
def test_states_are_the_computation_by_hand(placeholder) -> None:
    """The deltas merged into transformers' own weights, the words as new rows of its table."""
    first, second = [picture(1), picture(2)], [picture(3)]
    scene = weft.Scene(
        "a toy beside the red star",
        [weft.Subject("red star", images=first), weft.Subject("toy", images=second)],
    )
    text = f"a toy beside the red star, the star is {placeholder}, the toy is {placeholder}"
    tokens = model().text.tokens(text)
    starts = [text.index(placeholder), text.rindex(placeholder)]
    made = networks()
    words = {
        position: word_model.word(made, pictures)
        for start, pictures in zip(starts, (first, second), strict=True)
        for position in tokens.within(start, start + len(placeholder))
    }
    assert len(words) == (
        2 if placeholder == "sks" else 2 * len(model().text.tokens("capybara").within(0, 8))
    )
    text_model = word_model.merged(model().text.model, made.text_deltas())
    by_hand = word_model.states_with_new_words(text_model, tokens.ids, words)
    assert torch.allclose(states(scene, placeholder=placeholder), by_hand, atol=1e-4)


def test_forms() -> None:
    form = weft.FusionText().prepare(SCENE, model().view((32, 32)))
    entries = form.present(model().text.tokens(SCENE.prompt))
    assert isinstance(entries[0], TextStates)
    assert entries[0].positions.tolist() == list(range(77))
    assert all(isinstance(entry, WeightDelta) and entry.target == "unet" for entry in entries[1:])
    assert len(entries) == 1 + len(networks().deltas())
    assert form.absent(model().text.tokens(SCENE.prompt)) == ()
    for other in ("", "a red star", "toys"):
        assert form.present(model().text.tokens(other)) == ()


def test_only_the_branches_subjects_get_a_clause() -> None:
    scene = weft.Scene("a toy and a star", [weft.Subject("star", images=[picture(5)]), TOY])
    toy = states(scene, FULL.reading("toy"))
    assert torch.allclose(toy, states(weft.Scene("toy", [TOY])), atol=1e-5)
    bare = weft.Scene("a toy and a star", [TOY, weft.Subject("star", box=(0, 0, 0.5, 0.5))])
    assert torch.equal(states(bare), states(weft.Scene("a toy and a star", [TOY])))
    guidance = [weft.Composable(3.0, subjects=(2.0, 2.0))]
    assert torch.isfinite(draw(scene, weft.FusionText(), guidance=guidance)).all()


def test_other_branches_see_nothing_of_the_retrained_text_encoder() -> None:
    scene = prepared(SCENE, weft.FusionText())
    assert (scene.row(FULL).context - plain(SCENE.prompt)).norm(dim=-1).min() > 1e-3
    for branch in (Branch(), FULL.switched_off("fusion_text"), FULL.reading("")):
        assert torch.equal(scene.row(branch).context, plain(scene.tokens(branch).text))
        assert not scene.row(branch).contribution


def test_gradients_reach_every_part_and_not_the_text_transformer() -> None:
    with torch.enable_grad():
        made = FusionTextNetworks.create(model().text.model, model().unet, 24, 32, rank=2, text_rank=3)
        ids = torch.tensor([model().text.tokens("a toy, the toy is sks").ids] * 2)
        places = torch.zeros(2, 1, 77, dtype=torch.bool)
        places[0, 0, 7] = True
        words = made.words(torch.randn(2, 1, 1, 24), torch.ones(2, 1, 1, dtype=torch.bool))
        read = made.states(model().text, ids, words, places)
        read[0, 9, 0].backward()
    assert all(parameter.grad.any() for parameter in made.word.parameters())
    assert all(pair.lora_B.grad.any() for pair in made.text.by_path().values())
    assert all(parameter.grad is None for parameter in model().text.model.parameters())
    # untrained deltas change nothing
    assert torch.allclose(read[1], plain("a toy, the toy is sks"), atol=1e-6)
    assert {delta.down.shape[0] for delta in made.text_deltas()} == {3}
    assert {delta.down.shape[0] for delta in made.deltas()} == {2}


def test_scenes_of_one_generation_share_their_deltas() -> None:
    view = model().view((32, 32))
    scenes = [SCENE, weft.Scene("one red star", [weft.Subject("star", images=[picture(5)])])]
    rows = [
        weft.FusionText().prepare(scene, view).present(view.text.tokens(scene.prompt)) for scene in scenes
    ]
    groups = gather([torch.zeros(77, 32)] * 2, rows).deltas
    assert len(groups) == len(networks().deltas())
    assert all(group.rows is None for group in groups)


def test_fusing_at_its_ends_is_the_plain_text_and_the_multimodal_branch() -> None:
    def fused(alpha):
        chain = [weft.Fusing(alpha, "fusion_text"), weft.ClassifierFree(5.0)]
        return draw(SCENE, weft.FusionText(), guidance=chain)

    assert torch.equal(fused(0.0), draw(SCENE))
    assert torch.equal(fused(1.0), draw(SCENE, weft.FusionText()))
    assert not torch.allclose(fused(0.5), fused(1.0), atol=1e-3)


def test_both_ways_together() -> None:
    """Listed after fusion_text, pseudo_word writes its words over fusion_text's states; before it, under them."""
    fusion, word = weft.FusionText(), weft.PseudoWord()
    full = Branch.full(["fusion_text", "pseudo_word"])
    after = prepared(SCENE, fusion, word).row(full)
    own = prepared(SCENE, word).row(Branch.full(["pseudo_word"])).context
    assert torch.equal(after.context[2], own[2])
    others = [i for i in range(77) if i != 2]
    assert torch.equal(after.context[others], states(SCENE)[others])
    assert torch.equal(prepared(SCENE, word, fusion).row(full).context, states(SCENE))
    both = draw(SCENE, fusion, word)
    for one, other in ((fusion, "pseudo_word"), (word, "fusion_text")):
        chain = [weft.Fusing(0.0, other), weft.ClassifierFree(5.0)]
        assert torch.equal(draw(SCENE, fusion, word, guidance=chain), draw(SCENE, one))
        assert not torch.allclose(both, draw(SCENE, one), atol=1e-4)


@pytest.mark.parametrize("other", port_plugins.ALL, ids=lambda other: other.name)
def test_with_every_port_in_either_order(other) -> None:
    ours, theirs = weft.FusionText(), other()
    one, two = draw(SCENE, theirs, ours), draw(SCENE, ours, theirs)
    assert torch.isfinite(one).all()
    assert not torch.allclose(two, draw(SCENE, theirs), atol=1e-4)
    if other is not port_plugins.OtherPrompt:
        assert torch.allclose(one, two, atol=1e-4)


def test_a_prompt_without_room_names_the_subject() -> None:
    prompt = "very " * 66 + "small toy and star"
    subjects = [TOY, weft.Subject("star", images=[picture(5)])]
    assert states(weft.Scene(prompt, [TOY])).isfinite().all()
    with pytest.raises(
        weft.UserError, match=r"subject 'star', field 'images': expected a prompt that leaves room"
    ):
        draw(weft.Scene(prompt, subjects), weft.FusionText())


def test_scenes_and_fields_that_it_cannot_serve_are_refused(tmp_path) -> None:
    bare = weft.Scene(SCENE.prompt, [weft.Subject("toy")])
    with pytest.raises(
        weft.UserError, match=r"fusion_text, scene .*: expected a subject with reference images"
    ):
        draw(bare, weft.FusionText())
    missing = weft.Scene(SCENE.prompt, [weft.Subject("toy", images=[tmp_path / "none.png"])])
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'images': expected a file that exists"):
        draw(missing, weft.FusionText())
    for placeholder in ("", " ", "two words", ","):
        with pytest.raises(weft.UserError, match=r"field 'placeholder'"):
            weft.FusionText(placeholder)


def test_weights_that_do_not_fit_name_key_and_shapes(tmp_path) -> None:
    tensors = networks().state_dict()
    key = "text.encoder.layers.0.mlp.fc1.lora_A"
    for changes, message in (
        ({key: torch.zeros(2, 9)}, rf"'{key}': expected shape \(2, 32\), found \(2, 9\)"),
        ({"word.hidden.bias": torch.zeros(5)}, r"'word.hidden.bias': expected shape \(32,\), found \(5,\)"),
        (
            {"text.nowhere.lora_A": torch.zeros(2, 2)},
            r"expected no other tensors, found 'text.nowhere.lora_A'",
        ),
    ):
        save_file(tensors | changes, tmp_path / "odd.safetensors")
        with pytest.raises(weft.UserError, match=r"weights of 'fusion_text', file 'odd.saf.*" + message):
            draw(SCENE, weft.FusionText(weights=tmp_path / "odd.safetensors"))
    del tensors["word.output.bias"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(weft.UserError, match=r"expected a tensor 'word.output.bias', found none"):
        draw(SCENE, weft.FusionText(weights=tmp_path / "less.safetensors"))
