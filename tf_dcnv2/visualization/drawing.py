"""Spatial support drawn onto photographs, from arrays alone.

Positions of locations, nodes and pixels count from the centre of the first pixel, as in `tf_dcnv2.analysis`; boxes and
the centres of bins count from the image's edge, as boxes do everywhere.

Photographs are muted under what is drawn: mostly grey, and neither bright nor black, so that marks stand out on all.
Strengths go from violet to pale yellow, lighter for stronger, which is an order to colour-blind eyes and in print too.
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

__all__ = ["draw_bins", "draw_box", "draw_locations", "draw_map", "draw_node", "draw_receptive_field", "draw_region"]

Box = tuple[float, float, float, float]

NODE_COLOR = (64, 224, 255)
BOX_COLOR = (255, 255, 255)
_PLAIN_COLOR = (110, 200, 255)  # of locations without strengths
_DARK = (12, 12, 16)
# The part of matplotlib's colour map that is visible on a muted photograph.
_COLORMAP, _COLORMAP_FROM = "inferno", 0.38
# Weaker than this share of the strongest nothing is drawn.
_FAINTEST = 0.02
# The range of brightness of a muted photograph, of 255, and how much of its colour it keeps.
_MUTED, _MUTED_SATURATION = (28.0, 150.0), 0.4
_DIMMED = 0.35


def draw_locations(
    image: np.ndarray, locations: np.ndarray, strengths: np.ndarray | None = None, *, zoom: float = 1.0
) -> np.ndarray:
    """Draws sampling locations as dots; the stronger, the lighter, larger and more opaque, and the strongest on top.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        locations: `(N, 2)`, (y, x) in pixels of `image`; those outside of it are left out.
        strengths: `(N,)`, at least 0, in any unit: they are compared with the strongest. By default all are alike.
        zoom: enlarge the picture by this factor first.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> layer = effective_sampling_locations(detector, image, node)[-1]
        >>> picture = draw_locations(image, layer.locations.reshape(-1, 2), layer.strengths.ravel())
    """
    locations = np.asarray(locations, np.float64)
    if locations.ndim != 2 or locations.shape[1] != 2:
        raise ValueError(f"locations must be (N, 2). Received: locations.shape={locations.shape}")
    picture = _muted(image, zoom)
    centres = _to_picture(locations, zoom)
    unit = _unit(picture)
    if strengths is None:
        # Layers of a regular grid sample the same location many times.
        for centre in np.unique(np.round(centres, 1), axis=0):
            _dot(picture, centre, 0.9 * unit, _PLAIN_COLOR, 1.0)
    else:
        for index, share in _by_strength(strengths, len(locations)):
            _dot(picture, centres[index], unit * (0.75 + 0.75 * share), _strength_color(share), 0.5 + 0.5 * share)
    return _as_uint8(picture)


def draw_bins(
    image: np.ndarray, centres: np.ndarray, bin_size: tuple[float, float], strengths: np.ndarray, *, zoom: float = 1.0
) -> np.ndarray:
    """Draws the bins of a RoI as rectangles of their size, with a dot at their centre; the strongest on top.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        centres: `(P, Q, 2)` or `(N, 2)`, (y, x) in pixels from the image's edge.
        bin_size: (height, width) in pixels.
        strengths: `(P, Q)` or `(N,)`, at least 0, in any unit: they are compared with the strongest.
        zoom: enlarge the picture by this factor first.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> bins = effective_bin_locations(detector, image, RoINode((30.0, 40.0, 130.0, 200.0)))
        >>> picture = draw_bins(image, bins.locations, bins.bin_size, bins.strengths)
    """
    from PIL import Image, ImageDraw

    centres = np.asarray(centres, np.float64).reshape(-1, 2) * zoom
    half = np.asarray(bin_size, np.float64) * zoom / 2
    picture = Image.fromarray(_as_uint8(_muted(image, zoom))).convert("RGBA")
    line_px = max(1, round(min(picture.size) / 250))
    order = list(_by_strength(strengths, len(centres), faintest=0.0))
    for index, share in order:
        (y1, x1), (y2, x2) = centres[index] - half, centres[index] + half
        if not (
            np.isfinite(centres[index]).all() and y2 >= 0 and x2 >= 0 and y1 < picture.height and x1 < picture.width
        ):
            continue
        layer = Image.new("RGBA", picture.size)
        color, rectangle = _strength_color(share), (round(x1), round(y1), round(x2), round(y2))
        fill = (*color, round(255 * (0.08 + 0.5 * share)))
        ImageDraw.Draw(layer).rectangle(rectangle, fill, (*color, round(255 * (0.5 + 0.5 * share))), line_px)
        picture.alpha_composite(layer)
    pixels = np.asarray(picture.convert("RGB"), np.float32).copy()
    for index, share in order:
        _dot(pixels, centres[index] - 0.5, _unit(pixels), _strength_color(share), 1.0)
    return _as_uint8(pixels)


def draw_receptive_field(image: np.ndarray, field: np.ndarray, *, zoom: float = 1.0) -> np.ndarray:
    """Lays an effective receptive field over an image.

    The field is smoothed over about a hundredth of the image, as single pixels of a gradient are noise to the eye, and
    drawn by its square root, which shows what is weak as well.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        field: `(H, W)`, at least 0, in any unit: it is compared with its own greatest value.
        zoom: enlarge the picture by this factor first.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> picture = draw_receptive_field(image, effective_receptive_field(detector, image, node))
    """
    from skimage.filters import gaussian

    picture = _muted(image, zoom)
    _check_map(field, image, "field")
    smooth = gaussian(np.asarray(field, np.float64), sigma=min(field.shape) / 100)
    largest = float(smooth.max())
    share = np.sqrt(np.clip(smooth / largest, 0, 1)) if largest > 0 else np.zeros(field.shape)
    share = np.clip(_resized(share.astype(np.float32), picture.shape[:2]), 0, 1)
    opacity = 0.92 * np.clip(share / 0.6, 0, 1)[..., None]
    return _as_uint8(picture * (1 - opacity) + opacity * _strength_colors(share))


def draw_map(
    image: np.ndarray, values: np.ndarray, span: tuple[float, float], *, opacity: float = 0.75, zoom: float = 1.0
) -> np.ndarray:
    """Lays the values of the cells of a feature map over an image.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        values: `(rows, columns)`, of the cells of a map that covers the image.
        span: the values of the weakest and of the strongest colour.
        opacity: of the colours, 0..1.
        zoom: enlarge the picture by this factor first.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Example:
        >>> lengths = np.linalg.norm(predicted_offsets(detector, image)[0].offsets, axis=-1).mean(axis=(2, 3))
        >>> picture = draw_map(image, lengths, (0.0, lengths.max()))
    """
    picture = _muted(image, zoom)
    rows, columns = (
        np.arange(size) * count // size for size, count in zip(picture.shape[:2], np.shape(values), strict=True)
    )
    low, high = span
    shares = np.clip((np.asarray(values, np.float64) - low) / max(high - low, 1e-12), 0, 1)[np.ix_(rows, columns)]
    return _as_uint8(picture * (1 - opacity) + opacity * _strength_colors(shares))


def draw_region(image: np.ndarray, mask: np.ndarray, *, zoom: float = 1.0) -> np.ndarray:
    """Shows a region of an image as it is, outlined, and everything else grey and dim.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        mask: bool `(H, W)`, the region.
        zoom: enlarge the picture by this factor first.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> picture = draw_region(image, error_bounded_saliency(detector, image, node).mask)
    """
    from scipy.ndimage import binary_dilation

    _check_map(mask, image, "mask")
    picture = _enlarged(image, zoom)
    inside = _resized(np.asarray(mask, np.float32), picture.shape[:2]) >= 0.5
    grey = np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1)
    result = np.where(inside[..., None], picture, _DIMMED * grey)
    # Around the region, not on it: a light line with a dark one beyond.
    width = max(1, round(min(inside.shape) / 220))
    line = binary_dilation(inside, iterations=width) & ~inside
    rim = binary_dilation(inside, iterations=width + 1) & ~inside & ~line
    result[rim], result[line] = _DARK, BOX_COLOR
    return _as_uint8(result)


def draw_node(picture: np.ndarray, point: tuple[float, float], *, zoom: float = 1.0) -> np.ndarray:
    """Marks where a node lies, with a disc that has a dark and a light rim.

    Args:
        picture: `(H, W, 3)` uint8, left as it is.
        point: (y, x) in pixels of the image.
        zoom: by how much the picture is larger than the image.

    Returns:
        `(H, W, 3)` uint8.
    """
    pixels = np.asarray(picture, np.float32).copy()
    centre, radius = _to_picture(np.asarray(point, np.float64), zoom), 1.9 * _unit(pixels)
    for part, color in ((1.5, _DARK), (1.25, (255, 255, 255)), (0.9, _DARK), (0.65, NODE_COLOR)):
        _disc(pixels, centre, part * radius, color, 1.0)
    return _as_uint8(pixels)


def draw_box(
    picture: np.ndarray, box: Box, *, zoom: float = 1.0, color: tuple[int, int, int] = BOX_COLOR
) -> np.ndarray:
    """Draws the outline of a box, with a dark rim on both sides.

    Args:
        picture: `(H, W, 3)` uint8, left as it is.
        box: `(y1, x1, y2, x2)` in pixels of the image.
        zoom: by how much the picture is larger than the image.
        color: of the outline, RGB.

    Returns:
        `(H, W, 3)` uint8.
    """
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(np.asarray(picture, np.uint8))
    width = max(1, round(min(drawn.size) / 220))
    limits = np.array([drawn.height, drawn.width] * 2) - 1
    y1, x1, y2, x2 = np.clip(np.round(np.asarray(box, np.float64) * zoom), 0, limits)
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_DARK, width=width + 2)
    draw.rectangle((x1, y1, x2, y2), outline=color, width=width)
    return np.asarray(drawn)


@functools.lru_cache(maxsize=1)
def strength_colormap() -> "ListedColormap":
    """The matplotlib colour map of strengths from 0 to 1."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    return ListedColormap(matplotlib.colormaps[_COLORMAP](np.linspace(_COLORMAP_FROM, 1.0, 256)))


