"""A folder of finished images: each is written with its line of the manifest, and none is drawn twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ..api.generation_settings import GenerationSettings
from ..api.metric import measured
from ..api.registry import registry
from ..errors import WeftError
from ..provenance.write import write_item
from ..scene.image_formats import open_written
from ..storage.atomic import digest, discard_partial, flush_names, make_folder
from ..storage.lock import only_writer
from ..storage.refusals import unwritable
from .job import Item
from .manifest import Manifest


class Store:
    """Images by the ids of their items.

    Args:
        folder: made when it is not there.

    Raises:
        UserError: it cannot be made, or not be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder, "--output")
        self.manifest = Manifest(self.folder)

    @classmethod
    @contextmanager
    def alone(cls, folder: Path) -> Iterator[Store]:
        """A folder that nobody else draws into meanwhile.

        Raises:
            UserError: as above, or another run draws into it.
        """
        with only_writer(make_folder(folder, "--output"), "--output"):
            discard_partial(folder)
            yield cls(folder)

    def missing(self, items: Sequence[Item]) -> list[Item]:
        """The items whose images are not there, or are not what the manifest says."""
        return [item for item in items if not self.manifest.finished(item.id)]

    def keep(self, item: Item, image: Image.Image, settings: GenerationSettings) -> WeftError | None:
        """Write an image, how it was made and its line: a kill before the last costs this one image.

        A power cut may cost the names that `flush` has not seen; the next run draws those again.

        Returns:
            what went wrong with its metrics; the image is kept all the same.

        Raises:
            UserError: the disk does not take it.
        """
        values, wrong = _measured(item, image, {})
        content = {
            "id": item.id,
            "scene": item.run.number,
            "prompt": item.run.scene.prompt,
            "seed": item.seed,
            "sweep": dict(item.run.sweep),
            "metrics": values,
        }
        path = write_item(
            self.folder, item.stem, image, item.run.scene, item.seed, settings, content, flush=False
        )
        self.manifest.add({**content, "file": path.name, "sha256": digest(path)})
        return wrong

    def flush(self) -> None:
        """Make the images' names last through a power cut: once a run, for it takes longer than an image's bytes.

        Raises:
            UserError: the disk does not take it.
        """
        try:
            flush_names(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error, "folder") from None

    def path(self, item: Item) -> Path | None:
        """The image of an item, or None."""
        line = self.manifest.line(item.id)
        return None if line is None else self.folder / line["file"]

    def values(self, item: Item) -> Mapping[str, float | None]:
        """What has been measured of an item."""
        line = self.manifest.line(item.id) or {}
        measured = line.get("metrics")
        return measured if isinstance(measured, dict) else {}

    def measure(self, item: Item) -> WeftError | None:
        """Measure what the item's run asks for and the manifest does not hold yet; gives what went wrong."""
        line, path = self.manifest.line(item.id), self.path(item)
        known = self.values(item)
        if line is None or path is None or all(name in known for name in item.run.metrics):
            return None
        with open_written(path) as image:
            image.load()
        values, wrong = _measured(item, image, known)
        self.manifest.add({**line, "metrics": values})
        return wrong


def _measured(
    item: Item, image: Image.Image, known: Mapping[str, float | None]
) -> tuple[dict[str, float | None], WeftError | None]:
    values, wrong = dict(known), None
    for name in item.run.metrics:
        if name not in values:
            metric = registry().metric(name)
            assert metric is not None, "the run file's reader has looked it up"
            try:
                values[name] = measured(name, metric.measure, image, item.run.scene, item.seed)
            except WeftError as error:
                wrong = error
    return values, wrong
