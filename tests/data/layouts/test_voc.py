import pytest

from tests.support.coco_folder import SMALL
from tf_dcnv2.data import convert_coco, load_records, read_dataset_info

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def labelled(*corners, name="cup", difficult=0):
    return OBJECT.format(*corners, name=name, difficult=difficult)


@pytest.fixture
def voc(images):
    """Writes `set/Annotations/a.xml` with these objects, and b.xml with one of its own; returns the folder."""
    folder = images.parent / "Annotations"
    folder.mkdir()

    def write(*objects, file_name="a.jpg"):
        size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
        for stem, name, content in (("a", file_name, "".join(objects)), ("b", "b.jpg", labelled(1, 1, 64, 48))):
            text = f"<annotation><filename>{name}</filename>{size}{content}</annotation>"
            (folder / f"{stem}.xml").write_text(text)
        return folder

    return write


def boxes_of(prefix):
    """Class names, boxes and crowd flags of the first image."""
    names = read_dataset_info(prefix).categories
    _, targets = next(iter(load_records(prefix, batch_size=1, **SMALL)))
    count = int((targets["classes"][0] >= 0).numpy().sum())
    return (
        [names[int(key)] for key in targets["classes"][0, :count]],
        targets["boxes"][0, :count].numpy().round(3).tolist(),
        targets["crowd"][0, :count].numpy().tolist(),
    )


def test_the_first_pixel_has_number_one_and_the_last_belongs_to_the_object(images, voc, prefix):
    report = convert_coco(images, voc(labelled(11, 5, 30, 24), labelled(1, 1, 8, 8, name="ball")), prefix)
    assert (report.images, report.boxes, report.categories) == (2, 3, {1: "ball", 2: "cup"})
    assert boxes_of(prefix) == (["cup", "ball"], [[4, 10, 24, 30], [0, 0, 8, 8]], [False, False])


def test_boxes_of_a_tool_that_counts_from_zero_are_taken_as_they_are(images, voc, prefix):
    report = convert_coco(images, voc(labelled(11, 5, 30, 24), labelled(0, 4, 8, 8)), prefix)
    assert boxes_of(prefix)[1] == [[5, 11, 24, 30], [4, 0, 8, 8]]
    assert "count from 0" in report.warnings[0]


def test_difficult_objects_are_to_be_ignored(images, voc, prefix):
    convert_coco(images, voc(labelled(11, 5, 30, 24), labelled(1, 1, 8, 8, difficult=1)), prefix)
    assert boxes_of(prefix)[2] == [False, True]


def test_a_list_of_image_sets_chooses_images(images, voc, prefix):
    voc(labelled(11, 5, 30, 24))
    split = images.parent / "ImageSets" / "Main" / "train.txt"
    split.parent.mkdir(parents=True)
    split.write_text("b\n\n")
    assert convert_coco(images, split, prefix).images == 1


def test_an_image_is_found_by_the_name_of_its_xml_file_if_that_inside_does_not_exist(images, voc, prefix):
    report = convert_coco(images, voc(labelled(11, 5, 30, 24), file_name="IMG_0001.JPG"), prefix)
    assert report.images == 2
    assert "found by the name of the XML file ('IMG_0001.JPG')" in str(report.repaired[0])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<object><name>cup</name></object>", "annotation 'a.xml object 2': it has no bndbox of four numbers (a.jpg)"),
        (labelled(1, 1, 8, 8, name=" "), "annotation 'a.xml object 2': it has no name (a.jpg)"),
        (labelled(9, 9, "x", 20), "annotation 'a.xml object 2': it has no bndbox of four numbers (a.jpg)"),
        (labelled(30, 9, 20, 20), "annotation 'a.xml object 2': degenerate bbox [29.0, 8.0, -9.0, 12.0] (a.jpg)"),
    ],
)
def test_objects_that_cannot_be_used_are_named_by_file_and_place(images, voc, prefix, content, problem):
    report = convert_coco(images, voc(labelled(11, 5, 30, 24), content), prefix)
    assert report.boxes == 2
    assert [str(item) for item in report.skipped] == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("<annotation><size>", "not valid XML: no element found"), ("<html/>", "no annotation of Pascal VOC: its root")],
)
def test_files_that_cannot_be_read_are_named(images, voc, prefix, text, problem):
    folder = voc()
    (folder / "a.xml").write_text(text)
    report = convert_coco(images, folder, prefix)
    assert report.images == 1
    assert str(folder / "a.xml") in str(report.skipped[0]) and problem in str(report.skipped[0])


def test_a_list_elsewhere_is_refused(images, prefix):
    path = images / "list.txt"
    path.write_text("a\n")
    with pytest.raises(ValueError, match="in no folder ImageSets"):
        convert_coco(images, path, prefix)
