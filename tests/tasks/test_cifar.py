"""CIFAR from files in the official formats, written here; a pickle that runs code must not run."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laurel_cli.errors import RecordError
from laurel_cli.tasks import cifar
from laurel_cli.tasks.reading.cache import Arrays
from laurel_cli.tasks.reading.pickles import load_plain

COUNT = 20  # images a file


def pixels(number: int) -> np.ndarray:
    """Images [COUNT, 32, 32, 3] of a file."""
    return np.random.default_rng(number).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def labels(number: int, classes: int) -> list[int]:
    return [(7 * i + number) % classes for i in range(COUNT)]


def rows(images: np.ndarray) -> np.ndarray:
    """As CIFAR has them: [n, 3072], all red, then all green, then all blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def python2(data: np.ndarray, key: str, numbers: list[int]) -> bytes:
    """What Python 2 wrote into the official files, opcode by opcode: text and bytes are one type, `str`."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    dtype = (
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    shape = b"(M" + struct.pack("<H", data.shape[0]) + b"M" + struct.pack("<H", data.shape[1]) + b"t"
    array = empty + b"(K\x01" + shape + dtype + b"\x89" + text(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([number]) for number in numbers) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key.encode()) + listed + b"u."


def python3(data: np.ndarray, key: str, numbers: list[int]) -> bytes:
    return pickle.dumps({b"data": data, key.encode(): numbers}, protocol=2)


def binary(data: np.ndarray, key: str, numbers: list[int]) -> bytes:
    before = [[number] if key == "labels" else [99, number] for number in numbers]
    return b"".join(bytes(head) + image.tobytes() for head, image in zip(before, data, strict=True))


def official(root: Path, kind: str, form: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Write a small distribution whose checksums are the official ones, as far as the code knows."""
    chosen = next(d for d in cifar.OFFICIAL[kind] if ("binary" in d.archive) == (form == "binary"))
    key = "labels" if kind == "cifar10" else "fine_labels"
    write = {"python2": python2, "python3": python3, "binary": binary}[form]
    parts: dict[str, dict[str, str]] = {}
    for part, files in chosen.parts.items():
        parts[part] = {}
        for number, (name, md5) in enumerate(files.items()):
            number += 10 * (part == "evaluation")
            data = write(rows(pixels(number)), key, labels(number, cifar.CLASSES[kind]))
            root.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
            parts[part][name] = md5 and hashlib.md5(data).hexdigest()
    new = tuple(replace(d, parts=parts) if d is chosen else d for d in cifar.OFFICIAL[kind])
    monkeypatch.setitem(cifar.OFFICIAL, kind, new)
    return {
        part: [number + 10 * (part == "evaluation") for number in range(len(files))] for part, files in parts.items()
    }


def prepare(kind: str, place: Path, tmp_path: Path, **options: int) -> Arrays:
    (tmp_path / "cache").mkdir(exist_ok=True)
    return cifar.prepare(kind, str(place), tmp_path / "cache", lambda step: None, **options)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
