"""Grounding: phrases, images and keypoints at places of the image (GLIGEN, Li et al. 2023, arXiv 2301.07093)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from weft.plugin import Plugin, Prepared, UserError, did_you_mean, hookimpl, record

from ...shared.trained import TrainedOnPictures

if TYPE_CHECKING:
    from weft.plugin import ModelView, Scene

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""Names in `Subject.keypoints`, those of COCO in its order."""


@record
class Grounding(TrainedOnPictures):
    """Puts subjects where their boxes are, or persons where their keypoints are.

    Every subject with a box becomes a token of its phrase, its image or both with the Fourier features of its box;
    gated self-attention reads the tokens between self- and cross-attention of every transformer block (sections 3.1
    and 3.2). There are always ``max_objects`` tokens (twice as many for weights that know images); the rest of them,
    and all of them in a branch without grounding, are the trained null. Strength is beta of equation 8.

    Weights that widen ``conv_in`` also read the scene's source and what is kept of it (inpainting).

    Args:
        weights: a ``.safetensors`` file with diffusers' names or those of GLIGEN's repository, alone, within a whole
            UNet or a whole checkpoint; a folder of diffusers, or its hub id. By default the model folder's own
            ``weft/grounding.safetensors``, or what its UNet holds (diffusers' folders of GLIGEN).
        mode: what is known of a subject: ``text``, its phrase in its box; ``image``, its reference images in its box;
            ``text_image``, both, or the phrase alone where it has no images; ``keypoints``, its keypoints.
        max_objects: tokens of each kind; 30 in the released code. Keypoint weights say it themselves.
        image_projection: a ``.safetensors`` file with the matrix that takes images' features to those of phrases:
            diffusers' `CLIPImageProjection`, or the open_clip checkpoint itself. Without it they are taken as they are.

    Raises:
        UserError: on `generate`: no subject has a box (or keypoints), there are more than ``max_objects``, a subject
            has no image in the mode ``image``, a phrase is too long, an image cannot be read, or weights are missing,
            do not fit or do not know the mode.
    """

    name: ClassVar[str] = "grounding"
    scene_fields: ClassVar[frozenset[str]] = frozenset(
        {"subjects.box", "subjects.images", "subjects.keypoints", "subjects.mask", "source", "edit_mask"}
    )

    mode: Annotated[
        Literal["text", "image", "text_image", "keypoints"],
        Field(description="what of a subject is put in its place"),
    ] = "text"
    max_objects: Annotated[int, Field(ge=1, description="grounding tokens of each kind")] = 30
    image_projection: Annotated[
        Path | None, Field(description="matrix from images' features to phrases'; none by default")
    ] = None

    def check(self, scene: Scene) -> None:
        what = "keypoints" if self.mode == "keypoints" else "box"
        subjects = [subject for subject in scene.subjects if getattr(subject, what)]
        if not subjects:
            wanted, hint = (
                f"a subject with {'' if what == 'keypoints' else 'a '}{what}",
                f"Set '{what}' in a subject.",
            )
            raise UserError(f"grounding, scene '{scene.prompt}'", wanted, "none", hint)
        for subject in subjects:
            place = f"subject '{subject.phrase}', field"
            for name in subject.keypoints if what == "keypoints" else ():
                if name not in KEYPOINTS:
                    names = f"names among {', '.join(KEYPOINTS)}"
                    raise UserError(f"{place} 'keypoints'", names, f"'{name}'", did_you_mean(name, KEYPOINTS))
            if self.mode == "image" and not subject.images:
                raise UserError(f"{place} 'images'", "an image, in the mode 'image' of grounding", "none")
        if what == "box" and len(subjects) > self.max_objects:
            most = f"at most {self.max_objects} subject(s) with a box"
            raise UserError("grounding, field 'max_objects'", most, str(len(subjects)))

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from .read import read

        return read(self, scene, model)

    def write(self, model: ModelView, path: Path) -> Path:
        """Write the weights alone, by the names of GLIGEN's repository: the small file that other programs read too.

        Args:
            model: the model that they are for, for example ``pipe.view(pipe.size)``.
            path: of the ``.safetensors`` file.

        Raises:
            UserError: there are no weights, or the disk does not take the file.
        """
        from .write import write

        return write(self, model, path)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Grounding]
