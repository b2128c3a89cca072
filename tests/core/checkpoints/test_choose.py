"""Which weights of a folder are read, and which of a hub's repository are fetched."""

from __future__ import annotations

import pytest

from weft import UserError
from weft.core.checkpoints.choose import chosen_weights
from weft.core.checkpoints.hub import wanted_files

PLAIN, HALF, BRAIN, LAST = (
    f"diffusion_pytorch_model{x}.safetensors" for x in ("", ".fp16", ".bf16", ".non_ema")
)
SHARDS = [f"diffusion_pytorch_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
HALF_SHARDS = [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]


@pytest.mark.parametrize(
    ("names", "variant", "chosen"),
    [
        ([PLAIN], None, [PLAIN]),
        ([PLAIN, HALF, BRAIN, LAST], None, [PLAIN]),
        ([PLAIN, HALF, BRAIN, LAST], "bf16", [BRAIN]),
        ([PLAIN, HALF, BRAIN, LAST], "non_ema", [LAST]),
        ([HALF, BRAIN], None, [HALF]),
        ([BRAIN], None, [BRAIN]),
        ([*SHARDS, "diffusion_pytorch_model.safetensors.index.json"], None, SHARDS),
        ([*HALF_SHARDS, *SHARDS], "fp16", HALF_SHARDS),
        ([*HALF_SHARDS, *SHARDS], None, SHARDS),
        ([PLAIN, *SHARDS], None, [PLAIN]),
        ([f"._{PLAIN}", PLAIN, ".DS_Store"], None, [PLAIN]),
        (["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"], None, ["model.safetensors"]),
    ],
)
def test_one_precision_and_all_its_shards(names, variant, chosen) -> None:
    assert chosen_weights(reversed(names), "here", variant) == chosen


@pytest.mark.parametrize(
    ("names", "variant", "words"),
    [
        ([], None, "found none."),
        ([LAST], None, "the variants non_ema. Name one: weft.load(model, variant='non_ema')"),
        (["diffusion_pytorch_model.bin"], None, "pickled weights alone (diffusion_pytorch_model.bin)"),
        ([f"._{PLAIN}"], None, "found none."),
        ([PLAIN, HALF], "fp61", "one of fp16, found none. Did you mean 'fp16'?"),
        ([PLAIN], "fp16", "one of none"),
        (SHARDS[:2], None, "all 3 shards, found 2; number 3 is missing"),
        ([PLAIN, "other.safetensors"], None, f"{PLAIN}, other.safetensors. Move the others away."),
    ],
)
def test_what_is_there_instead_and_what_to_do(names, variant, words) -> None:
    with pytest.raises(UserError) as refused:
        chosen_weights(names, "here", variant)
    assert words in str(refused.value)


SD15 = [
    ".gitattributes", "README.md", "model_index.json", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.safetensors", "v1-inference.yaml", "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/model.fp16.safetensors",
    "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "tokenizer/tokenizer_config.json",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin", "unet/config.json", *(f"unet/{name}" for name in (PLAIN, HALF, LAST)),
    "unet/diffusion_pytorch_model.bin", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
]  # fmt: skip
WEIGHTS = {
    None: {f"unet/{PLAIN}", f"vae/{PLAIN}", "text_encoder/model.safetensors"},
    "fp16": {f"unet/{HALF}", f"vae/{HALF}", "text_encoder/model.fp16.safetensors"},
    "non_ema": {f"unet/{LAST}", f"vae/{PLAIN}", "text_encoder/model.safetensors"},
}


@pytest.mark.parametrize("variant", WEIGHTS)
def test_only_what_is_read_is_fetched(variant) -> None:
    wanted = wanted_files(SD15, variant)
    assert {name for name in wanted if name.endswith(".safetensors")} == WEIGHTS[variant]
    assert not {name.split("/")[0] for name in wanted} & {"safety_checker", "feature_extractor"}
    assert {"model_index.json", "unet/config.json", "tokenizer/merges.txt"} <= set(wanted)
    assert len(set(wanted)) == len(wanted)


def test_weights_for_a_conditioner_are_the_unets() -> None:
    assert set(wanted_files(SD15, None, ("unet",))) == {
        "model_index.json",
        "unet/config.json",
        f"unet/{PLAIN}",
    }


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(UserError, match="pickled weights alone"):
        wanted_files(["unet/config.json", "unet/diffusion_pytorch_model.bin"])
