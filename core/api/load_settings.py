"""How a model is loaded: where it runs, in which precision, which of its files are read. Free of torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from ..errors import UserError, did_you_mean
from ..scene.record import record

Dtype = Literal["float32", "float16", "bfloat16", "float64"]
"""Of parameters."""
Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a UNet was trained to predict: the noise, the velocity, or the latents without noise."""
Device = Annotated[str, Field(pattern=r"^[a-z]+(:\d{1,2})?$")]
Variant = Annotated[str, Field(pattern=r"^\w{1,40}$")]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

OTHER_NAMES = {
    "fp32": "float32",
    "float": "float32",
    "full": "float32",
    "fp16": "float16",
    "half": "float16",
    "f16": "float16",
    "bf16": "bfloat16",
    "fp64": "float64",
    "double": "float64",
}
"""What other programs call a precision."""

OTHER_ARGUMENTS = {
    "torch_dtype": "It is called 'dtype'.",
    "precision": "It is called 'dtype'.",
    "fp16": "Write dtype: float16, or variant: fp16 for the files of that name.",
    "half": "Write dtype: float16.",
    "revision": "Only the newest is fetched; name a folder of your own for another.",
    "use_safetensors": "Nothing but safetensors is read.",
    "safety_checker": "There is none.",
    "trust_remote_code": "Code of a model is never run.",
    "enable_vae_slicing": "It is called 'vae_slicing'.",
    "enable_vae_tiling": "It is called 'vae_tiling'.",
    "torch_device": "It is called 'device'.",
}
"""What other programs call a setting."""


@record
class LoadSettings:
    """How a model is loaded.

    Args:
        device: where it runs, such as cpu, cuda or cuda:1; a GPU when there is one, by default.
        dtype: of parameters; float32 on the CPU and float16 on a GPU, by default.
        variant: of the files of weights, such as fp16; by default those of full precision where there is a choice.
        vae: a file or a folder of another autoencoder; checkpoints without one need it.
        vae_slicing: decode the images of a batch one by one, in less memory.
        vae_tiling: decode large images in tiles, in less memory; seams may be seen.
        prediction_type: what the model was trained to predict, where its files do not say, or not what is right.
    """

    device: Device | None = None
    dtype: Dtype | None = None
    variant: Variant | None = None
    vae: Path | None = None
    vae_slicing: bool = False
    vae_tiling: bool = False
    prediction_type: Prediction | None = None

    def options(self) -> dict[str, Any]:
        """What is not as by default, as arguments of `weft.load`."""
        fields = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {field.name: value for field, value in fields if value != field.default}


def dtype_name(dtype: object) -> Dtype:
    """The name of a precision, given as torch has it or by its name.

    Raises:
        UserError: there is none of the name.
    """
    name = str(dtype).removeprefix("torch.")
    for known in DTYPES:
        if name == known:
            return known
    meant = OTHER_NAMES.get(name.lower())
    hint = f"Did you mean '{meant}'?" if meant else did_you_mean(name, DTYPES)
    raise UserError("field 'dtype'", f"one of {', '.join(DTYPES)}", f"'{name}'", hint)


def prediction_name(prediction: object) -> Prediction | None:
    """What a UNet predicts, by its name; None for what its files say.

    Raises:
        UserError: there is none of the name.
    """
    if prediction is None:
        return None
    for known in PREDICTIONS:
        if prediction == known:
            return known
    hint = did_you_mean(str(prediction), PREDICTIONS)
    raise UserError("field 'prediction_type'", f"one of {', '.join(PREDICTIONS)}", f"'{prediction}'", hint)
