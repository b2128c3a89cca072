"""Drawing a scene as it is described: boxes, masks, keypoints, phrases and reference images. Free of torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from ..scene.image_io import open_image
from ..scene.masks import mask_image
from ..scene.scene import ImageSource, Scene, SceneImage, Subject, locate
from .palette import color_of

INK, FAINT, PAPER, FIELD, RULE = "#23232b", "#74747f", "#ffffff", "#f4f3ef", "#dfddd6"
SCALE = 2
"""Everything is drawn so many times larger and reduced at the end, for smooth edges."""
SIDE = 640 * SCALE
MARGIN = 28 * SCALE
PANEL = 268 * SCALE
THUMB = 76 * SCALE


@dataclass(frozen=True)
class _Fonts:
    text: ImageFont.FreeTypeFont | ImageFont.ImageFont
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_scene(scene: Scene, size: tuple[int, int], lines: Sequence[str] = ()) -> Image.Image:
    """A scene on its canvas, with what is known of every subject beside it.

    Args:
        size: (height, width) of the image to come; the canvas has its proportions.
        lines: small print below the prompt.

    Raises:
        UserError: an image of the scene cannot be opened.
    """
    fonts = _Fonts(ImageFont.load_default(15 * SCALE), ImageFont.load_default(12 * SCALE))
    canvas = _canvas(scene, size, fonts)
    panel = _panel(scene, fonts)
    width = MARGIN + canvas.width + MARGIN + PANEL + MARGIN
    caption = _caption(scene, lines, width - 2 * MARGIN, fonts)
    top = max(canvas.height, panel.height)
    page = Image.new("RGB", (width, MARGIN + top + MARGIN + caption.height + MARGIN), PAPER)
    page.paste(canvas, (MARGIN, MARGIN))
    page.paste(panel, (MARGIN + canvas.width + MARGIN, MARGIN))
    page.paste(caption, (MARGIN, MARGIN + top + MARGIN))
    return page.reduce(SCALE)


def _canvas(scene: Scene, size: tuple[int, int], fonts: _Fonts) -> Image.Image:
    factor = SIDE / max(size)
    height, width = (max(1, round(side * factor)) for side in size)
    canvas = Image.new("RGBA", (width, height), FIELD)
    draw = ImageDraw.Draw(canvas)
    if scene.source is not None:
        source = open_image(scene.source, "field 'source'").resize((width, height)).convert("RGBA")
        canvas = Image.blend(source, Image.new("RGBA", source.size, FIELD), 0.45)
        draw = ImageDraw.Draw(canvas)
    for tenth in range(1, 10):
        x, y = width * tenth // 10, height * tenth // 10
        draw.line((x, 0, x, height), fill=RULE, width=SCALE)
        draw.line((0, y, width, y), fill=RULE, width=SCALE)
    if scene.edit_mask is not None:
        canvas = _tinted(canvas, scene.edit_mask, INK, 0.35, "field 'edit_mask'")
    labels: list[tuple[tuple[int, int], str, str]] = []
    for number, subject in enumerate(scene.subjects):
        color = color_of(number)
        corner = None
        if subject.mask is not None:
            place = f"subject '{subject.phrase}', field 'mask'"
            canvas = _tinted(canvas, subject.mask, color, 0.45, place)
            corner = _first_pixel(canvas.size, subject.mask, place)
        if subject.box is not None:
            left, top, right, bottom = (
                round(part * side) for part, side in zip(subject.box, (width, height) * 2, strict=True)
            )
            if subject.mask is None:
                canvas = _filled(canvas, (left, top, right, bottom), color)
            draw = ImageDraw.Draw(canvas)
            draw.rectangle(
                (left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=3 * SCALE
            )
            corner = (left, top)
        if subject.keypoints:
            points = {name: (x * width, y * height) for name, (x, y) in subject.keypoints.items()}
            _mark(canvas, points, color, fonts)
            corner = corner or tuple(round(min(sides)) for sides in zip(*points.values(), strict=True))
        if corner is not None:
            labels.append((corner, subject.phrase, color))
    draw = ImageDraw.Draw(canvas)
    for corner, phrase, color in labels:  # last, so that no box covers one
        _chip(draw, corner, phrase, color, canvas.size, fonts)
    if not labels:
        text = "no boxes, masks or keypoints"
        draw.text((width / 2, height / 2), text, fill=FAINT, font=fonts.text, anchor="mm")
    draw.rectangle((0, 0, width - 1, height - 1), outline=RULE, width=2 * SCALE)
    return canvas.convert("RGB")


def _filled(canvas: Image.Image, box: tuple[int, int, int, int], color: str) -> Image.Image:
    layer = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).rectangle(box, fill=f"{color}2e")
    return Image.alpha_composite(canvas, layer)


def _tinted(canvas: Image.Image, mask: ImageSource, color: str, strength: float, place: str) -> Image.Image:
    shape = mask_image(mask, place).resize(canvas.size)
    tint = Image.new("RGBA", canvas.size, color)
    return Image.composite(tint, canvas, shape.point(lambda value: value * strength))


def _first_pixel(size: tuple[int, int], mask: ImageSource, place: str) -> tuple[int, int] | None:
    inside = mask_image(mask, place).resize(size).point(lambda value: 255 if value > 127 else 0)
    box = inside.getbbox()
    return None if box is None else box[:2]


def _mark(canvas: Image.Image, points: Mapping[str, tuple[float, float]], color: str, fonts: _Fonts) -> None:
    """Dots with their names beside them, on the side that has room."""
    draw = ImageDraw.Draw(canvas)
    radius = 5 * SCALE
    for name, (x, y) in points.items():
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=color, outline="white", width=SCALE
        )
        text = textwrap.shorten(name.replace("_", " "), 24, placeholder="...")
        fits = x + 2 * radius + draw.textlength(text, font=fonts.small) < canvas.width
        anchor, shift = ("lm", 2 * radius) if fits else ("rm", -2 * radius)
        draw.text((x + shift, y), text, fill=INK, font=fonts.small, anchor=anchor)


def _chip(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    phrase: str,
    color: str,
    size: tuple[int, int],
    fonts: _Fonts,
) -> None:
    text = textwrap.shorten(phrase, 40, placeholder="...")
    x, y = corner
    across, down = round(draw.textlength(text, font=fonts.text)) + 14 * SCALE, 24 * SCALE
    x, y = max(0, min(x, size[0] - across)), max(0, min(y, size[1] - down))
    draw.rectangle((x, y, x + across, y + down), fill=color)
    draw.text((x + 7 * SCALE, y + down / 2), text, fill="white", font=fonts.text, anchor="lm")


def _panel(scene: Scene, fonts: _Fonts) -> Image.Image:
    """What is known of every subject, and the images of the scene as a whole."""
    canvas = Image.new("RGB", (PANEL, 100_000 // SCALE), PAPER)
    draw = ImageDraw.Draw(canvas)
    images = scene.images()
    y = 0
    for number, subject in enumerate(scene.subjects):
        color = color_of(number)
        draw.rectangle((0, y, 4 * SCALE, y + 20 * SCALE), fill=color)
        title = textwrap.shorten(subject.phrase, 30, placeholder="...")
        if subject.occurrence is not None:
            title += f" ({subject.occurrence})"
        draw.text((12 * SCALE, y + 10 * SCALE), title, fill=INK, font=fonts.text, anchor="lm")
        y += 26 * SCALE
        draw.text((12 * SCALE, y), _known(subject), fill=FAINT, font=fonts.small)
        y += 22 * SCALE
        references = [one for one in images if one.keys[:2] == ("subjects", number) and not one.spatial]
        y = _thumbs(canvas, references, y, color) + 14 * SCALE
    for image in images:
        if image.keys[0] != "subjects" and image.keys != ("edit_mask",):  # which tints the canvas
            field, *names = image.keys
            title = f"{str(field).removesuffix('s')} '{names[0]}'" if names else str(field)
            draw.text((12 * SCALE, y), title, fill=INK, font=fonts.small)
            y = _thumbs(canvas, [image], y + 20 * SCALE, RULE) + 14 * SCALE
    if y == 0:
        draw.text((0, 0), "no subjects: the prompt alone", fill=FAINT, font=fonts.text)
        y = 24 * SCALE
    return canvas.crop((0, 0, PANEL, min(y, canvas.height)))


def _known(subject: Subject) -> str:
    parts = []
    if subject.box is not None:
        left, top, right, bottom = subject.box
        parts.append(f"box {right - left:.0%} x {bottom - top:.0%} at {left:.0%}, {top:.0%}")
    if subject.mask is not None:
        parts.append("mask")
    if subject.images:
        parts.append(f"{len(subject.images)} image{'s' if len(subject.images) > 1 else ''}")
    if subject.style is not None:
        parts.append("style")
    if subject.keypoints:
        parts.append(f"{len(subject.keypoints)} keypoint{'s' if len(subject.keypoints) > 1 else ''}")
    return ", ".join(parts) or "the phrase alone"


def _thumbs(canvas: Image.Image, images: Sequence[SceneImage], y: int, color: str) -> int:
    """Paste images in rows; gives the y below them."""
    draw = ImageDraw.Draw(canvas)
    step = THUMB + 8 * SCALE
    across = (PANEL - 12 * SCALE) // step
    for number, one in enumerate(images):
        left, top = 12 * SCALE + number % across * step, y + number // across * step
        image = open_image(one.source, one.place)
        factor = THUMB / max(image.size)
        small = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
        canvas.paste(small, (left, top))
        frame = (left - SCALE, top - SCALE, left + small.width, top + small.height)
        draw.rectangle(frame, outline=color, width=SCALE)
    return y + -(-len(images) // across) * step


def _caption(scene: Scene, lines: Sequence[str], width: int, fonts: _Fonts) -> Image.Image:
    """The prompt, its phrases in their colours, and the small print."""
    canvas = Image.new("RGB", (width, 100_000 // SCALE), PAPER)
    draw = ImageDraw.Draw(canvas)
    x, y = 0.0, 0.0
    for word, color in _words(scene):
        long = draw.textlength(word, font=fonts.text)
        if x and x + long > width:
            x, y = 0.0, y + 24 * SCALE
        draw.text((x, y), word, fill=color, font=fonts.text)
        x += long + draw.textlength(" ", font=fonts.text)
    y += 32 * SCALE
    for line in lines:
        for part in textwrap.wrap(line, width // (6 * SCALE)):
            draw.text((0, y), part, fill=FAINT, font=fonts.small)
            y += 18 * SCALE
    return canvas.crop((0, 0, width, min(canvas.height, round(y))))


def _words(scene: Scene) -> Iterator[tuple[str, str]]:
    """The words of the prompt, each in the colour of the subject whose phrase it belongs to."""
    spans = [locate(scene.prompt, one.phrase, one.occurrence) for one in scene.subjects]
    at = 0
    for word in scene.prompt.split():
        at = scene.prompt.index(word, at)
        inside = [number for number, (start, end) in enumerate(spans) if at < end and at + len(word) > start]
        yield word, color_of(inside[0]) if inside else INK
        at += len(word)
