"""Outputs that a user names: regular files are replaced, anything else is written to."""

import os
import stat
import threading
from pathlib import Path

import pytest

from bertune.conversion import convert
from bertune.errors import FaultError, InputError
from bertune.files.atomic_write import write_text
from bertune.files.outputs import check_output, link_to_nothing, open_output, refuse_inputs
from bertune.training.run_folder.output import output_problems
from tests.tiny import files


def put(path: Path | str, data: bytes) -> None:
    with open_output(path) as stream:
        stream.write(data)


def reading(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """A thread that reads a named pipe to its end."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread, found


def test_a_regular_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    put(path, b"one")
    path.chmod(0o640)
    put(path, b"two")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o640)
    assert set(files(tmp_path)) == {"out.jsonl"}


def test_after_an_error_the_old_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    put(path, b"one")

    def fail() -> None:
        with open_output(path) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert path.read_bytes() == b"one"
    assert set(files(tmp_path)) == {"out.jsonl"}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(tmp_path: Path, absolute: bool, there: bool) -> None:
    (tmp_path / "inner").mkdir()
    target, link, second = tmp_path / "inner" / "target", tmp_path / "link", tmp_path / "second"
    if there:
        target.write_text("old")
    link.symlink_to(target if absolute else "inner/target")
    second.symlink_to("link")
    put(second, b"new")
    write_text(tmp_path / "text", "x")
    assert link.is_symlink()
    assert second.is_symlink()
    assert target.read_bytes() == b"new"
    write_text(link, "newer")
    assert link.is_symlink()
    assert target.read_bytes() == b"newer"


def test_a_named_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, found = reading(pipe)
    put(pipe, b"all")
    thread.join(10)
    again, found_again = reading(pipe)
    write_text(pipe, "all")
    again.join(10)
    assert found == found_again == [b"all"]
    assert pipe.is_fifo()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device nodes can be made by root alone")
    link = tmp_path / "link"
    link.symlink_to(device)
    for path in (device, link):
        put(path, b"gone")
        write_text(path, "gone")
    assert device.is_char_device()
    assert set(files(tmp_path)) == {"null", "link"}


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_descriptors_of_the_shell(name: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    link = tmp_path / "link"
    link.symlink_to(name.format(write))
    put(name.format(write), b"one ")
    put(link, b"two")
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == b"one two"


def test_a_descriptor_of_a_file_is_written_on_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as stream:
        stream.write(b"before ")
        stream.flush()
        put(f"/dev/fd/{stream.fileno()}", b"here ")
        stream.write(b"after")
    assert path.read_bytes() == b"before here after"


def test_a_full_disk_is_a_fault() -> None:
    with pytest.raises(FaultError, match=r"--output /dev/full: cannot be written: No space left"):
        put("/dev/full", b"x")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "out", "there is no folder"),
        (f"{tmp_path}/a\0b", "is not a file name"),
        ("/dev/fd/987", "no such open descriptor"),
    ):
        with pytest.raises(InputError, match=told):
            put(path, b"x")
    for path in (tmp_path, tmp_path / "none" / "out"):
        with pytest.raises(InputError):
            check_output(path)
    check_output("-")
    assert files(tmp_path) == {}


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match="cannot be written: Too many levels of symbolic links"):
        check_output(tmp_path / "a")
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / ("x" * 300))


def test_folders_that_are_links_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    message = (
        f"--output {tmp_path / 'link'}: is a link to {tmp_path / 'gone'}, which is not there; make that folder first"
    )
    assert link_to_nothing(tmp_path / "link") == message
    assert output_problems(tmp_path / "link", {}, resume=False) == [message]
    with pytest.raises(InputError, match="is a link to"):
        convert("nowhere", tmp_path / "link")
    (tmp_path / "gone").mkdir()
    assert link_to_nothing(tmp_path / "link") is None
    assert link_to_nothing(tmp_path / "new") is None


def test_the_input_is_no_output(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    data.write_text("text\n")
    (tmp_path / "link.csv").symlink_to(data)
    os.link(data, tmp_path / "hard.csv")
    for name in ("a.csv", "link.csv", "hard.csv"):
        with pytest.raises(InputError, match=r"is the input itself, which would be lost"):
            refuse_inputs(tmp_path / name, [tmp_path / "other.csv", data])
    for name in ("b.csv", "-", "/dev/null"):
        refuse_inputs(name if name[0] in "-/" else tmp_path / name, [data])
