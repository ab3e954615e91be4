import json
from pathlib import Path

import pytest

from tf_dcnv2.data import convert_coco


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", 'no list "images"'),
        ('{"images": [], "annotations": {}, "categories": []}', 'no list "annotations"'),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "y"}]}', "integer id and a name"),
        (
            json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}] * 2}),
            "category id 1 appears twice",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "y"}]}', "No image of"),
    ],
)
def test_an_invalid_annotation_file_is_refused(coco, prefix, text, message):
    coco.annotations_file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        convert_coco(coco.images_dir, coco.annotations_file, prefix)
    assert "instances.json" in str(error.value)
    assert not list(Path(prefix).parent.glob("*"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<annotation>", "XML"),
        ("0 0.5 0.5 0.1 0.1", "YOLO"),
        ("a,b,c,d", "table"),
        ('[{"image_id": 1, "score": 0.5}]', "results format"),
        ('{"shapes": [], "imagePath": "a.jpg"}', "LabelMe"),
        ('{"a.jpg123": {"filename": "a.jpg", "regions": []}}', "VGG Image Annotator"),
        ('[{"id": 1, "data": {}, "annotations": []}]', "Label Studio"),
        ('[{"image": "a.jpg", "annotations": []}]', "CreateML"),
        ('{"annotations": [{"id": 1, "caption": "a cat"}]}', "captions"),
        ('{"annotations": [{"image_id": 1, "segments_info": []}]}', "panoptic"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "not valid JSON"),
    ],
)
def test_other_formats_are_refused_by_their_names(coco, prefix, text, kind):
    coco.annotations_file.write_text(text)
    with pytest.raises(ValueError, match=kind):
        convert_coco(coco.images_dir, coco.annotations_file, prefix)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_every_encoding_is_read(coco, prefix, encoding):
    coco.content["categories"] = [{"id": 3, "name": "Möwe"}]
    coco.add_image(1)
    coco.add_box(1, [1, 1, 9, 9])
    coco.annotations_file.write_bytes(json.dumps(coco.content, ensure_ascii=False).encode(encoding))
    assert convert_coco(coco.images_dir, coco.annotations_file, prefix).categories == {3: "Möwe"}
