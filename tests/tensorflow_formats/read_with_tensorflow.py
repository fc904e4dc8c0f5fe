"""Run by TensorFlow's own Python (`make test-tensorflow`): PREFIX's variables, read by its reader, as an .npz file."""

import sys

import numpy as np
import tensorflow as tf


def main(prefix: str, output: str) -> None:
    """Write every variable under its name; shapes and types as the checkpoint's own map tells them."""
    reader = tf.train.load_checkpoint(prefix)
    found = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        value = reader.get_tensor(name)
        assert list(value.shape) == shape, name
        assert reader.get_variable_to_dtype_map()[name].as_numpy_dtype == value.dtype, name
        found[name] = value
    np.savez(output, **found)
    print(tf.__version__, len(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
