"""What the machine is said to do."""

import pytest
import tensorflow as tf

from pipelines import device


@pytest.mark.parametrize(
    ("capabilities", "expected"), [([(7, 5)], False), ([(8, 0)], True), ([(9, 0), (7, 0)], False), ([None], False)]
)
def test_gpus_compute_in_bfloat16_from_ampere_on(monkeypatch, capabilities, expected):
    details = [{} if one is None else {"compute_capability": one} for one in capabilities]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(details))))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda number: details[number])
    for function in (device.has_gpu, device.has_bfloat16):
        monkeypatch.setattr(device, function.__name__, function.__wrapped__)
    assert device.has_gpu() and device.has_bfloat16() is expected
