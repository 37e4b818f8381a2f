"""Folders and archives of images: layouts, labels, splits, pixels, and what is broken."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.tasks import imagenet
from laurel_cli.tasks.reading import images, sources
from laurel_cli.tasks.reading.cache import Arrays
from laurel_cli.tasks.reading.sources import open_source

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cifar10-images.tar.gz"


def picture(number: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    """A plain picture whose colour names it."""
    return Image.new("RGB", size, (number, 255 - number, number // 2))


def fill(root: Path, names: list[str], size: tuple[int, int] = (8, 6)) -> dict[str, int]:
    """Write a PNG for each name and return which number it shows."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number, size).save(root / name)
    return {name: number for number, name in enumerate(names)}


def prepare(place: Path, tmp_path: Path, **options: object) -> Arrays:
    preparation = images.Preparation(**options)  # type: ignore[arg-type]
    return images.prepare(str(place), preparation, tmp_path / "cache", lambda step: None)


@pytest.fixture(autouse=True)
def _place_to_prepare_in(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()


def shown(arrays: Arrays, part: str) -> list[tuple[int, int]]:
    """(number that the picture shows, label) of a part."""
    numbers = arrays.arrays[f"{part}.images"][:, 0, 0, 0].tolist()
    return sorted(zip(numbers, arrays.arrays[f"{part}.labels"].tolist(), strict=True))


SPLIT = ["train/b/1.png", "train/a/1.png", "train/a/x/2.png", "val/a/1.png", "val/b/9.PNG"]


@pytest.mark.parametrize("root", ["", "some/where"])
@pytest.mark.parametrize("held", ["val", "test", "validation"])
def test_a_split_of_its_own(tmp_path: Path, root: str, held: str) -> None:
    names = [f"{root}/{name}".strip("/").replace("val/", f"{held}/") for name in SPLIT]
    fill(tmp_path / "data", names)
    (tmp_path / "data" / root / "README.md").write_text("no image")
    (tmp_path / "data" / root / ".hidden.png").write_text("no image either")
    arrays = prepare(tmp_path / "data", tmp_path)
    assert shown(arrays, "train") == [(0, 1), (1, 0), (2, 0)]
    assert shown(arrays, "evaluation") == [(3, 0), (4, 1)]
    assert arrays.facts["classes"] == ["a", "b"]
    assert arrays.facts["provenance"]["ignored_files"] == 1
    assert arrays.arrays["train.images"].shape[1:] == (6, 8, 3)


def test_an_archive_holds_the_same(tmp_path: Path) -> None:
    fill(tmp_path / "data", SPLIT)
    for name, mode, prefix in (("a.tar.gz", "w:gz", "."), ("b.tar", "w", "data"), ("c.tar.xz", "w:xz", "./x/y")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tmp_path / "data", prefix)
        arrays = prepare(tmp_path / name, tmp_path)
        assert shown(arrays, "train") == [(0, 1), (1, 0), (2, 0)]
        assert arrays.sha256["evaluation.labels"] == prepare(tmp_path / "data", tmp_path).sha256["evaluation.labels"]


def test_a_split_by_name(tmp_path: Path) -> None:
    names = [f"{c}/{i}.png" for c in "abc" for i in range(60)]
    numbers = fill(tmp_path / "data", names)
    arrays = prepare(tmp_path / "data", tmp_path)
    held = [number for number, _ in shown(arrays, "evaluation")]
    assert held == [numbers[name] for name in names if images.is_held(name)]
    assert 6 <= len(held) <= 36
    assert sorted(held + [number for number, _ in shown(arrays, "train")]) == list(range(180))
    assert all(label == number // 60 for part in ("train", "evaluation") for number, label in shown(arrays, part))
    # One file more does not move another from one part to the other.
    picture(200).save(tmp_path / "data" / "a" / "new.png")
    more = prepare(tmp_path / "data", tmp_path)
    assert set(held) <= {number for number, _ in shown(more, "evaluation")}


def test_moments(tmp_path: Path) -> None:
    fill(tmp_path / "data", SPLIT)
    arrays = prepare(tmp_path / "data", tmp_path)
    pixels = arrays.arrays["train.images"].reshape(-1, 3) / 255
    np.testing.assert_allclose(arrays.facts["mean"], pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(arrays.facts["sd"], pixels.std(0), rtol=1e-9)


def test_several_sizes(tmp_path: Path) -> None:
    fill(tmp_path / "data", SPLIT)
    picture(7, (20, 30)).save(tmp_path / "data" / "train" / "b" / "other.png")
    with pytest.raises(UsageError, match="`image_size="):
        prepare(tmp_path / "data", tmp_path)
    arrays = prepare(tmp_path / "data", tmp_path, size=5)
    assert arrays.arrays["train.images"].shape == (4, 5, 5, 3)
    assert (7, 1) in shown(arrays, "train")


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (33, 21), (10, 10)])
def test_the_middle_is_kept(size: tuple[int, int]) -> None:
    """A red image with a green square at its middle: it stays there, and nothing is stretched."""
    image = Image.new("RGB", size, (255, 0, 0))
    for x in range(size[0]):
        for y in range(size[1]):
            if abs(x + 0.5 - size[0] / 2) < min(size) / 8 and abs(y + 0.5 - size[1] / 2) < min(size) / 8:
                image.putpixel((x, y), (0, 255, 0))
    for margin in (1.0, 1.25):
        green = np.asarray(images.fitted(image, 16, margin))[..., 1].astype(float)
        centre = [(green.sum(axis) * (np.arange(16) + 0.5)).sum() / green.sum() for axis in (0, 1)]
        assert centre == pytest.approx([8, 8], abs=0.6)
        area = (np.asarray(image)[..., 1] > 0).sum() * (16 * margin / min(size)) ** 2
        assert green.sum() / 255 == pytest.approx(area, rel=0.1)


def test_modes_become_rgb(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill(tmp_path / "data", [f"{part}/a/1.png", f"{part}/b/1.png"])
    Image.new("L", (8, 6), 40).save(tmp_path / "data/train/a/grey.png")
    Image.new("P", (8, 6), 1).save(tmp_path / "data/train/a/palette.png")
    Image.new("RGBA", (8, 6), (41, 42, 43, 0)).save(tmp_path / "data/train/a/alpha.png")
    Image.new("CMYK", (8, 6), (0, 0, 0, 0)).save(tmp_path / "data/train/a/cmyk.jpg")
    found = prepare(tmp_path / "data", tmp_path).arrays["train.images"][:, 0, 0].tolist()
    assert [40, 40, 40] in found
    assert [41, 42, 43] in found
    assert [255, 255, 255] in found


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bits_become_eight(tmp_path: Path, form: str) -> None:
    for part in ("train", "test"):
        fill(tmp_path / "data", [f"{part}/a/1.png", f"{part}/b/1.png"])
    ramp = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1394  # up to 65518
    Image.fromarray(ramp).save(tmp_path / f"data/train/a/grey.{form}")
    found = prepare(tmp_path / "data", tmp_path).arrays["train.images"]
    grey = next(image for image in found if image[0, 0].tolist() == [0, 0, 0] and image[-1, -1].tolist() == [255] * 3)
    assert np.abs(grey[..., 1] - ramp / 65535 * 255).max() <= 0.5


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_no_known_range_are_refused(tmp_path: Path, kind: type) -> None:
    fill(tmp_path / "data", SPLIT)
    Image.fromarray(np.full((6, 8), 100_000, kind)).save(tmp_path / "data/train/a/x.tiff")
    with pytest.raises(RecordError, match="range is not known"):
        prepare(tmp_path / "data", tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", "cut"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    fill(tmp_path / "data", SPLIT)
    broken = tmp_path / "data" / "train" / "b" / "2.jpg"
    picture(7).save(broken)
    broken.write_bytes(content if isinstance(content, bytes) else broken.read_bytes()[:-20])
    with pytest.raises(RecordError, match=r"train/b/2\.jpg") as caught:
        prepare(tmp_path / "data", tmp_path)
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "cache").glob("*.arrays"))


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([], "cannot be learned from"),
        (["train/a/1.png", "test/a/1.png"], "cannot be learned from"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "'c'"),
        (["1.png", "2.png"], "cannot be learned from"),
    ],
)
def test_what_is_no_data(tmp_path: Path, names: list[str], what: str) -> None:
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", names)
    with pytest.raises(RecordError, match=what):
        prepare(tmp_path / "data", tmp_path)


