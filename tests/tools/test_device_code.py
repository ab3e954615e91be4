"""Libraries from which the device code is taken."""

import ctypes
import struct
import subprocess

import device_code
import pytest
from toolchain import find_compiler

CODE = b"machine code for a GPU" * 10


def image(kind, architecture, code):
    return struct.pack("<HHIQIIHHI32x", kind, 0x101, 64, len(code), len(code), 0, 7, 1, architecture) + code


def container(*images):
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, sum(map(len, images))) + b"".join(images)


@pytest.fixture
def build(tmp_path):
    """Builds a library with `data` where nvcc puts device code, and a function that returns 42."""

    def build(data, section=".nv_fatbin"):
        source, library = tmp_path / "source.cc", tmp_path / "library.so"
        numbers = ", ".join(map(str, data))
        place = f'__attribute__((section("{section}"), aligned(8)))'
        source.write_text(
            f'extern "C" {place} const unsigned char code[] = {{{numbers}}};\n'
            'extern "C" int answer() { return 42; }\n'
        )
        subprocess.run([*find_compiler(), "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        return library

    return build


def test_every_container_keeps_one_image_of_zeros_for_an_old_architecture(build):
    code = CODE + b"\0" * (-len(CODE) % 8)
    containers = [container(image(2, 80, code), image(1, 90, code)), container(image(1, 90, code))]
    library = build(b"".join(containers))
    size = library.stat().st_size
    assert device_code.remove(library) == 3 * len(code) + 64
    assert CODE not in library.read_bytes()
    assert library.stat().st_size == size
    kept = container(image(2, 60, bytes(len(code))))
    loaded = ctypes.CDLL(str(library))
    received = bytes((ctypes.c_ubyte * sum(map(len, containers))).in_dll(loaded, "code"))
    assert received == kept + bytes(64 + len(code)) + kept
    assert loaded.answer() == 42


def test_containers_may_be_padded_or_empty(build):
    library = build(container() + bytes(16) + container(image(2, 90, CODE + b"\0\0\0\0")) + bytes(8), "__nv_relfatbin")
    assert device_code.remove(library) == len(CODE) + 4
    assert CODE not in library.read_bytes()


def test_other_sections_stay_as_they_are(build):
    library = build(container(image(2, 90, CODE)), ".something_else")
    before = library.read_bytes()
    assert device_code.remove(library) == 0
    assert library.read_bytes() == before


@pytest.mark.parametrize(
    "data, message",
    [
        (b"something else..", "no container of device code"),
        (container(image(2, 90, CODE))[:-8], "no container of device code"),
        (container(image(2, 90, CODE)[:-8]), "no image of device code"),
    ],
)
def test_what_is_laid_out_otherwise_is_refused_and_stays(build, data, message):
    library = build(data)
    before = library.read_bytes()
    with pytest.raises(ValueError, match=message):
        device_code.remove(library)
    assert library.read_bytes() == before


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "library.so"
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="not a 64-bit ELF file"):
        device_code.remove(path)
