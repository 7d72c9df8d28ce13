"""oneDNN is on in a job, also on processors where TensorFlow leaves it off."""

import os
import platform
import sys
import warnings

import pytest

from pipelines import onednn

OLD, NEW = "flags : fpu sse2 avx avx2 fma", "flags : fpu sse2 avx avx2 fma avx512_vnni"

if platform.machine() not in ("x86_64", "AMD64"):
    pytest.skip("TensorFlow decides on other processors", allow_module_level=True)


@pytest.fixture
def processor(tmp_path):
    """A function of the text that describes a processor: the path of its file."""

    def write(text):
        (tmp_path / "cpuinfo").write_text(text)
        return tmp_path / "cpuinfo"

    return write


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_it_is_switched_on_unless_the_user_has_decided(monkeypatch, processor, given, expected):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv(onednn.VARIABLE, given or "")
    if given is None:
        monkeypatch.delenv(onednn.VARIABLE)
    onednn.switch_on(processor(OLD))
    assert os.environ[onednn.VARIABLE] == expected


@pytest.mark.parametrize(("text", "warned"), [(OLD, True), (NEW, False)])
def test_a_script_that_has_loaded_tensorflow_is_warned_if_that_makes_it_slow(monkeypatch, processor, text, warned):
    monkeypatch.setitem(sys.modules, "tensorflow", os)
    monkeypatch.setenv(onednn.VARIABLE, "")
    monkeypatch.delenv(onednn.VARIABLE)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        onednn.switch_on(processor(text))
    assert [str(each.message).split(",")[0] for each in found] == ["TensorFlow was loaded without oneDNN"] * warned


@pytest.mark.skipif(os.environ.get(onednn.VARIABLE) == "0", reason="the user has switched it off")
def test_convolutions_take_channels_first_on_a_cpu():
    """They need oneDNN, which `import pipelines` in conftest.py has switched on."""
    import tensorflow as tf

    with tf.device("CPU"):
        image, kernel = tf.ones((1, 1, 4, 4)), tf.ones((3, 3, 1, 1))
        assert tf.nn.conv2d(image, kernel, 1, "VALID", "NCHW").numpy().tolist() == [[[[9.0, 9.0], [9.0, 9.0]]]]
