"""Finds doctest, the header-only framework of the C++ tests, and fetches it where the system has none.

    python tools/doctest_headers.py

unpacks Debian's or Ubuntu's package doctest-dev below build/, which needs no rights: apt keeps its lists there too.
"""

import os
import shutil
import subprocess
import sys

from toolchain import ROOT, find_compiler

FETCHED = ROOT / "build" / "doctest"


class DoctestUnavailable(RuntimeError):
    """The C++ tests cannot be compiled here; the message says what to do."""


def include_flags(compiler: list[str]) -> list[str]:
    """Compiler flags with which `#include "doctest/doctest.h"` works.

    Raises:
        DoctestUnavailable: the header is neither the system's nor fetched.
    """
    for flags in ([], [f"-isystem{FETCHED / 'usr' / 'include'}"]):
        probe = [*compiler, *flags, "-fsyntax-only", "-x", "c++", "-include", "doctest/doctest.h", os.devnull]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return flags
    raise DoctestUnavailable(
        "The C++ tests need doctest, which is not installed. `python tools/doctest_headers.py` fetches it on Debian "
        "and Ubuntu; elsewhere install its package: doctest-devel (Fedora), doctest (Alpine, Arch, conda-forge)."
    )


def fetch() -> None:
    """Downloads Debian's doctest-dev and unpacks it below build/.

    Raises:
        DoctestUnavailable: there is no apt, or it failed.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DoctestUnavailable("doctest cannot be fetched without apt-get and dpkg-deb.")
    shutil.rmtree(FETCHED, ignore_errors=True)
    lists, cache = FETCHED / "lists", FETCHED / "cache"
    for folder in (lists, cache / "archives"):
        (folder / "partial").mkdir(parents=True)
    # Root would hand downloads to apt's own user, who may not enter this folder.
    settings = [f"Dir::State::Lists={lists}", f"Dir::Cache={cache}", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-qq", *(word for setting in settings for word in ("-o", setting))]
    _run([*apt, "update"])
    _run([*apt, "download", "doctest-dev"])
    (package,) = FETCHED.glob("doctest-dev*.deb")
    _run(["dpkg-deb", "-x", str(package), str(FETCHED)])
    for folder in (lists, cache):
        shutil.rmtree(folder)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=FETCHED, capture_output=True, text=True)
    if done.returncode != 0:
        raise DoctestUnavailable(f"Fetching doctest failed: {' '.join(command)}\n{done.stderr}")


def main() -> None:
    compiler = find_compiler()
    try:
        include_flags(compiler)
    except DoctestUnavailable:
        print("Fetching doctest, the framework of the C++ tests, into build/doctest")
        fetch()
        include_flags(compiler)


if __name__ == "__main__":
    try:
        main()
    except DoctestUnavailable as error:
        sys.exit(str(error))
