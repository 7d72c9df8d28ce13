"""oneDNN is on in a job, also on processors where TensorFlow leaves it off."""

import os
import platform
import subprocess
import sys

import pytest

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="TensorFlow decides on other processors")
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_a_job_switches_it_on_unless_the_user_has_decided(given, expected):
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {} if given is None else {VARIABLE: given}
    code = f"import os, sys, pipelines; print(os.environ[{VARIABLE!r}], 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]  # TensorFlow reads it when it is loaded


def test_convolutions_take_channels_first_on_a_cpu():
    """They need oneDNN; its switch in this process comes from `import pipelines`."""
    import tensorflow as tf

    image, kernel = tf.ones((1, 1, 4, 4)), tf.ones((3, 3, 1, 1))
    assert tf.nn.conv2d(image, kernel, 1, "VALID", "NCHW").numpy().tolist() == [[[[9.0, 9.0], [9.0, 9.0]]]]
