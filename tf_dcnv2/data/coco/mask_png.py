"""PNG files of masks, one object on one image each, from run lengths.

Model Garden's schema has a mask of the whole image for every object. On large images nearly all of it is zeros, so
those are neither made nor compressed anew for each object.
"""

import functools
import struct
import zlib

import numpy as np

from tf_dcnv2.data.coco.segmentations import decode_counts

# Up to here the file is the one that Model Garden's own converter writes.
_LARGE_IMAGE_PX = 1 << 20
_ROWS_AT_ONCE = 256
_ADLER_MODULUS = 65521


def encode_mask(code: dict) -> bytes:
    """The PNG file of a mask, 8 bits a pixel, 1 on the object and 0 elsewhere.

    Args:
        code: COCO's run-length code `{"size": [height, width], "counts": list or string}`, known to be sound.
    """
    height, width = code["size"]
    top, left, crop = _crop(height, decode_counts(code["counts"]))
    if height * width > _LARGE_IMAGE_PX:
        return _sparse_png(crop, top, left, height, width)
    from official.vision.data import tfrecord_lib

    mask = np.zeros((height, width), np.uint8)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return tfrecord_lib.encode_mask_as_png(mask)


def _crop(height: int, runs: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Top row, left column and pixels of the columns and rows that hold the object."""
    ends = np.cumsum(runs)
    starts, ends = ends[:-1:2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return 0, 0, np.zeros((0, 0), np.uint8)
    left, right = starts[0] // height, (ends[-1] - 1) // height + 1
    changes = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(changes, starts - left * height, 1)
    np.add.at(changes, ends - left * height, -1)
    columns = np.cumsum(changes[:-1], dtype=np.int8).view(np.uint8).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = rows[0], rows[-1] + 1
    return int(top), int(left), np.ascontiguousarray(columns[:, top:bottom].T)


def _sparse_png(crop: np.ndarray, top: int, left: int, height: int, width: int) -> bytes:
    row_bytes = width + 1  # each row starts with the number of its filter, 0 for none
    body, checksum = _zeros(top * row_bytes, 1)
    parts = [b"\x78\x01", body]
    packer = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    for start in range(0, len(crop), _ROWS_AT_ONCE):
        rows = np.zeros((min(_ROWS_AT_ONCE, len(crop) - start), row_bytes), np.uint8)
        rows[:, 1 + left : 1 + left + crop.shape[1]] = crop[start : start + _ROWS_AT_ONCE]
        checksum = zlib.adler32(rows.data, checksum)
        parts.append(packer.compress(rows.data))
    parts.append(packer.flush(zlib.Z_FULL_FLUSH))
    body, checksum = _zeros((height - top - len(crop)) * row_bytes, checksum)
    end_of_stream = b"\x03\x00"
    parts += [body, end_of_stream, struct.pack(">I", checksum)]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(parts)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _zeros(count: int, checksum: int) -> tuple[bytes, int]:
    """Returns `count` zeros as part of a deflate stream, and the Adler-32 checksum of the stream after them."""
    low, high = checksum & 0xFFFF, checksum >> 16
    parts = [_packed_zeros(bit) for bit in range(count.bit_length()) if count >> bit & 1]
    return b"".join(parts), (high + count * low) % _ADLER_MODULUS << 16 | low


@functools.lru_cache
def _packed_zeros(bit: int) -> bytes:
    """2^bit zeros, packed so that it can be followed by anything packed on its own."""
    if bit > 20:
        return _packed_zeros(bit - 1) * 2
    packer = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    return packer.compress(bytes(1 << bit)) + packer.flush(zlib.Z_FULL_FLUSH)
