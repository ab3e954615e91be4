import numpy as np
import pytest

from tests.support.coco_folder import rectangle
from tf_dcnv2.data import convert_coco, read_dataset_info
from tf_dcnv2.data.inspection.classes import side_histogram, summarize_classes
from tf_dcnv2.data.inspection.objects import read_image_set
from tf_dcnv2.data.inspection.problems import find_problems


def inspect(*prefixes, short_side=96, max_side=128):
    """Description, content, boxes as the network sees them, and problems."""
    info = read_dataset_info(list(prefixes))
    images = read_image_set(info)
    resized = images.resized_boxes(short_side, max_side)
    return info, images, resized, find_problems(info, images, resized)


def told(problems):
    """Problems as text, without those about classes of few boxes, which every small data set has."""
    return [str(problem) for problem in problems if "class of fewer" not in problem.kind]


@pytest.fixture
def plain(coco):
    """Three different images of 48 x 64 pixels with a box each."""
    for image_id in (1, 2, 3):
        coco.add_image(image_id, pixels=np.full((48, 64, 3), 50 * image_id, np.uint8))
        coco.add_box(image_id, [10, 8, 20 + image_id, 16])
    return coco


def test_a_plain_data_set_has_no_problems(plain, prefix):
    convert_coco(*plain.save(), prefix)
    assert told(inspect(prefix)[-1]) == []


def test_what_the_conversion_left_out_or_repaired_is_told_with_the_file(plain, prefix):
    plain.add_box(2, [200, 200, 10, 10])
    plain.add_box(3, "[1, 2, 30, 20]")
    plain.add_image(4, name="missing.jpg", save=False)
    convert_coco(*plain.save(), prefix)
    text = "\n".join(told(inspect(prefix)[-1]))
    assert "2.jpg: annotation skipped (annotation 4: bbox [200.0, 200.0, 10.0, 10.0] lies outside" in text
    assert "3.jpg: annotation repaired: a bbox that is no list of numbers was read as one (annotation 5)" in text
    assert "missing.jpg: image skipped (image 4:" in text


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ([30, 8, 1.9, 16], "2.jpg: box of less than 4 pixels in the network's image (disc at x 30-32, y 8-24)"),
        ([0, 8, 63, 2.5], "2.jpg: box more than 20 times as long as wide (disc at x 0-63, y 8-10)"),
        ([10, 8, 22, 16], "2.jpg: box is there twice (disc at x 10-32, y 8-24)"),
    ],
)
def test_boxes_that_cannot_be_meant_are_told_with_the_file(plain, prefix, bbox, expected):
    plain.add_box(2, bbox)
    convert_coco(*plain.save(), prefix)
    assert told(inspect(prefix)[-1]) == [expected]


def test_crowd_regions_may_have_any_shape(plain, prefix):
    plain.add_box(2, [0, 8, 63, 2], iscrowd=1)
    convert_coco(*plain.save(), prefix)
    assert told(inspect(prefix)[-1]) == []


def test_images_without_boxes_and_images_that_are_there_twice_are_told(plain, prefix):
    plain.add_image(4, name="background.jpg", pixels=rectangle(48, 64, [0, 0, 4, 4]))
    plain.add_image(5, name="again.jpg", pixels=np.full((48, 64, 3), 50, np.uint8))
    plain.add_box(5, [10, 8, 20, 16])
    convert_coco(*plain.save(), prefix)
    assert told(inspect(prefix)[-1]) == [
        "background.jpg: image without any box",
        "again.jpg: image is there twice (the same as 1.jpg)",
    ]


def test_an_image_in_two_sets_of_records_is_told(plain, prefix):
    convert_coco(*plain.save(), prefix)
    plain.content["images"], plain.content["annotations"] = (
        plain.content["images"][:1],
        plain.content["annotations"][:1],
    )
    convert_coco(*plain.save(), f"{prefix}_val")
    assert told(inspect(prefix, f"{prefix}_val")[-1]) == [
        "1.jpg: image of one set of records is in another too (the same as 1.jpg)"
    ]


def test_sizes_are_those_of_the_network_s_image(plain, prefix):
    plain.add_box(1, [0, 0, 64, 48], 900)
    plain.add_box(1, [0, 0, 64, 48], 900, iscrowd=1)
    convert_coco(*plain.save(), prefix)
    info, images, resized, _ = inspect(prefix)
    np.testing.assert_allclose(resized[0], [16, 20, 48, 62], rtol=1e-6)
    discs, bars, everything = summarize_classes(images, resized, info.categories)
    assert (discs.name, discs.boxes, discs.images, discs.crowd) == ("disc", 3, 3, 0)
    assert (bars.boxes, bars.images, bars.crowd) == (2, 1, 1)
    assert bars.sides[1] == pytest.approx(np.sqrt(96 * 128), rel=1e-6)
    assert bars.shares == (0.0, 0.0, 1.0)
    assert everything.boxes == 5 and everything.shares == (0.0, 0.75, 0.25)


def test_the_histogram_counts_every_side_once():
    counts = side_histogram(np.array([8.0, 8.1, 11.0, 11.4, 16.0, 31.0]))
    assert sum(count for _, count in counts) == 6
    assert counts[0] == ("8 to 11", 3) and counts[1] == ("11 to 16", 1)
