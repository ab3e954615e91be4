"""The Python in the documentation runs, from the top of a page to its end, as a reader would type it."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.docs.test_pages import PAGES, ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_PYTHON = [page for page in PAGES if BLOCK.search((ROOT / page).read_text())]
# Need no detector and run in seconds. The others are run with the slow tests, each in a process of its own.
QUICK = ["docs/layers.md"]
# What takes long or needs the network -> what stands in for it.
STAND_INS = {
    "keras.applications.ResNet50()": "keras.Sequential([keras.Input((9, 9, 3)), "
    'keras.layers.Conv2D(4, 3, name="conv3_block1_2_conv")])',
    'weights="imagenet"': "weights=None",
    "faster_rcnn_r50_dcnv2": "faster_rcnn_small_dcnv2",
    "epochs=20": "epochs=1",
}


def program(page: str) -> str:
    """The blocks of a page, one after the other."""
    code = "\n".join(BLOCK.findall((ROOT / page).read_text()))
    for original, stand_in in STAND_INS.items():
        code = code.replace(original, stand_in)
    return code


def run_here(code: str, name: str) -> None:
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_in_the_documentation_is_valid(page):
    for block in BLOCK.findall((ROOT / page).read_text()):
        compile(block, page, "exec")
        assert block == textwrap.dedent(block)
        long = [line for line in block.splitlines() if len(line) > 120]
        assert not long, f"{page}: longer than 120 characters: {long}"


@pytest.mark.parametrize("page", QUICK)
def test_the_quick_examples_of_a_page_run(page, native_ops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_here(program(page), page)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with what the pages speak of: records, a trained detector, photographs."""
    from PIL import Image

    from tf_dcnv2.data import convert_coco, make_synthetic_coco
    from tf_dcnv2.models import FasterRCNN

    folder = tmp_path_factory.mktemp("workplace")
    for split in ("train", "val"):
        images, annotations = make_synthetic_coco(folder / "data", num_images=4, split=split, image_size=(64, 96))
        convert_coco(images, annotations, folder / "records" / split)
    (folder / "runs" / "cells").mkdir(parents=True)
    FasterRCNN.from_preset("faster_rcnn_small_dcnv2", num_classes=3, short_side=64).save(
        folder / "runs" / "cells" / "best.keras"
    )
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    (folder / "cells" / "val").mkdir(parents=True)
    for name in ("photo.jpg", "street.jpg", "cells/val/BloodImage_00000.jpg"):
        photograph.save(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page not in QUICK])
def test_the_examples_of_a_page_run(page, workplace, tmp_path):
    folder = shutil.copytree(workplace, tmp_path / "workplace")
    done = subprocess.run(
        [sys.executable, "-c", program(page)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_stand_ins_stand_for_something_in_the_documentation():
    text = "".join((ROOT / page).read_text() for page in WITH_PYTHON)
    assert [original for original in STAND_INS if original not in text] == []


def test_an_example_that_is_wrong_fails():
    with pytest.raises(AssertionError):
        run_here("import numpy as np\nnp.testing.assert_allclose(1, 2)", "page")
