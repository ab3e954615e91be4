"""Binary masks as polygons: the reverse of rasterising, for writing COCO annotations."""

import numpy as np


def mask_polygons(mask: np.ndarray, tolerance: float = 0.7, min_area: float = 4.0) -> list[list[float]]:
    """Outlines of a binary mask's parts as COCO polygons.

    Holes are filled: COCO's polygons cannot describe them.

    Args:
        mask: `(H, W)` array, nonzero on the object.
        tolerance: how far, in pixels, a simplified outline may deviate from the pixels' edges.
        min_area: parts smaller than this many square pixels are left out.

    Returns:
        One `[x1, y1, x2, y2, …]` list per 4-connected part, in pixels.
    """
    polygons = []
    for loop in _boundary_loops(np.asarray(mask, dtype=bool)):
        # Outer boundaries run clockwise on the screen and have positive area; those of holes run the other way.
        if _signed_area(loop) >= min_area:
            outline = _simplify_loop(loop, tolerance)
            if len(outline) >= 3:
                polygons.append([float(value) for row, column in outline for value in (column, row)])
    return polygons


def _boundary_loops(mask: np.ndarray) -> list[np.ndarray]:
    """Closed paths along pixel edges with the object on the right hand, each `(N, 2)` as (row, column)."""
    leaving = _directed_edges(mask)
    loops = []
    while leaving:
        start = next(iter(leaving))
        loop: list[tuple[int, int]] = []
        position, heading = start, (0, 1)
        while not loop or position != start:
            loop.append(position)
            ends = leaving[position]
            # Where parts touch at a corner, turning right stays on the same part.
            turns = [_turn(heading, (end[0] - position[0], end[1] - position[1])) for end in ends]
            step = ends[turns.index(max(turns))]
            ends.remove(step)
            if not ends:
                del leaving[position]
            heading = (step[0] - position[0], step[1] - position[1])
            position = step
        loops.append(np.array(loop, dtype=np.float64))
    return loops


def _directed_edges(mask: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    inside = np.pad(mask, 1)
    core = inside[1:-1, 1:-1]
    # (is the neighbour outside, corner where the edge starts, corner where it ends), clockwise around a pixel
    sides = (
        (inside[:-2, 1:-1], (0, 0), (0, 1)),
        (inside[1:-1, 2:], (0, 1), (1, 1)),
        (inside[2:, 1:-1], (1, 1), (1, 0)),
        (inside[1:-1, :-2], (1, 0), (0, 0)),
    )
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbour, start, end in sides:
        for row, column in np.argwhere(core & ~neighbour).tolist():
            leaving.setdefault((row + start[0], column + start[1]), []).append((row + end[0], column + end[1]))
    return leaving


def _turn(before: tuple[int, int], after: tuple[int, int]) -> int:
    """1 for a right turn on the screen, 0 straight on, -1 left."""
    return before[1] * after[0] - before[0] * after[1]


def _signed_area(loop: np.ndarray) -> float:
    rows, columns = loop.T
    return 0.5 * float(np.sum(columns * np.roll(rows, -1) - np.roll(columns, -1) * rows))


def _simplify_loop(loop: np.ndarray, tolerance: float) -> np.ndarray:
    """Douglas and Peucker's simplification of a closed path, split at the point farthest from its first."""
    middle = int(np.argmax(np.sum((loop - loop[0]) ** 2, axis=1)))
    first = _simplify_path(loop[: middle + 1], tolerance)
    second = _simplify_path(np.concatenate([loop[middle:], loop[:1]]), tolerance)
    return np.concatenate([first[:-1], second[:-1]])


def _simplify_path(path: np.ndarray, tolerance: float) -> np.ndarray:
    if len(path) <= 2:
        return path
    chord = path[-1] - path[0]
    offsets = path - path[0]
    distances = np.abs(chord[0] * offsets[:, 1] - chord[1] * offsets[:, 0]) / max(np.hypot(*chord), 1e-9)
    farthest = int(np.argmax(distances))
    if distances[farthest] <= tolerance:
        return path[[0, -1]]
    before, after = _simplify_path(path[: farthest + 1], tolerance), _simplify_path(path[farthest:], tolerance)
    return np.concatenate([before[:-1], after])
