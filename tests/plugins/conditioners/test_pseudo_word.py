"""pseudo_word: h_u by hand, what takes part in which branch, together with other plugins, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from helpers import port_plugins, word_model
from helpers.word_model import model, picture, prepared
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import weft
from weft.core.api.branches import Branch
from weft.core.api.image_encoder import ARCHITECTURE
from weft.core.api.ports import TextStates, WeightDelta
from weft.core.api.text_encoder import TextEncoder
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from weft.plugins.shared.subject_words import noun_positions, write_words
from weft.testing import Case, parametrize_with_checks, random_unet

TOY = weft.Subject("toy", images=[picture(0)], box=(0.25, 0.25, 0.75, 1.0))
SCENE = weft.Scene("a toy on grass", [TOY])
FULL = Branch.full(["pseudo_word"])


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def networks() -> PseudoWordNetworks:
    tensors = load_file(word_model.folder() / "weft" / "pseudo_word.safetensors")
    return PseudoWordNetworks.from_tensors(tensors, model().unet, word_model.IMAGE, word_model.TEXT)


def draw(scene, *conditioners, **options):
    options = {"steps": 2, "guidance": [weft.ClassifierFree(5.0)], **options}
    return model().generate(scene, conditioners, **options).latents


def states(scene, branch=FULL) -> torch.Tensor:
    return prepared(scene, weft.PseudoWord()).row(branch).context


def plain(prompt) -> torch.Tensor:
    return model().text.encode(model().text.tokens(prompt))


@parametrize_with_checks([weft.PseudoWord()], Case(pipeline=model, scene=SCENE))
def test_contract(plugin, check) -> None:
    with torch.enable_grad():
        check(plugin)


def test_h_u_is_the_computation_by_hand() -> None:
    """Two subjects, one of two tokens and two images; the new words are rows of transformers' own table."""
    prompt = "a small capybara beside the red star on grass"
    capybara, star = [picture(1), picture(2)], [picture(3)]
    scene = weft.Scene(
        prompt, [weft.Subject("red star", images=star), weft.Subject("small capybara", images=capybara)]
    )
    tokens = model().text.tokens(prompt)
    nouns = noun_positions(tokens, scene.subjects)
    assert [prompt[slice(*tokens.offsets[i])] for i in nouns[0]] == ["star"]
    assert "".join(prompt[slice(*tokens.offsets[i])] for i in nouns[1]) == "capybara"
    assert len(nouns[1]) > 1

    first, second = (word_model.word(networks(), pictures) for pictures in (star, capybara))
    words = dict.fromkeys(nouns[1], second) | dict.fromkeys(nouns[0], first)
    table = model().text.model.get_input_embeddings().weight
    words = {i: word + networks().keep * table[tokens.ids[i]] for i, word in words.items()}
    by_hand = word_model.states_with_new_words(model().text.model, tokens.ids, words)
    written = sorted(words)
    others = [i for i in range(77) if i not in words]
    unified = states(scene)
    assert torch.allclose(unified[written], by_hand[written], atol=1e-5)
    assert torch.equal(unified[others], plain(prompt)[others])
    assert (unified[written] - plain(prompt)[written]).norm(dim=-1).min() > 0.1


def test_pictures_of_a_subject_are_averaged_and_only_known_ones_read() -> None:
    features = torch.randn(1, 2, 3, 24, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[[True, False, True], [False, False, False]]])
    made = networks()
    words = made.words(features.masked_fill(~known[..., None], torch.nan), known)
    alone = made.words(features[:, :1].transpose(1, 2), torch.ones(1, 3, 1, dtype=torch.bool))[0]
    assert torch.allclose(words[0, 0], (alone[0] + alone[2]) / 2, atol=1e-6)
    assert not words[0, 1].any()