def test_missing_or_broken_places(tmp_path: Path) -> None:
    fill(tmp_path / "data", SPLIT)
    prepare(tmp_path / "data", tmp_path)
    (tmp_path / "data").rename(tmp_path / "gone")
    with pytest.raises(RecordError, match="missing"):  # the cache never stands in for data that is gone
        prepare(tmp_path / "data", tmp_path)
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(RecordError, match="neither"):
        prepare(tmp_path / "x.bin", tmp_path)
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "gone", "data")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for number, data in enumerate((b"", b"garbage" * 99, whole[: len(whole) // 2], whole[:-9])):
        (tmp_path / f"broken{number}.tar.gz").write_bytes(data)
        with pytest.raises(RecordError, match=f"broken{number}"):
            prepare(tmp_path / f"broken{number}.tar.gz", tmp_path)


def test_change_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path / "data", SPLIT)
    first = prepare(tmp_path / "data", tmp_path)
    os.utime(tmp_path / "data/train/a/1.png", ns=(1, 1))  # touched, not changed: the same data, prepared again
    assert prepare(tmp_path / "data", tmp_path).sha256 == first.sha256
    picture(99).save(tmp_path / "data" / "train" / "a" / "1.png")
    second = prepare(tmp_path / "data", tmp_path)
    assert second.sha256["train.images"] != first.sha256["train.images"]
    assert (99, 0) in shown(second, "train")
    (tmp_path / "data" / "train" / "a" / "1.png").unlink()
    assert len(prepare(tmp_path / "data", tmp_path).arrays["train.labels"]) == 2


def test_names_in_an_archive_are_only_names(tmp_path: Path) -> None:
    """Nothing is unpacked, whatever the members are called."""
    buffer = io.BytesIO()
    picture(1).save(buffer, "PNG")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ("../../train/a/1.png", "/tmp/train/a/1.png", "train/a/1.png", "train/b/1.png", "test/a/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            archive.addfile(member, io.BytesIO(buffer.getvalue()))
        link = tarfile.TarInfo("train/b/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    source = open_source(str(tmp_path / "evil.tar"))
    assert not any(".." in name or "link" in name or name.startswith("/") for name in source.files)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_imagenet(tmp_path: Path) -> None:
    names = [f"{part}/n0{c}/{i}.JPEG" for part in ("train", "val") for c in range(3) for i in range(4)]
    fill(tmp_path / "data", names, size=(80, 50))
    fill(tmp_path / "data", ["test/1.JPEG"])
    arrays = imagenet.prepare(str(tmp_path / "data"), tmp_path / "cache", lambda step: None, size=32)
    assert arrays.arrays["train.images"].shape == (12, 32, 32, 3)
    assert arrays.arrays["evaluation.labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    (tmp_path / "flat" / "train" / "a").mkdir(parents=True)
    fill(tmp_path / "flat", ["val/1.JPEG"])
    with pytest.raises(RecordError, match="val/WNID"):
        imagenet.prepare(str(tmp_path / "flat"), tmp_path / "cache", lambda step: None)


@pytest.mark.skipif(not SHARED.exists(), reason="the real images are not here")
def test_real_images(tmp_path: Path) -> None:
    """A few hundred of CIFAR-10's, each against Pillow's own reading of it."""
    with tarfile.open(SHARED, "r|gz") as archive:
        for count, member in enumerate(archive):
            if member.isreg():
                path = tmp_path / "data" / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
            if count > 300:
                break
    names = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*.jpg"))
    source = open_source(str(tmp_path / "data"))
    found = {
        name: image
        for names_, stack in images.decoded(source, names, None, 1.0)
        for name, image in zip(names_, stack, strict=True)
    }
    assert len(found) == len(names) > 250
    for name in names:
        np.testing.assert_array_equal(found[name], np.asarray(Image.open(tmp_path / "data" / name).convert("RGB")))


@pytest.mark.parametrize("members", [1, 3])
def test_a_small_archive_that_unpacks_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    monkeypatch.setattr(sources, "LARGEST", 1 << 26)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        for number in range(members):
            member = tarfile.TarInfo(f"train/a/{number}.png")
            member.size = (3 << 25) // members
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    assert (tmp_path / "a.tar.gz").stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(RecordError, match="too large an archive"):
        prepare(tmp_path / "a.tar.gz", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 27
    tracemalloc.stop()