def _strength_colors(shares: np.ndarray) -> np.ndarray:
    return 255 * strength_colormap()(shares)[..., :3]


def _strength_color(share: float) -> tuple[int, int, int]:
    red, green, blue = np.round(_strength_colors(np.array([share]))[0]).astype(int).tolist()
    return red, green, blue


def _by_strength(strengths: np.ndarray, count: int, faintest: float = _FAINTEST) -> Iterator[tuple[int, float]]:
    """Indices and strengths relative to the strongest, the weakest first."""
    values = np.asarray(strengths, np.float64).ravel()
    if values.shape != (count,):
        raise ValueError(f"strengths must have one entry for each of {count} locations. Received: {len(values)}")
    largest = float(np.nanmax(values, initial=0.0))
    shares = values / largest if largest > 0 else np.zeros(count)
    for index in np.argsort(shares, kind="stable").tolist():
        if shares[index] >= faintest:  # not NaN either
            yield index, float(shares[index])


def _enlarged(image: np.ndarray, zoom: float) -> np.ndarray:
    """The image as float32 `(H', W', 3)`."""
    from PIL import Image

    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image must be (height, width, 3). Received: image.shape={pixels.shape}")
    picture = Image.fromarray(_as_uint8(pixels))
    height, width = (max(1, round(side * zoom)) for side in pixels.shape[:2])
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32).copy()