def test_gradients_reach_the_network_and_not_the_text_transformer() -> None:
    with torch.enable_grad():
        made = PseudoWordNetworks.create(model().unet, 24, 32)
        features, known = torch.randn(2, 1, 1, 24), torch.ones(2, 1, 1, dtype=torch.bool)
        ids = torch.tensor([model().text.tokens("a toy on grass").ids] * 2)
        places = torch.zeros(2, 1, 77, dtype=torch.bool)
        places[0, 0, 2] = True  # the second sample's subject takes no part
        unified = made.states(model().text, ids, made.words(features, known), places)
        unified[0, 2, 0].backward()
    assert all(parameter.grad.any() for parameter in made.word.parameters())
    assert all(parameter.grad is None for parameter in model().text.model.parameters())
    assert torch.equal(unified[1], plain("a toy on grass"))
    assert not made.deltas()


def test_a_word_is_written_at_its_places_only() -> None:
    table, words = torch.randn(2, 5, 3), torch.randn(2, 2, 3)
    places = torch.zeros(2, 2, 5, dtype=torch.bool)
    places[0, 0, 1:3] = places[0, 1, 4] = True
    written = write_words(table, words, places)
    assert torch.equal(written[0], torch.stack([table[0, 0], *[words[0, 0]] * 2, table[0, 3], words[0, 1]]))
    assert torch.equal(written[1], table[1])
    beside_it = write_words(table, words, places, keep=0.5)
    assert torch.allclose(beside_it[0, 1], words[0, 0] + 0.5 * table[0, 1])
    assert torch.equal(beside_it[0, 0], table[0, 0])


def test_subjects_without_pictures_stay_words() -> None:
    prompt = "a toy and a red star on grass"
    alone = weft.Scene(prompt, [TOY])
    both = weft.Scene(prompt, [weft.Subject("red star", box=(0, 0, 0.5, 0.5)), TOY])
    assert torch.equal(states(both), states(alone))


def test_forms() -> None:
    form = weft.PseudoWord().prepare(SCENE, model().view((32, 32)))
    entries = form.present(model().text.tokens(SCENE.prompt))
    assert [type(entry) for entry in entries[:1]] == [TextStates]
    assert len(entries[1:]) == len(networks().deltas())
    assert {type(entry) for entry in entries[1:]} == {WeightDelta}
    assert form.absent(model().text.tokens(SCENE.prompt)) == ()
    for other in ("", "a red star", "toys"):
        assert form.present(model().text.tokens(other)) == ()
    assert len(form.present(model().text.tokens("toy"))) == len(entries)


