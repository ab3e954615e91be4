"""Pixel values of any kind as 8-bit RGB.

Shapes: H x W pixels, C channels.
"""

import numpy as np

# Cameras and microscopes give so many bits, in files of 16 or 32.
_BIT_DEPTHS = (8, 10, 12, 14, 16, 24, 32)


def to_uint8(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Scales pixel values to 0..255.

    Files say how many bits a sample takes, but seldom how many of them are used: 12-bit images in 16-bit files would be
    nearly black. So whole numbers count from the customary depth that the brightest of them needs, and floats of at
    most about 1 as fractions.

    Args:
        values: bool, integers or floats of any shape.

    Returns:
        The values as uint8, and what was done to them in words; empty if nothing.

    Raises:
        ValueError: values are negative, not finite, or too large to be a picture's.
    """
    if values.dtype == np.uint8:
        return values, ""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255, ""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"has pixels of type {values.dtype}")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all():
        raise ValueError("has pixels that are not finite (NaN or infinite); write it with 8 or 16 bits")
    if low < 0:
        raise ValueError(f"has negative pixels ({low:g} to {high:g}); write it with 8 or 16 bits")
    if values.dtype.kind == "f" and high <= 2.0:  # resampling overshoots 1 a little
        largest, note = 1.0, "float pixels of 0 to 1 were scaled to 8 bits"
    else:
        depth = next((bits for bits in _BIT_DEPTHS if high < 2**bits), None)
        if depth is None:
            raise ValueError(f"has pixels up to {high:g}; write it with 8 or 16 bits")
        largest, note = 2.0**depth - 1, f"{depth}-bit pixels were scaled to 8 bits" if depth > 8 else ""
    scaled = np.round(values.astype(np.float64) * (255.0 / largest))
    return np.clip(scaled, 0, 255).astype(np.uint8), note


def to_rgb(values: np.ndarray) -> tuple[np.ndarray, str]:
    """An image of 1 to 4 channels, grey or RGB with or without transparency, as `(H, W, 3)` uint8.

    Returns:
        The image, and what was done to its values in words; empty if nothing.

    Raises:
        ValueError: it has another number of channels, or `to_uint8` cannot scale it.
    """
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim == 3 and values.shape[0] in (3, 4) and values.shape[2] not in (1, 2, 3, 4):
        values = np.moveaxis(values, 0, -1)  # one plane after the other
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4:
        raise ValueError(f"has pixels of shape {values.shape}; a detector takes grey or RGB images")
    channels = values.shape[2]
    colours, note = to_uint8(values[..., : channels - (channels in (2, 4))])
    rgb = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
    return (whiten(rgb, values[..., -1]) if channels in (2, 4) else rgb), note


def whiten(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Makes pixels white that are entirely transparent: the colour stored there is arbitrary, most often black."""
    return np.where((alpha == 0)[..., None], np.uint8(255), rgb)