@pytest.mark.parametrize("form", ["python2", "python3", "binary"])
def test_official_files(kind: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = official(tmp_path / "data" / "cifar-batches", kind, form, monkeypatch)
    arrays = prepare(kind, tmp_path / "data", tmp_path)
    for part, numbers in files.items():
        np.testing.assert_array_equal(arrays.arrays[f"{part}.images"], np.concatenate([pixels(n) for n in numbers]))
        expected = [label for n in numbers for label in labels(n, cifar.CLASSES[kind])]
        assert arrays.arrays[f"{part}.labels"].tolist() == expected
    assert arrays.facts["provenance"]["title"] in ("CIFAR-10", "CIFAR-100")
    assert arrays.facts["provenance"]["verified"] == ("MD5" if form != "binary" else "sizes and labels alone")
    assert len(arrays.facts["classes"]) == cifar.CLASSES[kind]


@pytest.mark.parametrize("form", ["python2", "binary"])
def test_the_official_archive(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(tmp_path / "data" / "cifar-10", "cifar10", form, monkeypatch)
    plain = prepare("cifar10", tmp_path / "data", tmp_path)
    chosen = next(d for d in cifar.OFFICIAL["cifar10"] if ("binary" in d.archive) == (form == "binary"))
    place = tmp_path / "archive"
    place.mkdir()
    with tarfile.open(place / chosen.archive, "w:gz") as archive:
        archive.add(tmp_path / "data" / "cifar-10", "cifar-10")
    if form == "binary":
        with pytest.raises(RecordError, match="not the official file"):
            prepare("cifar10", place, tmp_path)
        md5 = hashlib.md5((place / chosen.archive).read_bytes()).hexdigest()
        new = tuple(replace(d, archive_md5=md5) if d is chosen else d for d in cifar.OFFICIAL["cifar10"])
        monkeypatch.setitem(cifar.OFFICIAL, "cifar10", new)
    for where in (place, place / chosen.archive):
        assert prepare("cifar10", where, tmp_path).sha256 == plain.sha256


def test_another_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(tmp_path / "data", "cifar10", "python2", monkeypatch)
    prepare("cifar10", tmp_path / "data", tmp_path)
    path = tmp_path / "data" / "data_batch_3"
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordError, match="data_batch_3") as caught:
        prepare("cifar10", tmp_path / "data", tmp_path)
    assert caught.value.exit_code == 4
    path.unlink()
    with pytest.raises(RecordError):
        prepare("cifar10", tmp_path / "data", tmp_path)


def test_the_known_checksums_are_torchvisions() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    for kind, theirs in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        ours = cifar.OFFICIAL[kind][0]
        assert ours.archive_md5 == theirs.tgz_md5
        assert ours.archive == theirs.filename
        assert dict(ours.parts["train"]) == dict(theirs.train_list)
        assert dict(ours.parts["evaluation"]) == dict(theirs.test_list)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for protocol in range(6):
        data = pickle.dumps({"data": Evil(tmp_path / "ran"), "labels": [1]}, protocol)
        with pytest.raises(pickle.UnpicklingError, match="system"):
            load_plain(data)
    for name in (
        "builtins\neval",
        "builtins\ngetattr",
        "numpy\nload",
        "numpy.core.multiarray\n_reconstruct.__globals__",
    ):
        with pytest.raises(pickle.UnpicklingError):
            load_plain(b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(pickle.UnpicklingError, match="codec"):
        load_plain(b"\x80\x02c_codecs\nencode\n(U\x01aU\x03hext R.".replace(b"hext ", b"hext"))
    official(tmp_path / "data", "cifar10", "python2", monkeypatch)
    evil = tmp_path / "data" / "data_batch_1"
    evil.write_bytes(pickle.dumps({"data": Evil(tmp_path / "ran"), "labels": [1]}))
    first = replace(
        cifar.OFFICIAL["cifar10"][0],
        parts={
            part: {name: hashlib.md5((tmp_path / "data" / name).read_bytes()).hexdigest() for name in files}
            for part, files in cifar.OFFICIAL["cifar10"][0].parts.items()
        },
    )
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", (first,))
    with pytest.raises(RecordError, match="system"):
        prepare("cifar10", tmp_path / "data", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x02}.", pickle.dumps([1, 2])])
def test_what_is_no_batch(data: bytes) -> None:
    with pytest.raises(RecordError, match="no batch"):
        cifar._batch("data_batch_1", data, "labels", 10)


@pytest.mark.parametrize("data", [b"", b"x" * 3072, bytes([10]) + bytes(3072)])
def test_what_is_no_binary_batch(data: bytes) -> None:
    with pytest.raises(RecordError, match="no batch"):
        cifar._batch("data_batch_1.bin", data, 1, 10)


def images_of(root: Path, classes: int) -> None:
    for part in ("train", "test"):
        for label in range(classes):
            path = root / part / f"class{label:03}" / "0001.jpg"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (32, 32), (label, 0, 0)).save(path, quality=100)


def test_folders_of_images(tmp_path: Path) -> None:
    images_of(tmp_path / "data", 10)
    arrays = prepare("cifar10", tmp_path / "data", tmp_path)
    assert arrays.facts["provenance"]["title"] == "CIFAR-10 (JPEG)"
    assert arrays.arrays["train.images"].shape == (10, 32, 32, 3)
    assert prepare("cifar10", tmp_path / "data", tmp_path, size=48).arrays["train.images"].shape[1:] == (48, 48, 3)
    with pytest.raises(RecordError, match="10 classes in place of 100"):
        prepare("cifar100", tmp_path / "data", tmp_path)


def test_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(tmp_path / "data", "cifar100", "python3", monkeypatch)
    arrays = prepare("cifar100", tmp_path / "data", tmp_path, size=24)
    expected = Image.fromarray(pixels(0)[3]).resize((24, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(arrays.arrays["train.images"][3], np.asarray(expected))


def test_a_part_of_the_official_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (tmp_path / "data" / name).write_bytes(b"x")
    (tmp_path / "cache").mkdir()
    with pytest.raises(RecordError, match="part of CIFAR-10") as caught:
        cifar.prepare("cifar10", str(tmp_path / "data"), tmp_path / "cache", lambda step: None)
    assert "data_batch_3, data_batch_4, data_batch_5." in caught.value.why
