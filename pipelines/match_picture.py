"""Matches to look at: both photographs with numbered points, and how like one point is to all of the second one."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from matchkit.pipelines.photo_matcher import Matches
from matchkit.pipelines.photos import Photo
from matchkit.pipelines.picture_sheet import heat

HEIGHT, WIDEST = 420, 840
"""Pixels of a photograph's height in the picture, and of its width at most."""
GAP, CAPTION, RADIUS, LETTERS = 8, 24, 10, 13
"""Pixels between photographs; of a line of writing below them; of a point's disc; of the size of letters."""
PAPER, INK = (255, 255, 255), (0, 0, 0)
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""That most colour-blind people tell apart too. Source: Okabe and Ito, Color Universal Design, 2008, without black."""
OVER = 0.6
"""How much of a similarity's colour lies over the photograph, which is grey below it."""
Scores = Callable[[tuple[int, int]], Float[np.ndarray, "h w"]]
Place = tuple[float, float]


def match_picture(
    source: Photo,
    target: Photo,
    points: Sequence[tuple[float, float]],
    matches: Matches,
    *,
    shown: int,
    scores: Scores,
) -> Image.Image:
    """The photographs side by side, a line from each point to its match, and a map of similarity.

    A thin line and a hollow disc mark a match whose way back leads elsewhere.

    Args:
        source: with the points.
        target: in which they were found.
        points: (x, y) in the source's pixels.
        matches: of these.
        shown: the number, from 0, of the point of which the map is.
        scores: its similarity with the target, as a map of (width, height) pixels.
    """
    left, right = _fitted(source), _fitted(target)
    values = scores(right.size)
    panels = [left, right, _over(right, values)]
    starts = [GAP + sum(panel.width + GAP for panel in panels[:number]) for number in range(len(panels))]
    height = 2 * GAP + max(panel.height for panel in panels) + CAPTION
    sheet = Image.new("RGB", (starts[-1] + panels[-1].width + GAP, height), PAPER)
    for panel, start in zip(panels, starts, strict=True):
        sheet.paste(panel, (start, GAP))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    ahead = [_placed(point, source, left, starts[0]) for point in points]
    found = [(x, y) for x, y in matches.points.tolist()]
    behind = [_placed(point, target, right, starts[1]) for point in found]
    for number, (one, other) in enumerate(zip(ahead, behind, strict=True)):
        draw.line([one, other], fill=_colour(number), width=3 if matches.mutual[number] else 1)
    for number, (one, other) in enumerate(zip(ahead, behind, strict=True)):
        _disc(draw, one, number, font=font, full=True)
        _disc(draw, other, number, font=font, full=bool(matches.mutual[number]))
    _disc(draw, _placed(found[shown], target, right, starts[2]), shown, font=font, full=bool(matches.mutual[shown]))
    map_of = f"like point {shown + 1}: {values.min():.2f} dark, {values.max():.2f} bright"
    for panel, start, text in zip(panels, starts, (source.name, target.name, map_of), strict=True):
        draw.text((start, sheet.height - CAPTION), _cut(text, panel.width, font), fill=INK, font=font)
    return sheet


def _fitted(photo: Photo) -> Image.Image:
    """A photograph in the picture's height, or its greatest width."""
    ratio = min(HEIGHT / photo.size[1], WIDEST / photo.size[0])
    size = (max(1, round(photo.size[0] * ratio)), max(1, round(photo.size[1] * ratio)))
    return photo.image.resize(size, Image.Resampling.LANCZOS)


def _over(picture: Image.Image, values: Float[np.ndarray, "h w"]) -> Image.Image:
    """Similarities as colours over a picture, from the least to the greatest of them."""
    least, span = float(values.min()), max(float(np.ptp(values)), 1e-6)
    colours = Image.fromarray(heat(torch.from_numpy((values - least) / span)))
    return Image.blend(picture.convert("L").convert("RGB"), colours, OVER)


def _placed(point: Place, photo: Photo, panel: Image.Image, start: int) -> Place:
    """Where a photograph's point lies in the picture; one outside of it lies on its edge."""
    x, y = (
        min(max((value + 0.5) * drawn / own - 0.5, 0.0), drawn - 1.0)
        for value, drawn, own in zip(point, panel.size, photo.size, strict=True)
    )
    return start + x, GAP + y


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]


def _disc(
    draw: ImageDraw.ImageDraw, at: Place, number: int, *, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, full: bool
) -> None:
    x, y = at
    around = (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)
    draw.ellipse(around, fill=_colour(number) if full else PAPER, outline=INK if full else _colour(number), width=2)
    left, top, right, bottom = draw.textbbox((0, 0), str(number + 1), font=font)
    draw.text((x - (left + right) / 2, y - (top + bottom) / 2), str(number + 1), fill=INK, font=font)


def _cut(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
