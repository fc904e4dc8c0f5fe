"""What macOS and Windows lack is used nowhere without a fallback: a search of the sources, and runs without it."""

import ast
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertune.files.atomic_write import sync
from bertune.processor import usable_cores
from tests.tiny import FAST, opinions, write_encoder, write_rows

SOURCES = [path for root in ("src", "runtime/src") for path in (Path(__file__).parents[1] / root).rglob("*.py")]
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "curses", "readline"}
OF_OS = set(
    "fork forkpty sched_getaffinity sched_setaffinity sysconf statvfs fstatvfs mkfifo mknod uname killpg setsid "
    "setpgid getuid geteuid getgid chown fchown lchown nice getloadavg posix_fadvise posix_fallocate pread pwrite "
    "preadv pwritev sendfile splice register_at_fork wait wait3 wait4 WIFEXITED WNOHANG O_DIRECTORY O_NONBLOCK "
    "O_CLOEXEC "
    "O_NOFOLLOW O_SYNC O_DSYNC fdatasync sync openpty ttyname memfd_create eventfd getpriority setpriority".split()
)
OF_SIGNAL = set(
    "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGPIPE SIGCHLD SIGQUIT SIGSTOP SIGCONT SIGTSTP SIGWINCH alarm setitimer "
    "pthread_sigmask pthread_kill sigwait siginterrupt pause".split()
)
OF_SHUTIL = {"statvfs", "sendfile", "posix_fallocate"}
"""What the standard library uses here, and does without on Windows."""
GUARDED = {
    ("google/tables.py", "fcntl"): "an ImportError goes on without a lock",
    ("training/loop/memory.py", "os.sysconf"): "hasattr",
    ("processor.py", "os.sched_getaffinity"): "hasattr",
    ("serving/run.py", "signal.SIGHUP"): "hasattr",
    ("sweep/journal.py", "fcntl"): "an ImportError goes on without a lock",
    ("distributed/shared_memory.py", "os.memfd_create"): "hasattr; without it ranks send their gradients",
    ("distributed/shared_memory.py", "os.O_CLOEXEC"): "reached with memfd_create alone",
    ("distributed/shared_memory.py", "os.pwrite"): "reached with memfd_create alone",
    ("distributed/shared_memory.py", "os.pread"): "reached with memfd_create alone",
    ("sweep/trials.py", "signal.SIGKILL"): "on Linux alone",
    ("pretraining/shard_writers.py", "signal.SIGKILL"): "on Linux alone",
}
"""Uses that have a fallback, and which."""


def posix_only(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in {"os": OF_OS, "signal": OF_SIGNAL}.get(node.value.id, set()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in MODULES)


def test_posix_only_calls_have_a_fallback() -> None:
    found = {
        (path.as_posix().rpartition("/bertune/")[2], name)
        for path in SOURCES
        for name in posix_only(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(GUARDED)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import fcntl\nimport os\nos.fork()", ["fcntl", "os.fork"]),
        (
            "from resource import getrusage\nimport signal\nsignal.signal(signal.SIGUSR1, f)",
            ["resource", "signal.SIGUSR1"],
        ),
        ("import os\nos.open('a', os.O_RDONLY)\nos.replace('a', 'b')", []),
    ],
)
def test_what_counts_as_posix_only(code: str, names: list[str]) -> None:
    assert sorted(posix_only(ast.parse(code))) == names


def test_cores_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_windows_cannot_open_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refused)
    sync(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PermissionError):
        sync(tmp_path / "file")


ELSEWHERE = """
import errno, multiprocessing.util, os, shutil, signal, sys, tempfile
import torch, torch.distributed, tensorboard.compat.proto.event_pb2, pyarrow
import scipy.stats, sklearn.feature_extraction.text, sklearn.linear_model  # they ask what was compiled for which system
from bertune.cli.main import main
from bertune.google import run_pretraining, create_pretraining_data

for module in {modules!r}:
    sys.modules[module] = None
for name in {of_os!r}:
    if hasattr(os, name):
        delattr(os, name)
for name in {of_signal!r}:
    if hasattr(signal, name):
        delattr(signal, name)
sys.platform = "win32"
shutil._use_fd_functions = False  # which opens folders
import bertune.files.atomic_write as writing
writing._SYNC_MODE = os.O_RDWR

opened, closed, synced = os.open, os.close, os.fsync
read_only = set()

def windows_open(path, flags, *more, **named):
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    handle = opened(path, flags, *more, **named)
    read_only.discard(handle)
    if flags & 3 == os.O_RDONLY:
        read_only.add(handle)
    return handle

def windows_fsync(handle):
    if handle in read_only:
        raise OSError(errno.EBADF, "Bad file descriptor")
    synced(handle)

os.open, os.fsync = windows_open, windows_fsync
for command in {commands!r}:
    if command[0] == "bertune":
        status = main(command[1:])
    else:
        program = dict(run_pretraining=run_pretraining, create_pretraining_data=create_pretraining_data)[command[0]]
        status = program.main(command[1:])
    assert not status, command
"""


def test_the_main_walk_without_what_windows_lacks(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    rows, model = write_rows(tmp_path / "rows.csv", opinions(40)), tmp_path / "model"
    (tmp_path / "text.txt").write_text(
        "the film is good\nthe film is fine\n\na film is bad\nis it awful\n" * 8, "utf-8"
    )
    task = ["--task", "text-classification", "--encoder", str(encoder)]
    sizes = ["--max_seq_length=16", "--max_predictions_per_seq=3"]
    sources = [f"--vocab_file={encoder / 'vocab.txt'}", f"--init_checkpoint={encoder}"]
    commands = [
        ["bertune", "train", *task, "--train", str(rows), "--output", str(model), *FAST],
        ["bertune", "train", "--config", str(model / "run.yaml"), "--resume"],
        ["bertune", "evaluate", "--model", str(model), "--data", str(rows)],
        ["bertune", "predict", "--model", str(model), "--input", str(rows), "--output", str(tmp_path / "a.jsonl")],
        ["bertune", "predict", "--model", str(model), "--input", str(rows), "--output", str(tmp_path / "parts") + "/"],
        ["bertune", "convert", "--encoder", str(encoder), "--format", "google", "--output", str(tmp_path / "google")],
        ["bertune", "pretrain", "--encoder", str(encoder), "--train", str(tmp_path / "text.txt"), "--max-steps", "2",
         "--max-seq-length", "16", "--batch-size", "4", "--output", str(tmp_path / "pretrained"), "--device", "cpu"],
        ["create_pretraining_data", f"--input_file={tmp_path / 'text.txt'}", sources[0], *sizes,
         f"--output_file={tmp_path / 'records'}"],
        ["run_pretraining", f"--input_file={tmp_path / 'records'}", *sources, *sizes, "--do_train=true",
         f"--output_dir={tmp_path / 'run'}", "--num_train_steps=2", "--train_batch_size=4", "--device=cpu"],
    ]  # fmt: skip
    program = ELSEWHERE.format(modules=MODULES, of_os=OF_OS - OF_SHUTIL, of_signal=OF_SIGNAL, commands=commands)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "BERTUNE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line)["label"] for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert len(answers) == 40
    assert set(answers) <= {"good", "bad"}
