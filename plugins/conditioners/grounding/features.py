"""What grounding reads of a phrase and of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import PromptTokens, TextEncoder, UserError, read_tensors

NORM = 28.7
"""Length of a projected image's feature in the released code."""


@torch.no_grad()
def phrase_features(
    text: TextEncoder, phrases: Sequence[str], like: PromptTokens | None = None
) -> Float[Tensor, "n d"]:
    """Pooled text states of phrases, each encoded on its own: at its end token, after the final layer norm.

    Args:
        text: the encoder.
        phrases: at least one.
        like: a prompt whose new words they may hold.

    Raises:
        UserError: a phrase is longer than the text encoder reads.
    """
    read = [text.tokens(phrase, None if like is None else like.words) for phrase in phrases]
    for phrase, tokens in zip(phrases, read, strict=True):
        if tokens.truncated_at is not None:
            raise UserError(
                f"subject '{shorten(phrase, 60, placeholder=' ...')}', field 'phrase'",
                f"a phrase within the {len(tokens.ids)} tokens that the text encoder reads",
                f"one that the tokenizer cuts off after '...{phrase[: tokens.truncated_at][-30:]}'",
            )
    # shorter than the model's length: states of a causal transformer do not see the padding behind them
    ends = [max((i for i, (a, b) in enumerate(tokens.offsets) if b > a), default=0) + 1 for tokens in read]
    most = max(ends) + 1
    ids = torch.tensor([tokens.ids[:most] for tokens in read], device=text.device)
    mask = torch.arange(most, device=text.device) <= torch.tensor(ends, device=text.device)[:, None]
    pooled: Tensor = text.model(input_ids=ids, attention_mask=mask.long()).pooler_output
    for number, tokens in enumerate(read):
        if tokens.embeddings:
            pooled[number] = text.states(tokens)[0, ends[number]]
    return pooled


def projected(pooled: Float[Tensor, "n e"], matrix: Float[Tensor, "d e"]) -> Float[Tensor, "n d"]:
    """An image's pooled features in the space of phrases' features, at the length `NORM`."""
    features = pooled @ matrix.T.to(pooled)
    unit: Tensor = features / features.norm(dim=-1, keepdim=True)
    return unit * NORM


def read_projection(path: Path) -> Float[Tensor, "d e"]:
    """The matrix from images' features to phrases' of a local file.

    Args:
        path: a ``.safetensors`` file with ``project.weight`` (diffusers' `CLIPImageProjection`), or an open_clip
            checkpoint, whose ``text_projection`` is that matrix.

    Raises:
        UserError: it holds neither, or not a matrix.
    """
    tensors = read_tensors(path)
    for name in ("project.weight", "text_projection"):
        if name in tensors:
            matrix = tensors[name]
            if matrix.ndim != 2:
                raise UserError(
                    f"file '{path.name}', tensor '{name}'", "a matrix", f"shape {tuple(matrix.shape)}"
                )
            return matrix
    raise UserError(f"file '{path.name}'", "a tensor 'project.weight' or 'text_projection'", "none")
