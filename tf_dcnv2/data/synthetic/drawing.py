"""Outlines, textures and clutter of the synthetic images. Coordinates are (x, y) in pixels, colours RGB in 0..1."""

import colorsys

import numpy as np

_SUPERSAMPLING = 3
_POINTS_PER_OUTLINE = 96


def star() -> np.ndarray:
    """Five-pointed star of radius 1."""
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.42, 1.0)
    return _densify(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def cross() -> np.ndarray:
    """Plus sign with four equal arms."""
    arm = np.array([(-0.3, -1), (0.3, -1), (0.3, -0.3)])
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in np.arange(4) * np.pi / 2]
    return _densify(np.concatenate([arm @ turn.T for turn in turns]))


def moon() -> np.ndarray:
    """Crescent."""
    outer = np.linspace(0.22 * np.pi, 1.78 * np.pi, 40)
    tips = np.array([np.cos(outer[0]), np.sin(outer[0])])
    centre = 0.62
    radius = np.hypot(tips[0] - centre, tips[1])
    inner_end = np.arctan2(tips[1], tips[0] - centre)
    inner = np.linspace(2 * np.pi - inner_end, inner_end, 24)[1:-1]
    outline = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([centre + radius * np.cos(inner), radius * np.sin(inner)], axis=1),
        ]
    )
    return _densify(outline + [0.15, 0.0])


def arrow() -> np.ndarray:
    """Arrow with a broad head."""
    half = np.array([(1.0, 0.0), (0.1, 0.8), (0.1, 0.3), (-1.0, 0.3)])
    return _densify(np.concatenate([half, half[:0:-1] * [1, -1]]))


def deform(outline: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Stretches, shears, bends, ripples and rotates an outline around the origin."""
    stretch = 1 + strength * rng.uniform(-0.35, 0.35)
    shear = strength * rng.uniform(-0.35, 0.35)
    points = outline @ np.array([[stretch, shear], [0.0, 1 / stretch]])
    bend = strength * rng.uniform(-0.55, 0.55)
    points = _rotate(points, bend * points[:, 0])
    for axis in (0, 1):
        wave = rng.uniform(1.5, 3.0) * points[:, 1 - axis] + rng.uniform(0, 2 * np.pi)
        points[:, axis] += strength * 0.1 * np.sin(wave)
    return _rotate(points, np.full(len(points), rng.uniform(0, 2 * np.pi)))


def blade(rng: np.random.Generator, size: float) -> np.ndarray:
    """A long, thin, curved leaf: what objects are partly hidden behind."""
    t = np.linspace(-1, 1, 24)
    spine = np.stack([t, rng.uniform(-0.5, 0.5) * t**2], axis=1)
    width = rng.uniform(0.06, 0.11) * (1 - t**2)
    outline = np.concatenate([spine + np.stack([0 * t, width], 1), (spine - np.stack([0 * t, width], 1))[::-1]])
    return _rotate(outline * size, np.full(len(outline), rng.uniform(0, 2 * np.pi)))


def coverage(outlines: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Share of each pixel that closed outlines cover: `(height, width)` float32 in 0..1."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        draw.polygon([tuple(point) for point in (outline * _SUPERSAMPLING).tolist()], fill=255)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / 255


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A muted, blotchy texture: `(height, width, 3)` float32."""
    hue = rng.uniform()
    dark = muted_color(rng, hue, rng.uniform(0.25, 0.45))
    light = muted_color(rng, hue + rng.uniform(-0.12, 0.12), rng.uniform(0.55, 0.85))
    blotches = np.sum([smooth_noise(rng, height, width, cells) / cells**0.7 for cells in (3, 7, 16, 40)], axis=0)
    blotches = (blotches - blotches.min()) / np.ptp(blotches)
    return dark + (light - dark) * blotches[..., None]


def clutter(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Paints lines, specks and plain shapes that belong to no category, in colours close to the background's."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(4, 12)):
        centre = rng.uniform((0, 0), (width, height))
        size = rng.uniform(0.02, 0.08) * min(height, width)
        kind = rng.integers(3)
        if kind == 0:
            outline = blade(rng, 4 * size)
        else:
            corners = rng.integers(3, 5) if kind == 1 else 16
            angles = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
            outline = size * np.stack([np.cos(angles), rng.uniform(0.5, 1) * np.sin(angles)], axis=1)
        color = muted_color(rng, rng.uniform(), rng.uniform(0.2, 0.9))
        image = paint(image, coverage([outline + centre], height, width) * rng.uniform(0.4, 0.9), color)
    return image


def paint(image: np.ndarray, alpha: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Blends a colour `(3,)` or a picture `(H, W, 3)` over the image."""
    return image + alpha[..., None] * (color - image)


def cast_shadow(image: np.ndarray, alpha: np.ndarray, distance: float) -> np.ndarray:
    """Darkens the image below and to the right of what `alpha` covers."""
    from PIL import Image, ImageFilter

    shifted = Image.fromarray((alpha * 255).astype(np.uint8)).transform(
        alpha.shape[::-1], Image.Transform.AFFINE, (1, 0, -distance, 0, 1, -distance)
    )
    blurred = np.asarray(shifted.filter(ImageFilter.GaussianBlur(distance)), dtype=np.float32) / 255
    return image * (1 - 0.45 * blurred[..., None])


def fill_texture(rng: np.random.Generator, height: int, width: int, hue: float) -> np.ndarray:
    """A vivid colour of `hue` (1 is once around), softly shaded and striped: `(height, width, 3)` float32."""
    color = np.array(colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.55, 0.9), rng.uniform(0.7, 1.0)), np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 12)
    stripes = np.sin(2 * np.pi * (np.cos(angle) * columns + np.sin(angle) * rows) / period)
    shade = 1 + rng.uniform(0, 0.1) * stripes + 0.12 * smooth_noise(rng, height, width, 6)
    return color * shade[..., None]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Random values on a coarse grid, interpolated: `(height, width)` float32 with zero mean and unit deviation."""
    from PIL import Image

    grid = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def muted_color(rng: np.random.Generator, hue: float, value: float) -> np.ndarray:
    """An unsaturated colour: `(3,)` float32."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.05, 0.35), value), np.float32)


def _densify(corners: np.ndarray) -> np.ndarray:
    """Points at equal distances along a closed polygon, so that bending it bends its edges."""
    closed = np.concatenate([corners, corners[:1]])
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    # Keeping the corners themselves keeps them sharp.
    positions = np.union1d(np.linspace(0, lengths[-1], _POINTS_PER_OUTLINE, endpoint=False), lengths[:-1])
    return np.stack([np.interp(positions, lengths, closed[:, axis]) for axis in (0, 1)], axis=1)


def _rotate(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    x, y = points.T
    return np.stack([np.cos(angles) * x - np.sin(angles) * y, np.sin(angles) * x + np.cos(angles) * y], axis=1)
