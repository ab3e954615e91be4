"""What a user expects of annotation files as other tools write them."""

import json
from typing import NamedTuple

import pytest

from tests.support.hard_cases import CASES
from tf_dcnv2.data import load_records, read_dataset_info
from tf_dcnv2.data.findings import count_repairs


class Expected(NamedTuple):
    """`boxes` in the records of `images` images, and what is said about them."""

    images: int
    boxes: int
    said: tuple[str, ...] = ()
    crowd: int = 0
    masks: int = 0  # that are not empty


USABLE = {
    "plain": Expected(4, 8, masks=8),
    "raw_bom": Expected(4, 8, masks=8),
    "ann_image_id_string": Expected(4, 8, ("8 annotations: ids that are no integers were read as such",), masks=8),
    "ann_category_id_string": Expected(4, 8, ("8 annotations: ids that are no integers were read as such",)),
    "huge_ids": Expected(4, 8, ("4 images: an id that is no 64-bit integer got a number",), masks=8),
    "image_size_minus1": Expected(4, 8, ("3 images: an unusable size was replaced by the file's",), masks=8),
    "image_size_null_zero_string": Expected(4, 8, ("2 images: an unusable size was replaced by the file's",), masks=8),
    "bbox_missing": Expected(
        4, 8, ("8 annotations: the box of the segmentation was taken for the missing bbox",), masks=8
    ),
    "seg_flat_VIA": Expected(4, 8, ("8 annotations: a flat list of coordinates was read as polygon",), masks=8),
    "seg_list_of_empty": Expected(4, 8, ("8 annotations: the box was kept, its unusable mask was left out",)),
    "seg_2points": Expected(
        4,
        8,
        (
            "1 annotation: the box was kept, its unusable mask was left out",
            "1 annotation: parts of the polygon that are malformed were left out",
        ),
        masks=7,
    ),
    "rle_bad_counts_str": Expected(4, 8, ("4 annotations: the box was kept, its unusable mask was left out",), masks=4),
    "iscrowd_all1": Expected(4, 8, ("all 8 boxes are crowd regions",), crowd=8, masks=8),
    "iscrowd_string0": Expected(4, 8, ("8 annotations: an iscrowd given as text was read as a number",), masks=8),
    "name_backslash": Expected(4, 8, ("3 images: backslashes in the file name were read as folders",), masks=8),
    "name_folder_prefix": Expected(2, 4, ("2 images: the file was found without the folders in its name",), masks=4),
    "name_urlencoded": Expected(
        4,
        8,
        ("2 images: %-signs in the file name were decoded", "1 image: the file name was taken out of a URL"),
        masks=8,
    ),
    "category_dup_name": Expected(4, 8, ("2 categories have the same name 'red' (ids 1, 3)",), masks=8),
    "dense": Expected(4, 1200),
    "exif": Expected(3, 6, ("of the frame as stored, those of others of the upright one",), masks=6),
}

REFUSED = {
    "bbox_xyxy": r"100% of them look like xyxy \(corners.*--box-format xyxy",
    "bbox_normalized": r"100% of them look like xywh-normalized .*--box-format xywh-normalized",
    "panoptic": r"panoptic file.*segments_info.*instances_",
}


def test_every_case_has_its_expectation():
    cases = {path.parent.name for path in CASES.glob("*/a.json")}
    assert cases == {*USABLE, *REFUSED, "formats"}


@pytest.mark.parametrize("case", USABLE)
def test_what_has_one_meaning_is_used_and_said(convert, tmp_path, case):
    report, expected = convert(case), USABLE[case]
    assert (report.images, report.boxes, report.crowd) == (expected.images, expected.boxes, expected.crowd)
    assert report.skipped == ()
    said = [*count_repairs(report.repaired), *report.warnings]
    assert len(said) >= len(expected.said)
    for sentence in expected.said:
        assert any(sentence in line for line in said), said
    if not expected.said:
        assert said == []
    assert (report.report_path is not None) == bool(report.repaired)

    info = read_dataset_info(tmp_path / "set")
    assert info.has_masks == bool(expected.masks)
    targets = load_records(
        tmp_path / "set", batch_size=1, masks=info.has_masks, mask_size=16, training=True, shuffle=False, flip=False
    )
    boxes = masks = 0
    for _, target in targets:
        boxes += int((target["classes"].numpy() >= 0).sum())
        masks += int(target["masks"].numpy().any(axis=(2, 3)).sum()) if info.has_masks else 0
    assert (boxes, masks) == (expected.boxes, expected.masks)


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_something_else_is_refused_by_name(convert, tmp_path, case):
    with pytest.raises(ValueError, match=REFUSED[case]):
        convert(case)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["bbox_xyxy", "bbox_normalized"])
def test_a_stated_box_format_is_converted(convert, tmp_path, case):
    convert(case, box_format={"bbox_xyxy": "xyxy", "bbox_normalized": "xywh-normalized"}[case])
    # Images of 160 x 120 pixels stay as they are.
    for _, target in load_records(tmp_path / "set", batch_size=4, short_side=120, max_side=160):
        assert target["boxes"].numpy()[:, 0].tolist() == [[30.0, 40.0, 60.0, 80.0]] * 4
        assert target["boxes"].numpy()[:, 1].tolist() == [[60.0, 80.0, 90.0, 120.0]] * 4


def test_the_report_lists_every_item(convert, tmp_path):
    report = convert("rle_bad_counts_str")
    listed = json.loads((tmp_path / "set.skipped.json").read_text())
    assert report.report_path == str(tmp_path / "set.skipped.json")
    assert [item["id"] for item in listed["repaired"]] == [1, 2, 3, 4]
    assert all("malformed run lengths" in item["detail"] for item in listed["repaired"])
    convert("plain")
    assert not (tmp_path / "set.skipped.json").exists()


def test_original_ids_are_kept_for_the_results(convert, tmp_path):
    convert("huge_ids")
    info = read_dataset_info(tmp_path / "set")
    assert [info.original_ids[image_id] for image_id in info.image_ids] == [
        20231231120000000000 + number for number in (1, 2, 3, 4)
    ]
    assert all(0 <= image_id < 2**53 for image_id in info.image_ids)
