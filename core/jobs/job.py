"""Many images as items: each is one run with one seed, known by what it depends on. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..api.registry import registry
from ..api.schedulers import DEFAULT, own_scheduler
from ..checkpoints.files import model_digests
from ..checkpoints.hub import is_hub_id
from ..checkpoints.noise_schedule import FILE, folder_schedule
from ..provenance.run_file_writer import plugin_settings, scene_settings
from ..runfile.run import Run
from ..scene.image_io import pixel_digest
from ..scene.portable import portable_image
from ..scene.scene import ImageSource
from ..storage.atomic import content_digest

ID_LENGTH = 32

# folders of images are resumed by ids, in which these have stood from the start, also where a scene has none
_EMPTY_SCENE: dict[str, Any] = {"subjects": [], "maps": {}, "source": None, "edit_mask": None}


@dataclass(frozen=True)
class Item:
    """One image to draw.

    Args:
        number: its place in the plan, from 0.
        run: scene, plugins and sampler.
        seed: of its noise.
        id: a digest of everything that the image depends on; two items of one id are one image.
        group: equal for items that can be drawn in one batch: all but scene and seed is the same.
    """

    number: int
    run: Run
    seed: int
    id: str
    group: str

    @property
    def stem(self) -> str:
        """The name of its files, without a suffix. The id keeps items of a changed run file apart."""
        return f"{self.number:04d}-seed{self.seed}-{self.id[:8]}"


def plan(runs: Iterable[Run]) -> list[Item]:
    """Every item of a run file, in order; one that would be drawn twice is there once.

    An item's id is a SHA-256, cut to 32 digits, of its settings with every default written out, its seed, and the
    contents of its images and of its model. Paths and the batch size take no part.

    Raises:
        UserError: an image or a model cannot be read.
    """
    items: dict[str, Item] = {}
    models: dict[tuple[str, str | None], Any] = {}
    for run in runs:
        model = run.model, run.load.variant
        if model not in models:
            models[model] = _model(*model)
        shared = _shared(run) | {"model": models[model]}
        shared["sampler"] = {"scheduler": _own_scheduler(run.model)} | shared["sampler"]
        device = {} if run.load.device is None else {"device": run.load.device}
        group = hashlib.sha256(_canonical(shared | device)).hexdigest()[:ID_LENGTH]
        shared["sampler"] = {**shared["sampler"], "batch_size": None}
        base = hashlib.sha256(_canonical(shared | _scene(run)))
        for seed in run.seeds:
            whole = base.copy()
            whole.update(b"%d" % seed)
            name = whole.hexdigest()[:ID_LENGTH]
            items.setdefault(name, Item(len(items), run, seed, name, group))
    return list(items.values())


def _shared(run: Run) -> dict[str, Any]:
    # ids of folders that are there already know none of these
    loading = {name: value for name, value in run.load.options().items() if name != "device"}
    if "vae" in loading:
        loading["vae"] = _content(loading["vae"])
    return {
        **({"load": loading} if loading else {}),
        "conditioners": [plugin_settings(one, _content) for one in run.conditioners],
        "guidance": [plugin_settings(one, _content) for one in run.guidance],
        "sampler": run.sampler.options(),
        "reproducibility": run.reproducibility,
    }


def _scene(run: Run) -> dict[str, Any]:
    return _EMPTY_SCENE | scene_settings(run.scene, _content)


def _content(source: ImageSource) -> str:
    """What stands for an image, or for a plugin's file or folder: a digest of what is in it."""
    if isinstance(source, Image.Image):
        return pixel_digest(portable_image(source))
    if not source.exists() and is_hub_id(source.as_posix()):
        return source.as_posix()  # known by its name alone
    return content_digest(source)


def _model(name: str, variant: str | None) -> Any:
    card = registry().model(name)
    if card is not None and card.sha256:
        return card.sha256
    path = Path(name) if card is None else card.folder
    # a hub id is known by its name alone until it is fetched
    return model_digests(path, variant) if path.exists() else name


def _own_scheduler(model: str) -> str:
    """The scheduler of a run that names none."""
    card = registry().model(model)
    path = Path(model) if card is None else card.folder
    return own_scheduler(folder_schedule(path)) if (path / FILE).is_file() else DEFAULT


def _canonical(data: dict[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
