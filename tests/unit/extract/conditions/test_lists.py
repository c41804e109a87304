"""Lists of images, splits and exemplars, as the published ones and yours are written."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.lists import (
    exemplars_of,
    read_exemplar_list,
    read_exemplars,
    read_images,
    read_split,
    read_table,
)

IMAGES = {"a/one", "a/two", "b/three", "four"}


def find(name: str) -> str | None:
    image = name.removeprefix("img/").removesuffix(".jpg")
    return image if image in IMAGES else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.txt"


@pytest.mark.parametrize(
    "text",
    [
        "img/a/one.jpg,four.jpg,img/b/three.jpg\nfour,a/one\n",
        "img\\a\\one.jpg,four.jpg,img\\b\\three.jpg\r\nfour,a\\one",
        "\n\n a/one , four,b/three ,,\n\n  \nfour,a/one\n\n",
        "\ufeffa/one,four,b/three\nfour,a/one",
        "key,exemplar1,exemplar2\na/one,four,b/three\nfour,a/one",
        '"a/one","four","b/three"\nfour,a/one',
    ],
)
def test_exemplars_in_all_notations(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    assert read_exemplars(path, find) == {"a/one": ("four", "b/three"), "four": ("a/one",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it says which images are exemplars of which"),
        ("\r\n\n , \n", "is empty"),
        ("a/one,four\n\nfive,four\n", "line 3: no image 'five' in the dataset"),
        ("a/one,four\na/two,a/one,six.jpg\n", r"line 2: no image 'six\.jpg'"),
        ("a/one,,four\n", "line 1: no image ''"),
        ("a/one,four\na/two\n", "line 2 names no exemplar of 'a/two'"),
        ("a/one,four\nfour,a/one\nimg\\a\\one.jpg,four\n", "line 3 names 'a/one' again, after line 1"),
        ("key,exemplar1\n\na/one,none\n", "line 3: no image 'none'"),
        ("a/one,four\nkey,exemplar1\n", "line 2: no image 'key'"),
    ],
)
def test_a_bad_list_is_named_with_its_line(path: Path, text: str, message: str) -> None:
    path.write_bytes(text.encode())
    with pytest.raises(DatasetError, match=rf"list\.txt:? {message}"):
        read_exemplars(path, find)


def test_a_missing_list_and_another_encoding_are_named(path: Path) -> None:
    with pytest.raises(DatasetError, match=r"list\.txt is missing: it says which images are exemplars"):
        read_exemplars(path, find)
    path.write_bytes(b"m\xe4hne,four\n")
    with pytest.raises(DatasetError, match=r"list\.txt is not a list in UTF-8"):
        read_exemplars(path, find)
    path.write_bytes(b"a" * 200_000)
    with pytest.raises(DatasetError, match=r"list\.txt is not a list in UTF-8: field larger"):
        read_exemplars(path, find)


def test_an_image_may_be_called_key(path: Path) -> None:
    path.write_text("key,other\n")
    assert read_exemplars(path, lambda name: name) == {"key": ("other",)}


def test_of_a_lists_lines_those_of_the_wanted_images_count(path: Path) -> None:
    path.write_text("a/one,four\na/two,four\nfour,a/one\n")
    assert exemplars_of(path, ("four", "b/three"), find) == {"four": ("a/one",)}
    with pytest.raises(DatasetError, match=r"list\.txt has no line of the split's 1 images, .* 'b/three'"):
        exemplars_of(path, ("b/three",), find)


def test_images_one_a_line_in_order(path: Path) -> None:
    path.write_bytes(b"img\\four.jpg\r\n\r\na\\one\r\n")
    assert read_images(path, find, what="what it says") == ("four", "a/one")
    for text, message in {
        "four\nfour.jpg\n": "line 2 names 'four' again, after line 1",
        "four\na/one,a/two\n": "line 2 must name one image, not 2",
        "five\n": "line 1: no image 'five'",
        "\n": "is empty: what it says",
    }.items():
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_images(path, find, what="what it says")


def test_the_published_files_of_splits_and_exemplars(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a/one\na/two\n")
    (tmp_path / "val.txt").write_text("four\n")
    (tmp_path / "faces_ref.txt").write_text("a/one,a/two\n")
    (tmp_path / "faces_ref_test.txt").write_text("four,a/one\nb/three,a/two\n")
    train, val = (read_split(tmp_path, split, find, name="faces") for split in ("trn", "val"))
    assert (train, val) == (("a/one", "a/two"), ("four",))
    held = [
        read_exemplar_list(tmp_path, "faces", split=s, images=i, find=find) for s, i in (("trn", train), ("val", val))
    ]
    assert held == [{"a/one": ("a/two",)}, {"four": ("a/one",)}]
    with pytest.raises(DatasetError, match=r"test\.txt is missing: it lists the images of split 'test' of faces"):
        read_split(tmp_path, "test", find, name="faces")
    with pytest.raises(DatasetError, match="faces has no split 'train'; there are: trn, val, test"):
        read_split(tmp_path, "train", find, name="faces")


def test_a_table(path: Path) -> None:
    path.write_text("image,group\na/one.jpg,tom\nfour,tom\n")
    assert read_table(path, ("image", "group"), find, what="") == {"a/one": "tom", "four": "tom"}
    for text, message in {
        "image,split\na/one,trn\n": "line 1 must be image,group, not image,split",
        "image,group\na/one\n": "line 2 must hold image,group, not 1 values",
        "image,group\na/one,tom,rex\n": "line 2 must hold image,group, not 3 values",
        "image,group\nfive,tom\n": "line 2: no image 'five'",
        "image,group\nfour,tom\nfour,rex\n": "line 3 names 'four' again",
    }.items():
        path.write_text(text)
        with pytest.raises(DatasetError, match=rf"list\.txt: {message}"):
            read_table(path, ("image", "group"), find, what="")


def test_a_mutated_list_loads_or_is_refused(path: Path) -> None:
    whole = b"img\\a\\one.jpg,four.jpg,img\\b\\three.jpg\r\nfour,a/one\r\n\r\nb/three,a/two,four\r\n"
    scraps = [b",", b"\n", b"\r", b'"', b"\0", b"\xff", b"/", b"\\", b" ", b"a", b"\xe2\x80\xa8", b"\xef\xbb\xbf"]
    random, loaded = np.random.default_rng(3), 0
    for _ in range(200):
        at, length = (int(n) for n in random.integers(0, (len(whole), 30)))
        scrap = scraps[random.integers(len(scraps))]
        kinds = [whole[:at] + scrap + whole[at:], whole[:at] + whole[at + length :], whole[:at] + whole[at:] * 2]
        path.write_bytes(kinds[random.integers(3)])
        try:
            held = read_exemplars(path, find)
        except DatasetError as error:
            assert path.name in str(error)  # noqa: PT017 - either is right
        else:
            assert all(others and {image, *others} <= IMAGES for image, others in held.items())
            loaded += 1
    assert 20 < loaded < 180
