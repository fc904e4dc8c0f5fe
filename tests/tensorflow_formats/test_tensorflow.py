"""What `convert --format google` writes, read by TensorFlow's own reader: `make test-tensorflow`."""

import os
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from tests.tiny import done, write_encoder

PYTHON = os.environ.get("BERTUNE_TENSORFLOW")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs a Python with TensorFlow: make test-tensorflow")


def read_by_tensorflow(prefix: Path, output: Path) -> dict[str, npt.NDArray[np.generic]]:
    """All variables, as TensorFlow reads them in a process of its own."""
    script = Path(__file__).with_name("read_with_tensorflow.py")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(PYTHON), str(script), str(prefix), str(output)]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, timeout=300, check=False)
    assert said.returncode == 0, said.stderr
    print("TensorFlow", said.stdout.strip(), "variables")
    with np.load(output) as found:
        return dict(found)


@pytest.mark.parametrize("source", ["tiny", "minilm", "golden"])
def test_tensorflow_reads_what_we_wrote(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    encoder: object = source
    if source == "tiny":
        encoder = write_encoder(tmp_path / "encoder", hidden_act="gelu_new")
    elif source == "golden":
        encoder = request.getfixturevalue("shared") / "golden/tiny"
    done(capsys, "convert", "--encoder", encoder, "--output", tmp_path / "google", "--format", "google")
    prefix = tmp_path / "google" / "bert_model.ckpt"
    ours, theirs = TensorBundle(prefix), read_by_tensorflow(prefix, tmp_path / "theirs.npz")
    assert sorted(ours.names()) == sorted(theirs)
    for name, value in theirs.items():
        assert ours.dtype(name) == value.dtype
        np.testing.assert_array_equal(ours.read(name), value, err_msg=name)
    if source == "golden":
        original = TensorBundle(encoder / "bert_model.ckpt")  # type: ignore[operator]
        for name in theirs:
            np.testing.assert_array_equal(original.read(name), theirs[name], err_msg=name)
