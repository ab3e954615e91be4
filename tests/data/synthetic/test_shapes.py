import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.golden.make_synthetic_vectors import LOOKS, portrait
from tests.support.masks import segmentation_mask
from tests.support.reference_vectors import GOLDEN
from tf_dcnv2.data import convert_coco, make_synthetic_coco


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A data set of 60 images: the paths and the annotations."""
    paths = make_synthetic_coco(tmp_path_factory.mktemp("shapes"), num_images=60, image_size=(96, 128))
    return paths, json.loads(Path(paths.annotations_file).read_text())


def test_category_ids_have_gaps(shapes):
    assert [category["id"] for category in shapes[1]["categories"]] == [2, 5, 11, 17]


def test_ids_are_unique(shapes):
    for key in ("images", "annotations"):
        ids = [item["id"] for item in shapes[1][key]]
        assert len(ids) == len(set(ids))


def test_boxes_areas_and_outlines_describe_the_same_visible_pixels(shapes):
    for annotation in shapes[1]["annotations"]:
        mask = segmentation_mask(annotation["segmentation"], 96, 128)
        assert abs(mask.sum() - annotation["area"]) <= max(5, 0.05 * annotation["area"])
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y, width, height = annotation["bbox"]
        # Polygons are simplified by less than a pixel; specks of a few pixels are left out of them.
        outline_box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
        np.testing.assert_allclose(outline_box, [x, y, width, height], atol=4)


def test_objects_are_large_enough_to_be_learned(shapes):
    sides = [max(item["bbox"][2:]) for item in shapes[1]["annotations"] if not item["iscrowd"]]
    assert min(sides) >= 10
    assert np.median(sides) > 20


def test_crowds_and_images_without_objects_occur(shapes):
    content = shapes[1]
    assert any(item["iscrowd"] and isinstance(item["segmentation"], dict) for item in content["annotations"])
    assert {image["id"] for image in content["images"]} - {item["image_id"] for item in content["annotations"]}


def test_every_class_is_about_as_frequent(shapes):
    counts = np.unique([item["category_id"] for item in shapes[1]["annotations"]], return_counts=True)[1]
    assert len(counts) == 4
    assert counts.min() > 0.5 * counts.mean()


def test_everything_can_be_converted(shapes, tmp_path):
    report = convert_coco(*shapes[0], tmp_path / "records")
    assert (report.images, report.boxes, report.skipped) == (60, len(shapes[1]["annotations"]), ())


def test_images_depend_on_seed_and_split_but_not_on_their_number(tmp_path):
    def first_two(folder, **options):
        images_dir, annotations_file = make_synthetic_coco(tmp_path / folder, image_size=(64, 64), **options)
        pixels = [np.asarray(Image.open(os.path.join(images_dir, f"00000{index}.jpg"))) for index in (1, 2)]
        annotations = json.loads(Path(annotations_file).read_text())["annotations"]
        return pixels, [item for item in annotations if item["image_id"] <= 2]

    pixels, annotations = first_two("a", num_images=2)
    same_pixels, same_annotations = first_two("b", num_images=3)
    np.testing.assert_array_equal(pixels, same_pixels)
    assert annotations == same_annotations
    for other in ({"seed": 1}, {"split": "val"}):
        assert not np.array_equal(pixels, first_two("c", num_images=2, **other)[0])


@pytest.mark.parametrize(
    "arguments", [{"num_images": 0}, {"image_size": (20, 100)}, {"deformation": 3.0}, {"color_cue": -1.0}]
)
def test_bad_arguments_are_named(tmp_path, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make_synthetic_coco(tmp_path, **arguments)


@pytest.mark.parametrize("look", LOOKS)
def test_a_seed_gives_the_same_images_in_every_version(tmp_path, look):
    """What was measured on the images, such as the demo's AP, can then be measured again."""
    found = portrait(tmp_path, look)
    with np.load(GOLDEN / f"synthetic_{look}.npz") as expected:
        np.testing.assert_allclose(found["boxes"], expected["boxes"], rtol=0.01, atol=1)
        np.testing.assert_allclose(found["pixels"], expected["pixels"], atol=2)
