"""Archives: opened in place, and nothing written where it does not belong."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.checkpoints import archives
from bertune.checkpoints.archives import is_archive, member_names, opened
from bertune.errors import InputError

FILES = {"bert_config.json": b"{}", "bert_model.ckpt.index": b"index", "vocab.txt": b"a\nb\n" * 500}
Maker = Callable[[Path, dict[str, bytes]], Path]


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_plain_tar(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w")


MAKERS = pytest.mark.parametrize(
    ("make", "suffix"), [(make_zip, ".zip"), (make_tar, ".tar.gz"), (make_tar, ".tgz"), (make_plain_tar, ".tar")]
)


@MAKERS
class TestOpening:
    def test_files_at_the_top(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        """The folder is named like the archive: the casing is told by the name."""
        path = make(tmp_path / f"uncased_L-2_H-128_A-2{suffix}", FILES)
        assert is_archive(path)
        with opened(path) as folder:
            assert folder.name == "uncased_L-2_H-128_A-2"
            assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
        assert not folder.exists()
        assert list(tmp_path.iterdir()) == [path]

    def test_files_in_a_folder(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        files = {f"./cased_L-12/{name}": data for name, data in FILES.items()} | {"__MACOSX/._bert_config.json": b"x"}
        with opened(make(tmp_path / f"download{suffix}", files)) as folder:
            assert folder.name == "cased_L-12"
            assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)

    def test_a_folder_to_stay(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        path = make(tmp_path / f"model{suffix}", FILES)
        with opened(path, into=tmp_path / "kept") as folder:
            assert folder == tmp_path / "kept" / "model"
        assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
        with pytest.raises(InputError, match="already exists"), opened(path, into=tmp_path / "kept"):
            pass

    def test_names(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        assert list(member_names(make(tmp_path / f"model{suffix}", FILES))) == list(FILES)

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"readme.txt": b""}, r"no checkpoint: readme\.txt"),
            ({f"{name}/bert_config.json": b"" for name in "ab"}, "several checkpoints; .*: a, b"),
        ],
    )
    def test_none_or_several(
        self, tmp_path: Path, make: Maker, suffix: str, files: dict[str, bytes], expected: str
    ) -> None:
        with (
            pytest.raises(InputError, match=expected),
            opened(make(tmp_path / f"x{suffix}", files), into=tmp_path / "to"),
        ):
            pass
        assert list((tmp_path / "to").iterdir()) == []

    @pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "..\\up", "C:\\up", "\\\\host\\share\\up"])
    def test_members_that_climb_out(self, tmp_path: Path, make: Maker, suffix: str, name: str) -> None:
        path = make(tmp_path / f"x{suffix}", {**FILES, name: b"!"})
        with pytest.raises(InputError, match="outside of its folder"), opened(path, into=tmp_path / "to"):
            pass
        assert not [file for file in tmp_path.rglob("*") if file.name.endswith("up")]
        assert list((tmp_path / "to").iterdir()) == []

    def test_more_than_allowed(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        path = make(tmp_path / f"x{suffix}", FILES)
        with pytest.raises(InputError, match="claims to unpack to at least"), opened(path, most_bytes=100):
            pass

    def test_absurd_growth(self, tmp_path: Path, make: Maker, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "_FREE_OF_RATIO", 1000)
        path = make(tmp_path / f"x{suffix}", {**FILES, "zeros": bytes(3_000_000)})
        if suffix == ".tar":
            with opened(path):
                return
        with pytest.raises(InputError, match="claims to unpack to at least"), opened(path):
            pass

    def test_too_many_members(self, tmp_path: Path, make: Maker, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "_MOST_MEMBERS", 2)
        with pytest.raises(InputError, match="more than 2 members"), opened(make(tmp_path / f"x{suffix}", FILES)):
            pass

    @settings(max_examples=40, deadline=2000)
    @given(data=st.data())
    def test_damage(
        self, tmp_path_factory: pytest.TempPathFactory, make: Maker, suffix: str, data: st.DataObject
    ) -> None:
        """Cut or changed: refused, or (where no checksum covers the change) unpacked to some files, never a crash."""
        folder = tmp_path_factory.mktemp("damage")
        path = make(folder / f"x{suffix}", FILES)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))])
        try:
            with opened(path, into=folder / "to") as found:
                assert found.is_dir()
        except InputError:
            assert not (folder / "to").exists() or list((folder / "to").iterdir()) == []

    def test_cut_short(self, tmp_path: Path, make: Maker, suffix: str) -> None:
        files = {**FILES, "weights": os.urandom(50_000)}
        path = make(tmp_path / f"x{suffix}", files)
        path.write_bytes(path.read_bytes()[:-20_000])
        with pytest.raises(InputError, match=r"damaged archive|claims 50000 bytes"), opened(path):
            pass


class TestLinksAndDevices:
    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_in_tar(self, tmp_path: Path, kind: bytes) -> None:
        path = tmp_path / "x.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("bert_config.json")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(InputError, match=r"'bert_config\.json' is a link or device"), opened(path):
            pass

    def test_in_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            member = zipfile.ZipInfo("bert_config.json")
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, "/etc/passwd")
        with pytest.raises(InputError, match=r"'bert_config\.json' is a link or device"), opened(path):
            pass


class TestOddArchives:
    def test_a_header_that_claims_gigabytes(self, tmp_path: Path) -> None:
        """An extended header is read into memory whole; a compressed one may claim anything."""
        path = tmp_path / "x.tar.gz"
        header = tarfile.TarInfo("header")
        header.type, header.size = tarfile.XHDTYPE, 100 << 20
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            archive.addfile(header, io.BytesIO(bytes(header.size)))
        with pytest.raises(InputError, match="refused"), opened(path):
            pass

    def test_a_name_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w") as archive:
            for _ in range(2):
                archive.addfile(tarfile.TarInfo("bert_config.json"))
        with pytest.raises(InputError, match=r"'bert_config\.json' is there twice"), opened(path):
            pass

    def test_a_damaged_header_is_not_the_end(self, tmp_path: Path) -> None:
        path = make_plain_tar(tmp_path / "x.tar", FILES)
        content = bytearray(path.read_bytes())
        content[content.index(b"vocab.txt")] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged archive: unreadable bytes after 2 members"), opened(path):
            pass

    def test_encrypted(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "x.zip", FILES)
        content = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            content[content.index(mark) + offset] |= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match="encrypted"), opened(path):
            pass

    def test_what_is_no_archive(self, tmp_path: Path) -> None:
        file = tmp_path / "x.zip"
        file.write_text("no archive")
        assert not is_archive(file)
        assert not is_archive(tmp_path)
        with pytest.raises(InputError, match="neither a zip nor a tar"), opened(file):
            pass
        with pytest.raises(InputError, match="not found"), opened(tmp_path / "y"):
            pass

    def test_a_folder_is_itself(self, tmp_path: Path) -> None:
        with opened(tmp_path) as folder:
            assert folder == tmp_path
        assert tmp_path.is_dir()