def _muted(image: np.ndarray, zoom: float) -> np.ndarray:
    """The enlarged image, mostly grey and of middling brightness."""
    picture = _enlarged(image, zoom)
    grey = picture.mean(axis=-1, keepdims=True)
    darkest, lightest = _MUTED
    soft = grey + _MUTED_SATURATION * (picture - grey)
    return darkest + (lightest - darkest) * np.clip(soft, 0, 255) / 255


def _resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _check_map(values: np.ndarray, image: np.ndarray, name: str) -> None:
    if np.shape(values) != np.shape(image)[:2]:
        raise ValueError(
            f"{name} must have the image's height and width {np.shape(image)[:2]}. Received: {np.shape(values)}"
        )


def _to_picture(points: np.ndarray, zoom: float) -> np.ndarray:
    return (points + 0.5) * zoom - 0.5


def _unit(picture: np.ndarray) -> float:
    """The radius of a dot of middling size, in pixels."""
    return max(1.2, min(picture.shape[:2]) / 130)


def _dot(picture: np.ndarray, centre: np.ndarray, radius: float, color: tuple[int, int, int], opacity: float) -> None:
    """A disc with a dark rim, which sets it off from what is of its own colour; a faint one has hardly any."""
    _disc(picture, centre, radius + max(0.6, 0.35 * radius), _DARK, 0.75 * opacity**2)
    _disc(picture, centre, radius, color, opacity)


def _disc(picture: np.ndarray, centre: np.ndarray, radius: float, color: tuple[int, int, int], opacity: float) -> None:
    """Blends a disc with smooth edges into the float picture, as far as it lies inside."""
    if not np.isfinite(centre).all():
        return
    low = np.maximum(np.floor(centre - radius - 1), 0).astype(int)
    high = np.minimum(np.ceil(centre + radius + 2), picture.shape[:2]).astype(int)
    if (low >= high).any():
        return
    rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
    distance = np.hypot(rows - centre[0], columns - centre[1])
    cover = (opacity * np.clip(radius + 0.5 - distance, 0, 1))[..., None]
    part = picture[low[0] : high[0], low[1] : high[1]]
    part += cover * (np.asarray(color, np.float32) - part)


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