def test_the_deltas_are_merged_weights() -> None:
    """The prediction with the conditioner is that of a UNet whose weights hold the deltas, reading h_u."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    row = prepared(SCENE, weft.PseudoWord()).row(FULL)
    ours = UNetForward(model().unet)(latents, torch.tensor(501), gather([row.context], [row.contribution]))
    changed = word_model.merged(model().unet, networks().deltas())
    assert torch.allclose(changed(latents, 501, row.context[None])[0], ours, atol=1e-4)
    assert not torch.allclose(model().unet(latents, 501, row.context[None])[0], ours, atol=1e-3)


def test_scenes_of_one_generation_share_their_deltas() -> None:
    view = model().view((32, 32))
    scenes = [SCENE, weft.Scene("one red star", [weft.Subject("star", images=[picture(5)])])]
    rows = [
        weft.PseudoWord().prepare(scene, view).present(view.text.tokens(scene.prompt)) for scene in scenes
    ]
    groups = gather([torch.zeros(77, 32)] * 2, rows).deltas
    assert len(groups) == len(networks().deltas())
    assert all(group.rows is None for group in groups)


def test_fusing_at_its_ends_is_the_plain_text_and_the_multimodal_branch() -> None:
    def fused(alpha):
        return draw(SCENE, weft.PseudoWord(), guidance=[weft.Fusing(alpha), weft.ClassifierFree(5.0)])

    assert torch.equal(fused(0.0), draw(SCENE))
    assert torch.equal(fused(1.0), draw(SCENE, weft.PseudoWord()))
    assert not torch.allclose(fused(0.5), fused(1.0), atol=1e-3)
    assert not torch.allclose(fused(0.5), fused(0.0), atol=1e-3)


def test_half_strength_lies_between_and_none_is_absence() -> None:
    assert torch.equal(draw(SCENE, weft.PseudoWord(strength=0.0)), draw(SCENE))
    half = prepared(SCENE, weft.PseudoWord(strength=0.5)).row(FULL)
    between = torch.lerp(plain(SCENE.prompt), states(SCENE), 0.5)
    assert torch.allclose(half.context, between, atol=1e-6)
    assert {entry.strength for entry in half.contribution} == {0.5}


def test_a_subjects_phrase_alone_holds_its_own_word_only() -> None:
    scene = weft.Scene("a toy and a star", [TOY, weft.Subject("star", images=[picture(5)])])
    one = prepared(scene, weft.PseudoWord())
    toy = one.row(FULL.reading("toy"))
    alone = prepared(weft.Scene("toy", [TOY]), weft.PseudoWord()).row(FULL)
    assert torch.allclose(toy.context, alone.context, atol=1e-5)
    guidance = [weft.Composable(3.0, subjects=(2.0, 2.0))]
    assert torch.isfinite(draw(scene, weft.PseudoWord(), guidance=guidance)).all()


@pytest.mark.parametrize("other", port_plugins.ALL, ids=lambda other: other.name)
def test_with_every_port_in_either_order(other) -> None:
    """Both take part, whichever comes first; only an edit of all text states must come before the words."""
    ours, theirs = weft.PseudoWord(), other()
    one, two = draw(SCENE, theirs, ours), draw(SCENE, ours, theirs)
    assert torch.isfinite(one).all()
    if other is not port_plugins.OtherPrompt:
        assert torch.allclose(one, two, atol=1e-4)
    for alone in (ours, theirs):
        assert not torch.allclose(one, draw(SCENE, alone), atol=1e-4)


def test_a_prompt_that_cuts_the_subject_off_is_refused() -> None:
    scene = weft.Scene("very " * 80 + "small toy", [TOY])
    with pytest.raises(
        weft.UserError, match=r"subject 'toy', field 'phrase': expected a phrase within the 77"
    ):
        draw(scene, weft.PseudoWord())


def truncated(path: Path) -> Path:
    picture(0).save(path)
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.png", r"expected a file that exists, found '.*none.png'"),
        (lambda folder: truncated(folder / "cut.png"), r"expected a whole image"),
        (lambda folder: Image.open(truncated(folder / "open.png")), r"expected a whole image"),
        (lambda folder: Path(__file__), r"expected an image \(PNG, JPEG"),
        (lambda folder: folder, r"expected a file that exists"),
        (lambda folder: Image.new("1", (8000, 5000)), r"expected at most 32 megapixels"),
        (
            lambda folder: Image.new("LAB", (8, 8)),
            r"expected an image in a mode",
        ),
    ],
    ids=["missing", "truncated", "opened", "text", "folder", "large", "mode"],
)
def test_pictures_that_cannot_be_read_name_subject_and_field(tmp_path, make, message) -> None:
    source = make(tmp_path)
    scene = weft.Scene(SCENE.prompt, [weft.Subject("toy", images=[picture(0), source])])
    place = r"subject 'toy', field 'images' \(2 of 2\): "
    with pytest.raises(weft.UserError, match=place + message):
        draw(scene, weft.PseudoWord())
    if isinstance(source, Image.Image):
        source.close()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_other_modes_are_read_as_the_colours_they_show(mode) -> None:
    gray = picture(0).convert("L")
    if mode == "I;16":
        image, shown = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257), gray
    elif mode == "LA":
        image, shown = gray.convert(mode), gray
    else:
        image = picture(0).convert(mode)
        shown = image
    assert image.mode == mode
    read, same, other = (
        states(weft.Scene(SCENE.prompt, [weft.Subject("toy", images=[one])]))
        for one in (image, shown.convert("RGB"), picture(1))
    )
    torch.testing.assert_close(read, same, atol=1e-6, rtol=0)
    assert (read - other).abs().max() > 1e-4


def test_scenes_that_it_cannot_serve_are_refused() -> None:
    bare = weft.Scene(SCENE.prompt, [weft.Subject("toy")])
    with pytest.raises(
        weft.UserError, match=r"pseudo_word, scene .*: expected a subject with reference images"
    ):
        draw(bare, weft.PseudoWord())
    twice = weft.Scene("a red star", [weft.Subject(p, images=[picture(0)]) for p in ("star", "red star")])
    with pytest.raises(
        weft.UserError, match=r"subject 'red star', field 'phrase': expected a noun of its own"
    ):
        draw(twice, weft.PseudoWord())


def test_weights_that_do_not_fit_name_key_and_shapes(tmp_path) -> None:
    tensors = networks().state_dict()
    key = "unet.conv_in.lora_B"
    for changes, message in (
        ({key: torch.zeros(9, 2, 1, 1)}, rf"'{key}': expected shape \(32, 2, 1, 1\), found \(9, 2, 1, 1\)"),
        ({"word.norm.weight": torch.zeros(25)}, r"'word.norm.weight': expected shape \(24,\), found \(25,\)"),
        ({"word.output.weight": torch.zeros(40, 32)}, r"'word.output.weight': expected shape \(32, 32\)"),
        (
            {"unet.nowhere.lora_A": torch.zeros(2, 2)},
            r"expected no other tensors, found 'unet.nowhere.lora_A'",
        ),
    ):
        save_file(tensors | changes, tmp_path / "odd.safetensors")
        with pytest.raises(weft.UserError, match=r"weights of 'pseudo_word', file 'odd.saf.*" + message):
            draw(SCENE, weft.PseudoWord(weights=tmp_path / "odd.safetensors"))
    with pytest.raises(weft.UserError, match=r"none.safetensors': expected a file that exists"):
        draw(SCENE, weft.PseudoWord(weights=tmp_path / "none.safetensors"))


def test_a_hidden_width_of_its_own_and_a_file_of_its_own(tmp_path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = PseudoWordNetworks.create(model().unet, 24, 32, hidden=7)
    save_file(made.state_dict(), tmp_path / "small.safetensors")
    conditioner = weft.PseudoWord(weights=tmp_path / "small.safetensors")
    row = prepared(SCENE, conditioner).row(FULL)
    assert (row.context != plain(SCENE.prompt)).any(dim=-1).nonzero().tolist() == [[2]]
    assert not row.contribution


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_full_size_image_tower_from_a_local_file(tmp_path) -> None:
    """ViT-L/14 in half precision on disk, for a text transformer of Stable Diffusion 1.x's width."""
    config = open_clip.get_model_config(ARCHITECTURE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        visual = CLIP(**config).visual.half().float().eval()
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
        networks = PseudoWordNetworks.create(random_unet(cross_attention_dim=768), 768, 768, rank=4)
    tensors = {f"visual.{name}": tensor.half() for name, tensor in visual.state_dict().items()}
    save_file(tensors, tmp_path / "ViT-L-14.safetensors")
    save_file(networks.state_dict(), tmp_path / "pseudo_word.safetensors")
    pixels = open_clip.image_transform(224, is_train=False)(picture(0))
    pooled = visual(pixels[None])
    del tensors, visual

    small = model()
    encoder = TextEncoder(small.text.tokenizer, text)
    wide = weft.Pipeline("wide", encoder, random_unet(cross_attention_dim=768), small.vae, small.scheduler)
    conditioner = weft.PseudoWord(
        weights=tmp_path / "pseudo_word.safetensors", image_encoder=tmp_path / "ViT-L-14.safetensors"
    )
    tower = wide.view((32, 32)).image_tower(conditioner.image_encoder)
    features = tower(tower.pixels([picture(0)]))
    assert torch.allclose(features.pooled, pooled, atol=1e-5)
    assert features.patches.shape == (1, 256, 1024)

    row = PreparedScene(SCENE, wide.view((32, 32)), {"pseudo_word": conditioner}).row(FULL)
    word = networks.words(pooled[:, None, None], torch.ones(1, 1, 1, dtype=torch.bool))[0, 0]
    tokens = encoder.tokens(SCENE.prompt)
    word = word + text.get_input_embeddings().weight[tokens.ids[2]]
    by_hand = word_model.states_with_new_words(text, tokens.ids, {2: word})
    assert torch.allclose(row.context[2], by_hand[2], atol=1e-4)
    assert torch.equal(row.context[3:], encoder.encode(tokens)[3:])
    without, given = (wide.generate(SCENE, plugins, steps=1).latents for plugins in ((), (conditioner,)))
    assert not torch.equal(without, given)
