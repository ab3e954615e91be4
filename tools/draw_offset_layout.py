"""Draws docs/images/offset-layout.svg: where each tap's displacement and modulation stand among the channels.

python tools/draw_offset_layout.py
"""

from pathlib import Path

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "offset-layout.svg"

GROUPS, TAPS = 2, 9
WIDTH, HEIGHT = 830, 560
LEFT = 34  # of the rows of channels
CELL = 21  # a channel of the offset; one of the mask is below the two of the same tap
COLOURS = (("#dbe9ff", "#1f5fbf"), ("#ffe6cc", "#b35900"))  # of each group: fill, line


def draw() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        "<title>Order of the channels of offset and mask for a 3 x 3 kernel and 2 deformable groups</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 Z" fill="#c00"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_taps(),
        *_channels(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _taps() -> list[str]:
    """The taps of the kernel in their order, and one that has moved."""
    side, x0, y0 = 48, 60, 62
    parts = [_text(LEFT, 30, "Taps of a 3 x 3 kernel, row by row", 16, "bold")]
    for tap in range(TAPS):
        x, y = x0 + tap % 3 * side, y0 + tap // 3 * side
        parts.append(f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="#f4f4f4" stroke="#888"/>')
        parts.append(_text(x + side / 2, y + side / 2 + 6, tap, 17, anchor="middle"))
    x, y = x0 + 2.5 * side, y0 + 1.5 * side  # the centre of tap 5
    dx, dy = 2.1 * side, 0.7 * side
    parts += [
        f'<path d="M{x + 14},{y} H{x + dx}" stroke="#c00" stroke-width="2" marker-end="url(#head)"/>',
        f'<path d="M{x + dx},{y} V{y + dy - 7}" stroke="#c00" stroke-width="2" marker-end="url(#head)"/>',
        f'<circle cx="{x + dx}" cy="{y + dy}" r="5" fill="#c00"/>',
        _text(x + dx / 2 + 18, y - 10, "Δx > 0: right", 14, anchor="middle", colour="#c00"),
        _text(x + dx + 10, y + dy / 2 + 4, "Δy > 0: down", 14, colour="#c00"),
    ]
    notes = (
        "Tap 5 samples at",
        "row = i·stride − top padding + u·dilation + Δy",
        "column = j·stride − left padding + v·dilation + Δx",
        "with u = 5 // 3 = 1 and v = 5 % 3 = 2,",
        "and its value is multiplied by Δm.",
        "",
        "Δy and Δx are in pixels of the layer's input.",
    )
    return parts + [_text(460, 78 + 23 * line, note, 15) for line, note in enumerate(notes)]


def _channels() -> list[str]:
    """The channels of offset, mask and input, one below the other."""
    parts = [
        _text(LEFT, 250, "Channels with 2 deformable groups", 16, "bold"),
        _text(LEFT, 284, "offset (B, Ho, Wo, 2·9·2): group, then tap, then (Δy, Δx)", 15),
        _text(LEFT, 392, "mask (B, Ho, Wo, 2·9): group, then tap", 15),
        _text(LEFT, 488, "x (B, H, W, C): each group moves its own half of the input's channels", 15),
    ]
    for group, (fill, line) in enumerate(COLOURS):
        for tap in range(TAPS):
            sample = group * TAPS + tap
            x = LEFT + 2 * CELL * sample
            for axis, label in enumerate(("Δy", "Δx")):
                parts += _cell(x + axis * CELL, 310, CELL, label, 2 * sample + axis, fill, line)
            parts.append(_text(x + CELL, 356, f"tap {tap}", 11, anchor="middle"))
            parts += _cell(x, 418, 2 * CELL, f"Δm {tap}", sample, fill, line)
        width = 2 * CELL * TAPS
        x = LEFT + group * width
        channels = "channels 0 to C/2 − 1: group 0" if group == 0 else "channels C/2 to C − 1: group 1"
        parts.append(f'<rect x="{x}" y="502" width="{width}" height="30" fill="{fill}" stroke="{line}"/>')
        parts.append(_text(x + width / 2, 522, channels, 14, anchor="middle"))
    return parts


def _cell(x: float, y: float, width: float, label: str, channel: int, fill: str, line: str) -> list[str]:
    """A channel with its number above."""
    return [
        _text(x + width / 2, y - 5, channel, 10, anchor="middle", colour="#555"),
        f'<rect x="{x}" y="{y}" width="{width}" height="30" fill="{fill}" stroke="{line}"/>',
        _text(x + width / 2, y + 20, label, 12, anchor="middle"),
    ]


def _text(
    x: float, y: float, text: object, size: int, weight: str = "normal", *, anchor: str = "start", colour: str = "#222"
) -> str:
    escaped = str(text).replace(">", "&gt;")
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escaped}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw())
