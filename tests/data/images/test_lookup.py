import os
import unicodedata

import pytest

from tf_dcnv2.data.images.files import UnreadableImage
from tf_dcnv2.data.images.lookup import ImageLookup

FILES = ("im1.jpg", "im 2.jpg", "Ünï.JPG", "sub/im3.jpeg", "sub/deep/im4.png", "other/im4.png", "a[1].jpg", "100%.jpg")


@pytest.fixture
def lookup(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return ImageLookup(tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, name) for name in FILES),
        ("./im1.jpg", "im1.jpg"),
        ("images/im1.jpg", "im1.jpg"),
        ("/data/project/im1.jpg", "im1.jpg"),
        ("../../im1.jpg", "im1.jpg"),
        ("C:\\data\\im1.jpg", "im1.jpg"),
        ("sub\\im3.jpeg", "sub/im3.jpeg"),
        ("D:\\x\\sub\\deep\\im4.png", "sub/deep/im4.png"),
        ("im%202.jpg", "im 2.jpg"),
        ("%C3%9Cn%C3%AF.JPG", "Ünï.JPG"),
        (unicodedata.normalize("NFD", "Ünï.JPG"), "Ünï.JPG"),
        ("ünï.jpg", "Ünï.JPG"),
        ("IM1.JPG", "im1.jpg"),
        ("im1.jpeg", "im1.jpg"),
        ("im1.jpg\n", "im1.jpg"),
        ("im1", "im1.jpg"),
        ("sub/im3.jpg", "sub/im3.jpeg"),
        ("file:///x/im1.jpg", "im1.jpg"),
        ("s3://bucket/sub/im3.jpeg", "sub/im3.jpeg"),
        ("https://host/im1.jpg?token=a/b", "im1.jpg"),
        ("/data/local-files/?d=x/im1.jpg", "im1.jpg"),
        ("upload/3ac1d2f4-im1.jpg", "im1.jpg"),
    ],
)
def test_a_name_finds_its_file_however_a_tool_wrote_it(lookup, tmp_path, name, file):
    found = lookup.find(name)
    assert os.path.normpath(found.path) == str(tmp_path / file)
    assert bool(found.how) == (name not in FILES and name != "./im1.jpg")


@pytest.mark.parametrize(
    "name",
    ["im4.png", "sub/im1x.jpg", "sub/im1.png", "train/sub2/im3.jpeg", "im9.jpg", "", "sub", "..", "a\0b.jpg", "\ud800"],
)
def test_what_is_not_there_or_only_in_another_folder_is_not_guessed(lookup, name):
    with pytest.raises(UnreadableImage, match="does not exist|fits 2 files"):
        lookup.find(name)


def test_a_file_in_a_folder_below_is_named_but_not_taken(lookup):
    with pytest.raises(UnreadableImage, match=r"im3\.jpeg does not exist \(is it .*sub/im3\.jpeg\?"):
        lookup.find("im3.jpeg")


def test_a_file_in_a_different_folder_is_not_taken(lookup):
    with pytest.raises(UnreadableImage, match="does not exist"):
        lookup.find("val/other2/im4.png")
