"""The same images from everything that keeps images: equal rows, and errors that cost one row."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import OwnEncoder
from negrefine import MCM
from negrefine.encoders import find_images, read_image
from negrefine.errors import ImageError, InputError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.image_scores import calibrate_files, score_files
from negrefine.evaluation.images import find_source_set
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.source_scores import (
    ScoredSources,
    calibrate_scored,
    detect_scored,
    read_scored_sources,
    score_sources,
)
from negrefine.report.mistakes import find_mistakes
from negrefine.sources.ahead import Fetcher, Fetching
from negrefine.sources.base import NamedImage
from negrefine.sources.files import FilesShard
from negrefine.sources.opening import check_stdin_once, open_sources
from negrefine.sources.tar import TarShard
from negrefine.sources.urls import expand_braces
from negrefine.sources.web_images import THREADS, RemoteImage
from sources.kept_images import N, pictures, png, served, write_everything, write_tar

CLASS_NAMES = ["dog", "cat", "horse"]
NUL_KINDS = ("png", "tar", "zip", "parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    write_everything(folder)
    memory = fsspec.filesystem("memory")
    for name, content in pictures().items():
        memory.pipe(f"/kept/{name}", content)
    memory.pipe("/kept/notes.txt", b"")
    for name in ("all.tar", "structs.parquet", "all.zip"):
        memory.pipe(f"/shards/{name}", (folder / name).read_bytes())
    return folder


@pytest.fixture
def detector(own_encoder: Any) -> MCM:
    return MCM(own_encoder).fit(CLASS_NAMES)


def images_of(source: Any, **options: Any) -> list[NamedImage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [named for shard in open_sources(source, **options) for named in shard]


def errors_of(found: list[NamedImage]) -> list[str]:
    return [str(each.image) for each in found if isinstance(each.image, ImageError)]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder", "folder/{:03}.png"),
        ("folder/*.png", "folder/{:03}.png"),
        ("folder/{000..005}.png", "folder/{:03}.png"),
        ("@list.txt", "folder/{:03}.png"),
        ("all.tar", "all.tar/{:03}.png"),
        ("a*.tar", "all.tar/{:03}.png"),
        ("all.tar.gz", "all.tar.gz/{:03}.png"),
        ("all.zip", "zip://inside/{:03}.png::ROOT/all.zip"),
        ("zip://inside/*.png::all.zip", "zip://inside/{:03}.png::all.zip"),
        ("tar://*.png::all.tar", "tar://{:03}.png::all.tar"),
        ("structs.parquet", "structs.parquet/{}"),
        ("bytes.parquet", "bytes.parquet/{}"),
        ("memory://kept/0*", "memory://kept/{:03}.png"),
        ("memory://shards/all.tar", "memory://shards/all.tar/{:03}.png"),
        ("memory://shards/*.parquet", "memory://shards/structs.parquet/{}"),
        ("memory://shards/all.zip", "zip://inside/{:03}.png::memory://shards/all.zip"),
    ],
)
def test_every_source_gives_the_rows_of_the_folder(
    root: Path, detector: MCM, monkeypatch: pytest.MonkeyPatch, source: str, name: str
) -> None:
    monkeypatch.chdir(root)
    expected = score_files(detector, find_images("folder"))
    shards = open_sources(source)
    shards = pickle.loads(pickle.dumps(shards))  # noqa: S301 - our own
    rows = score_sources(detector, shards, batch_size=4)
    assert [row.path for row in rows] == [
        name.format(i).replace("ROOT", str(root)) for i in range(N)
    ]
    assert [row.score for row in rows] == [row.score for row in expected]
    assert [row.error for row in rows] == [None] * N
    # Shards can be read again, and tell themselves from others.
    assert [shard.identity() for shard in open_sources(source)] == [s.identity() for s in shards]
    assert all(shard.identity() for shard in shards)
    assert len({(shard.name, shard.identity()) for shard in shards}) == len(shards)


def test_columns_of_tables_are_chosen_by_name_or_if_only_one_fits(
    root: Path, tmp_path: Path, detector: MCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    rows = score_sources(detector, "paths.parquet", image_column="file")
    assert [row.score for row in rows] == [
        row.score for row in score_files(detector, find_images("folder"))
    ]
    with pytest.raises(
        InputError, match=r"none of the columns 'file', 'other' holds bytes.*--image"
    ):
        open_sources("paths.parquet")
    with pytest.raises(InputError, match="has no column 'img', only 'image', 'label'"):
        open_sources("structs.parquet", image_column="img")
    with pytest.raises(InputError, match="the column 'label' holds int64, and images are bytes"):
        open_sources("structs.parquet", image_column="label")
    table = pa.table({"a": [png(0), None], "b": [png(1), b"no image"]})
    pq.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(InputError, match="any of the columns 'a', 'b' may hold the images"):
        open_sources(tmp_path / "two.parquet")
    for column, error in (("a", "/1: the cell holds no image"), ("b", "/1: is not an image")):
        row, bad = score_sources(detector, tmp_path / "two.parquet", image_column=column)
        assert row.error is None
        assert error in str(bad.error)


def test_a_saved_hugging_face_dataset(root: Path, tmp_path: Path, detector: MCM) -> None:
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in find_images(root / "folder")]
    data = datasets.Dataset.from_dict({"photo": files, "raw": [b"x"] * N})
    data = data.cast_column("photo", datasets.Image())
    data.save_to_disk(str(tmp_path / "plain"), num_shards=2)
    datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "split"))
    with pytest.raises(InputError, match=r"2 splits; name the folder of one of them: .*train or"):
        open_sources(tmp_path / "split")
    expected = [row.score for row in score_files(detector, files)]
    for folder in (tmp_path / "plain", tmp_path / "split" / "test"):
        rows = score_sources(detector, folder, image_column="photo")
        # The batches are smaller.
        assert [row.score for row in rows] == pytest.approx(expected, abs=1e-9)
    # A part of the second file is gone.
    second = sorted((tmp_path / "plain").glob("*.arrow"))[1]
    content = second.read_bytes()
    for kept in (len(content) - 8, 300):
        second.write_bytes(content[:kept])
        rows = score_sources(detector, tmp_path / "plain", image_column="photo")
        assert [row.score for row in rows[:3]] == pytest.approx(expected[:3], abs=1e-9)
        assert rows[-1].path == str(second)
        assert str(second) in str(rows[-1].error)


def test_folders_are_found_as_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    for source in ("folder", ["folder/003.png", "folder"], ["folder/0*", "list.txt"]):
        shards = open_sources(source)
        assert all(isinstance(shard, FilesShard) for shard in shards)
        assert [str(n.image) for s in shards for n in s] == list(map(str, find_images(source)))
    for call in (open_sources, find_images):
        with pytest.warns(UserWarning, match=r"^7 other files were left out \(3 parquet, 1 gz, "):
            call(["folder", "*"])
    with pytest.warns(UserWarning, match=r"^1 other file was left out elsewhere \(1 txt\)\.$"):
        assert len(images_of_memory()) == N


def images_of_memory() -> list[NamedImage]:
    return [named for shard in open_sources("memory://kept") for named in shard]


def test_a_tar_that_is_cut_anywhere_never_passes_for_a_whole_one(
    root: Path, tmp_path: Path, detector: MCM
) -> None:
    whole = [each.name for each in images_of(root / "all.tar")]
    content = (root / "all.tar").read_bytes()
    cut = tmp_path / "all.tar"
    # Right before and after each header and member, up to the mark of the end.
    end = content.rindex(b"{}") + 512
    for n in {*range(0, end, 512), *range(100, end, 700)}:
        cut.write_bytes(content[:n])
        *images, last = list(TarShard(str(cut)))
        assert isinstance(last.image, ImageError), n
        assert last.name == str(cut)
        assert [i.name.rpartition("/")[2] for i in images] == [
            name.rpartition("/")[2] for name in whole[: len(images)]
        ]
        how_far = f"after {len(images)} image" if images else "cannot be read"
        assert how_far in str(last.image)
    packed = gzip.compress(content, mtime=0)
    cut = tmp_path / "cut.tgz"
    for n in range(50, len(packed) - 60, 97):
        cut.write_bytes(packed[:n])
        assert isinstance(list(TarShard(str(cut)))[-1].image, ImageError)
    # Garbage in place of a header is no end either; the next shard is read.
    (tmp_path / "bad.tar").write_bytes(content[:3072] + b"x" * 512 + content[3584:])
    rows = score_sources(detector, [tmp_path / "bad.tar", root / "all.tar"])
    assert [row.error is None for row in rows] == [True, True, False, *[True] * N]
    assert "bad.tar: ends early, after 2 images (invalid header" in str(rows[2].error)


def test_bombs_and_strange_members_cost_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEGREFINE_IMAGE_GB", "0.01")
    monkeypatch.chdir(tmp_path)
    with tarfile.open("bomb.tgz", "w:gz", compresslevel=1) as archive:
        for name, content in (
            ("../../up.png", png(0)),
            ("large.png", bytes(20_000_000)),
            ("/absolute/\x1b[2Jx.png", png(1)),
            ("note.txt", b""),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.warns(UserWarning, match=r"bomb.tgz: 2 other members were left out \(1 link or"):
        first, large, strange = [named for shard in open_sources("bomb.tgz") for named in shard]
    assert first.name == "bomb.tgz/../../up.png"
    assert read_image(first.image).size == (12, 12)  # type: ignore[arg-type]
    assert "bomb.tgz/large.png: holds more bytes than the 0.01 GB" in str(large.image)
    with pytest.raises(ImageError, match=r"\\x1b\[2J"):
        read_image(type(strange.image)(b"nothing", strange.name))  # type: ignore[call-arg, union-attr, arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.tgz"]
    # A long name of a gigabyte is not read either.
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    Path("long.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    (error,) = errors_of(images_of("long.tar"))
    assert "a header is too long" in error


def test_a_damaged_table_and_one_without_images(root: Path, tmp_path: Path, detector: MCM) -> None:
    content = (root / "structs.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-50])
    # The second group of rows.
    at = content.index(png(5)[:60])
    (tmp_path / "bad.parquet").write_bytes(content[: at - 40] + bytes(80) + content[at + 40 :])
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "none.parquet")
    rows = score_sources(detector, str(tmp_path / "*.parquet"), image_column="image")
    errors = [str(row.error) for row in rows if row.error is not None]
    assert "bad.parquet" in errors[0]
    assert "cut.parquet: cannot be read" in errors[-2]
    assert "none.parquet: holds no image" in errors[-1]
    assert sum(row.error is None for row in rows) >= 3


@pytest.fixture(scope="module")
def address(root: Path) -> Any:
    pytest.importorskip("aiohttp")
    large = {f"{i:03}.png": png(i, 100) for i in range(40)}
    write_tar(root / "cut.tar", large)
    (root / "cut.png").write_bytes(png(0))
    with served(root) as host:
        yield host
    (root / "cut.tar").unlink()
    (root / "cut.png").unlink()


def test_a_web_server_with_a_cut_tar_and_secrets(
    root: Path, address: str, detector: MCM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.sources.web_images.PAUSES", (0.01,))
    secret = "?token=q1w2e3r4t5y6"  # noqa: S105
    base = f"http://user:pa55word99@{address}"
    (tmp_path / "list.txt").write_text(
        f"{base}/folder/001.png{secret}\n{base}/missing.png\n{base}/cut.png{secret}\n", "utf-8"
    )
    sources = [
        f"http://{address}/folder/",
        f"{base}/all.tar",
        f"{base}/cut.tar{secret}",
        f"@{tmp_path / 'list.txt'}",
        f"http://{address}/folder/{{000..002}}.png",
    ]
    journal = tmp_path / "rows.partial"
    rows = score_sources(detector, sources, journal=journal)
    expected = [row.score for row in score_files(detector, find_images(root / "folder"))]
    assert [row.score for row in rows[: 2 * N]] == 2 * expected
    assert rows[0].path == f"http://{address}/folder/000.png"
    assert rows[N].path == f"http://***@{address}/all.tar/000.png"
    end = next(i for i in range(2 * N, len(rows)) if rows[i].error is not None)
    n_cut = end - 2 * N
    assert 0 < n_cut < 20
    whole = [row.score for row in score_sources(detector, root / "cut.tar")]
    assert [row.score for row in rows[2 * N : end]] == pytest.approx(whole[:n_cut], abs=1e-9)
    assert f"http://***@{address}/cut.tar?***: ends early, after {n_cut} image" in str(
        rows[end].error
    )
    one, missing, cut, *last = rows[end + 1 :]
    assert one.path == f"http://***@{address}/folder/001.png?***"
    assert one.score == pytest.approx(expected[1], abs=1e-9)
    assert "missing.png: cannot be fetched (404, message='File not found'" in str(missing.error)
    assert "cut.png?***: cannot be fetched (" in str(cut.error)
    assert [row.score for row in last] == pytest.approx(expected[:3], abs=1e-9)
    shown = repr(rows) + journal.read_text("utf-8") + repr(open_sources(sources[:3]))
    assert "pa55word99" not in shown
    assert "q1w2e3r4t5y6" not in shown
    # A run that goes on takes what it knows: the scores are those of the journal.
    known = journal.read_text("utf-8").replace(f'"score": {expected[0]}', '"score": 7.0')
    journal.write_text(known, "utf-8")
    again = score_sources(detector, sources, journal=journal)
    assert again[0].score == again[N].score == 7.0
    # How much of the cut archive comes may differ.
    assert [row.path for row in again[: 2 * N + 1]] == [row.path for row in rows[: 2 * N + 1]]


def test_an_image_is_asked_for_again_after_a_fault_of_the_moment(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.sources.web_images.PAUSES", (0.01, 0.02))
    url = f"http://{address}/folder/000.png?busy="
    (plain,) = images_of(f"http://{address}/folder/000.png")
    for faults in ("1", "2", "1x", "2x"):
        assert RemoteImage(url + faults).read() == plain.image.read()  # type: ignore[union-attr]
    for faults, why in (("3", "503"), ("9x", "Server disconnected")):
        with pytest.raises(ImageError, match=rf"cannot be fetched \({why}"):
            RemoteImage(url + faults).read()


def test_sentences_about_what_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("# nothing\n")
    Path("x.txt").write_text("x.png\n")
    fsspec.filesystem("memory").pipe("/lists/bad.txt", b"/etc/passwd\n")
    for source, sentence in {
        "nowhere://x/y.png": "fsspec knows no protocol nowhere://",
        "@empty.txt": "empty.txt: the list names no image",
        "@gone.txt": "gone.txt: the list cannot be read (No such file",
        "@memory://lists/bad.txt": "line 1 names a file of this machine",
        "*.tar": "*.tar: the pattern matches no file",
        "memory://void/*.png": "the pattern matches no image",
        "zip://a.png": "does not name the archive; write zip://MEMBER::ARCHIVE",
        "http://127.0.0.1:9/x/": "http://127.0.0.1:9/x/: no image is listed there; check the",
        "gone.png": "gone.png: there is no such file or folder",
        "{0..9}{0..99999}{0..9}.png": "stands for more than 1,000,000 names",
    }.items():
        with pytest.raises(InputError) as caught:
            pytest.fail(f"{source} gave {images_of(source)}")
        assert sentence in str(caught.value)
    with pytest.raises(InputError, match="named twice"):
        open_sources(["-", "-"])
    if not _installed("s3fs"):
        with pytest.raises(
            InputError, match=r"s3:// need a package that is not .*: pip install s3fs"
        ):
            open_sources("s3://bucket/*.png")


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_braces() -> None:
    assert expand_braces("a{08..11}-{1..0}.tar")[:3] == ["a08-1.tar", "a08-0.tar", "a09-1.tar"]
    assert expand_braces("plain{x}.tar") == ["plain{x}.tar"]


def test_calibration_on_any_source_is_that_on_files(root: Path, detector: MCM) -> None:
    files = find_images(root / "folder")
    report = calibrate_files(detector, files, 0.2)
    other = MCM(detector.encoder).fit(CLASS_NAMES)
    scored = read_scored_sources(other, root / "all.tar")
    assert calibrate_scored(other, scored, 0.2) == report
    assert other.offset_ == detector.offset_
    assert detect_scored(other, scored).n_flagged == 0
    with pytest.warns(UserWarning, match="6 of the 12 calibration images are copies"):
        calibrate_scored(
            other, read_scored_sources(other, [root / "all.tar", root / "folder"]), 0.2
        )


class CountingEncoder(OwnEncoder):
    n_images = 0

    def encode_images(self, images: Any, batch_size: int = 64) -> np.ndarray:
        images = list(images)
        self.n_images += len(images)
        return super().encode_images(images, batch_size)


def test_evaluation_on_archives_is_that_on_folders(tmp_path: Path) -> None:
    members = {f"{CLASS_NAMES[i % 3]}/{i}.png": png(i) for i in range(12)}
    for name, content in members.items():
        (tmp_path / "id" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "id" / name).write_bytes(content)
    # In the order of the folder.
    write_tar(tmp_path / "id.tar", dict(sorted(members.items())))
    table = pa.table({"image": [png(100 + i) for i in range(8)] + [b"broken"]})
    pq.write_table(table, tmp_path / "ood.parquet")
    (tmp_path / "ood").mkdir()
    for i in range(8):
        (tmp_path / "ood" / f"{i}.png").write_bytes(png(100 + i))
    encoder = CountingEncoder()
    detectors = {"mcm": MCM(encoder).fit(CLASS_NAMES)}  # type: ignore[arg-type]

    def run(out: str, id_images: str, ood: str) -> Evaluation:
        return evaluate(
            detectors,
            find_source_set("ID", tmp_path / id_images, CLASS_NAMES),
            [find_source_set("odd", tmp_path / ood)],
            out=tmp_path / out,
            n_bootstrap=10,
        )

    expected = run("a", "id", "ood")
    found = run("b", "id.tar", "ood.parquet")
    assert found.results == expected.results
    assert found.accuracy == expected.accuracy
    for mine, theirs in zip(found.sets, expected.sets, strict=True):
        kept = mine.readable
        np.testing.assert_array_equal(mine.labels[kept], theirs.labels)
        np.testing.assert_array_equal(mine.scores["mcm"][0][kept], theirs.scores["mcm"][0])
        assert [g for g, k in zip(mine.groups, kept, strict=True) if k] == theirs.groups
    assert found.id_set.paths[0] == f"{tmp_path / 'id.tar'}/cat/1.png"
    assert found.sets[1].paths[-1] == f"{tmp_path / 'ood.parquet'}/8"
    assert "ood.parquet/8: is not an image" in str(found.sets[1].errors[-1])
    (low, *_) = find_mistakes(found, "mcm", [found.id_set], 0.0, None, 1, highest=False)
    assert (low.thumbnail, low.problem) == (
        "",
        "No picture: it is in an archive or table, and not read again for this page.",
    )
    # Without errors nothing is encoded again.
    run("c", "id.tar", "ood")
    encoder.n_images = 0
    again = run("c", "id.tar", "ood")
    assert encoder.n_images == 0
    assert again.results == expected.results
    with pytest.raises(InputError, match=r"12 of 12 images of the OOD set 'odd' are in-distr"):
        run("d", "id.tar", "id")


def test_batches_end_with_their_shard(tmp_path: Path, detector: MCM, root: Path) -> None:
    """Rows of a shard do not depend on what else is read: the journal of one serves all."""
    first = write_tar(tmp_path / "a.tar", pictures(5))
    second = write_tar(tmp_path / "b.tar", {f"x{i}.png": png(50 + i) for i in range(7)})
    alone = [score_sources(detector, each, batch_size=3) for each in (first, second)]
    both = score_sources(detector, [first, second], batch_size=3)
    assert both == alone[0] + alone[1]
    journal = tmp_path / "rows.partial"
    score_sources(detector, second, journal=journal, batch_size=3)
    second.rename(tmp_path / "gone.tar")
    (tmp_path / "gone.tar").rename(second)
    lines = journal.read_text("utf-8").splitlines()
    # Without the last line, which says that the shard was read, and some rows before it.
    assert '"finished"' in lines[-1]
    journal.write_text("\n".join(lines[:-4]) + "\n", "utf-8")
    again = score_sources(detector, [first, second], journal=journal, batch_size=3)
    np.testing.assert_array_equal([r.score for r in again], [r.score for r in both])


def test_zip_archives_cost_a_row_each_and_hide_nothing(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("../up.png", "in/1.png", "in/.2.png", "note?x#.txt"):
            archive.writestr(name, png(1))
    (tmp_path / "a.zip").write_bytes(b"no zip")
    zipfile.ZipFile(tmp_path / "c.zip", "w").close()
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfb.zip\r\n\r\n# x\r\na.zip\r\n")
    with pytest.warns(UserWarning, match=r"b.zip: 1 other member was left out \(1 txt\)"):
        found = [named for shard in open_sources(str(tmp_path / "*.zip")) for named in shard]
    assert [named.name.removesuffix(f"::{tmp_path}/b.zip") for named in found] == [
        f"{tmp_path}/a.zip",
        "zip://../up.png",
        "zip://in/1.png",
        f"{tmp_path}/c.zip",
    ]
    assert "a.zip: cannot be read (File is not a zip file)" in str(found[0].image)
    assert "c.zip: holds no image" in str(found[3].image)
    for named in found[1:3]:
        assert isinstance(named.image, RemoteImage)
        assert named.image.read() == png(1)
    listed = [named.name for named in images_of(f"@{tmp_path}/list.txt")]
    assert listed == [found[1].name, found[2].name, found[0].name]


def test_a_name_that_a_zip_archive_holds_twice_is_read_once_with_a_warning(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.png", png(1))
        archive.writestr("a.png", png(2))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("b.png", png(3))
    (shard,) = open_sources(str(tmp_path / "a.zip"))
    with pytest.warns(UserWarning, match=r"1 images twice or more under one name, b\.png first"):
        _, second = shard
    assert isinstance(second.image, RemoteImage)
    assert second.image.read() == png(3)


def test_a_line_too_long_for_a_name_costs_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"a.png\n" + b"x" * 200_000 + b".png\nb.png\n" + b"y" * 70_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    found = images_of("-")
    names = ["a.png", "standard input, line 2", "b.png", "standard input, line 4"]
    assert [named.name for named in found] == names
    assert [isinstance(named.image, ImageError) for named in found] == [False, True, False, True]


def test_names_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wide.txt").write_bytes("a.png\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"wide.txt: is no list of names in UTF-8"):
        open_sources(f"@{tmp_path / 'wide.txt'}")
    lines = b"\xef\xbb\xbfa.png\n\0.png\n\0.tar\n\0.zip\n\0.parquet\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    found = images_of("-")
    assert [named.name for named in found] == ["a.png", *(f"\0.{s}" for s in NUL_KINDS)]
    assert [str(e).count("null byte") for e in errors_of(found)] == [1, 1, 1]
    with pytest.raises(ImageError, match="null byte"):
        read_image(found[1].image)  # type: ignore[arg-type]


def test_queries_of_listed_files_are_no_part_of_their_kind(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "index.html").write_text(
        '<a href="a.png?token=q1w2e3r4">a</a> <a href="b.dat?token=q1w2e3r4">b</a>', "utf-8"
    )
    (tmp_path / "a.png").write_bytes(png(0))
    with served(tmp_path) as host:
        with pytest.warns(UserWarning, match=r"1 other file was left out elsewhere \(1 dat\)"):
            (shard,) = open_sources(f"http://{host}/")
        (named,) = shard
        assert named.name == f"http://{host}/a.png?***"
        assert named.image.read() == png(0)  # type: ignore[union-attr]
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a.png", png(0, 100))
        (problem,) = errors_of(images_of(f"http://{host}/x.zip?token=q1w2e3r4"))
        assert problem.startswith(
            f"http://{host}/x.zip?***: cannot be read (the server sends only whole files, and "
        )
    with pytest.raises(InputError) as caught:
        find_images("http://user:pa55word99@host/a.png?token=q1w2e3r4")
    assert str(caught.value).startswith("http://***@host/a.png?***: is a URL")


def test_images_that_are_fetched_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("negrefine.sources.ahead.MOST_BYTES", 100_000)
    contents = [bytes([i]) * 60_000 for i in range(60)]
    for i, content in enumerate(contents):
        (tmp_path / f"{i:02}.png").write_bytes(content)
    with served(tmp_path) as host, Fetcher() as fetcher:
        fetching = [fetcher.start(RemoteImage(f"http://{host}/{i:02}.png")) for i in range(60)]
        assert all(isinstance(each, Fetching) for each in fetching)
        time.sleep(1)
        # Each of the threads may have begun one before the first two filled the room.
        assert 2 <= sum(each.future.done() for each in fetching) <= THREADS + 2  # type: ignore[union-attr]
        taken = [each.take() for each in fetching]  # type: ignore[union-attr]
        assert [each.getvalue() for each in taken] == contents  # type: ignore[union-attr]


def test_standard_input_once_and_columns_of_tables_only(root: Path) -> None:
    with pytest.raises(InputError, match="named twice"):
        check_stdin_once(["a.png", "-"], ["-"])
    with pytest.warns(UserWarning, match="all.tar: no table is there, so the column 'image'"):
        open_sources(root / "all.tar", image_column="image")
    empty = ScoredSources([], [])
    with pytest.raises(ImageError, match="Standard input names no image"):
        empty.check_readable()
