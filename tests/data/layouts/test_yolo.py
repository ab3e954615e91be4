import shutil

import pytest

from tests.support.coco_folder import SMALL
from tf_dcnv2.data import convert_coco, load_records, read_dataset_info


@pytest.fixture
def yolo(images):
    """Writes `set/labels/a.txt`, and data.yaml, whose path is returned; b.jpg is background."""

    def write(labels, names="names: [cup, ball]"):
        (images.parent / "labels").mkdir(exist_ok=True)
        (images.parent / "labels" / "a.txt").write_text(labels)
        path = images.parent / "data.yaml"
        path.write_text(f"train: images\n{names}\n")
        return path

    return write


def test_centres_and_sides_are_fractions_of_the_image(images, yolo, prefix):
    report = convert_coco(images, yolo("1 0.5 0.5 0.25 0.5\n\n0 0.125 0.25 0.25 0.5\n"), prefix)
    assert (report.images, report.boxes, report.categories) == (2, 2, {0: "cup", 1: "ball"})
    _, targets = next(iter(load_records(prefix, batch_size=1, **SMALL)))
    assert targets["classes"].numpy().tolist() == [[1, 0]]
    assert targets["boxes"].numpy().tolist() == [[[12, 24, 36, 40], [0, 0, 24, 16]]]


def test_polygons_become_masks(images, yolo, prefix):
    convert_coco(images, yolo("1 0.25 0.25 0.75 0.25 0.75 0.75\n"), prefix)
    assert read_dataset_info(prefix).has_masks
    _, targets = next(iter(load_records(prefix, batch_size=1, masks=True, mask_size=16, **SMALL)))
    assert targets["boxes"][0, 0].numpy().tolist() == [12, 16, 36, 48]
    upper_right = targets["masks"][0, 0].numpy()
    assert upper_right[1, 14] == 1 and upper_right[14, 1] == 0 and 0.4 < upper_right.mean() < 0.6


@pytest.mark.parametrize(
    "names", ["names: {0: cup, 1: ball}", "names:\n  0: cup\n  1: ball", "nc: 2\nnames: [cup, ball]"]
)
def test_class_names_are_a_list_or_a_mapping(images, yolo, prefix, names):
    assert convert_coco(images, yolo("1 0.5 0.5 0.2 0.2", names), prefix).categories == {0: "cup", 1: "ball"}


def test_a_folder_of_labels_finds_its_class_names(images, yolo, prefix):
    yolo("1 0.5 0.5 0.2 0.2").unlink()
    labels = images.parent / "labels"
    (labels / "classes.txt").write_text("cup\nball\n")
    assert convert_coco(images, labels, prefix).categories == {0: "cup", 1: "ball"}


def test_labels_may_lie_beside_the_images(images, yolo, prefix):
    path = yolo("1 0.5 0.5 0.2 0.2")
    shutil.move(images.parent / "labels" / "a.txt", images / "a.txt")
    (images.parent / "labels").rmdir()
    assert convert_coco(images, path, prefix).boxes == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("7 0.5 0.5 0.2 0.2", "class 7 has no name in the list of classes"),
        ("1 0.5 0.5 0.2", "4 numbers instead of 5 for a box"),
        ("1 0.5 0.5 0.2 0.2 0.9", "a box with a score"),
        ("1 32 24 10 10", "no fractions of the image: '1 32 24 10 10'"),
        ("cup 0.5 0.5 0.2 0.2", "class cup has no name"),
        ("1 0.5 nan 0.2 0.2", "not a line of numbers"),
        ("1 0.5 0.5 0 0.2", "degenerate bbox"),
    ],
)
def test_lines_that_cannot_be_used_are_named_by_file_and_number(images, yolo, prefix, line, problem):
    report = convert_coco(images, yolo(f"1 0.5 0.5 0.2 0.2\n{line}\n"), prefix)
    assert report.boxes == 1
    [text] = map(str, report.skipped)
    assert "a.txt line 2" in text and problem in text and "a.jpg" in text


def test_a_folder_without_labels_of_these_images_is_refused(images, yolo, prefix):
    path = yolo("1 0.5 0.5 0.2 0.2")
    (images.parent / "labels" / "a.txt").rename(images.parent / "labels" / "other.txt")
    with pytest.raises(FileNotFoundError, match=r"No image of .*images has a label in .*labels"):
        convert_coco(images, path, prefix)


@pytest.mark.parametrize("names", ["nc: 2", "names: 3", "names: {cup: 0}"])
def test_a_list_of_classes_that_is_none_is_refused(images, yolo, prefix, names):
    with pytest.raises(ValueError, match=r"data\.yaml must have names"):
        convert_coco(images, yolo("1 0.5 0.5 0.2 0.2", names), prefix)


def test_a_stated_layout_is_not_guessed(images, yolo, prefix):
    with pytest.raises(ValueError, match="not valid JSON"):
        convert_coco(images, yolo("1 0.5 0.5 0.2 0.2"), prefix, layout="coco")
    with pytest.raises(ValueError, match="without XML files"):
        convert_coco(images, images, prefix)
