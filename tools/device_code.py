"""Takes the device code out of a library, so that it packs small, and leaves it a library.

A library that nvcc has linked holds containers, each with an image of machine code or PTX for every architecture. Here
each keeps one image: of zeros, for compute capability 6.0, before what the ops support. The CUDA runtime sees what it
sees wherever a library has nothing for the GPU, and complains only when a kernel of that library is launched.
"""

import struct
from pathlib import Path

_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_ELF = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of the images
_CONTAINER_MAGIC = 0xBA55ED50
_IMAGE = struct.Struct("<HHIQ")  # kind, version, bytes of this header, bytes of the code
_IMAGE_ARCHITECTURE = 28  # where in the header
_MACHINE_CODE = 2
_OLD_ARCHITECTURE = 60


def remove(library: Path) -> int:
    """Blanks the device code of `library` in its place, and returns how many bytes that were.

    Raises:
        ValueError: the file is not laid out as expected; it is unchanged.
    """
    data = bytearray(library.read_bytes())
    blanked = sum(_blank(data, *extent) for extent in _sections(data))
    library.write_bytes(data)
    return blanked


def _sections(data: bytearray) -> list[tuple[int, int]]:
    """Where the sections with device code begin and end in the file."""
    if not data.startswith(_ELF):
        raise ValueError("not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    # Name, and offset and size in the file.
    sections = [struct.unpack_from("<I20xQQ", data, table + i * entry_size) for i in range(count)]
    names = sections[names_index][1]
    found = []
    for name, offset, size in sections:
        text = data[names + name : data.index(b"\0", names + name)].decode()
        if text in _SECTIONS:
            found.append((offset, offset + size))
    return found


def _blank(data: bytearray, begin: int, end: int) -> int:
    """Blanks the containers in a section, which follow each other at multiples of eight bytes."""
    blanked, at = 0, begin
    while at < end:
        magic, version, header_size, size = _CONTAINER.unpack_from(data, at)
        if magic == 0:
            at += 8
            continue
        images = at + header_size
        if magic != _CONTAINER_MAGIC or images + size > end:
            raise ValueError(f"no container of device code at byte {at:#x}")
        if size:
            _, image_version, image_header_size, code_size = _IMAGE.unpack_from(data, images)
            first_size = image_header_size + code_size
            if first_size > size:
                raise ValueError(f"no image of device code at byte {images:#x}")
            _CONTAINER.pack_into(data, at, magic, version, header_size, first_size)
            _IMAGE.pack_into(data, images, _MACHINE_CODE, image_version, image_header_size, code_size)
            struct.pack_into("<I", data, images + _IMAGE_ARCHITECTURE, _OLD_ARCHITECTURE)
            data[images + image_header_size : images + size] = bytes(size - image_header_size)
            blanked += size - image_header_size
        at = images + size
    return blanked
