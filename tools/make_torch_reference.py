"""Makes tests/data/torch_convolutions.npz: outputs of torch.nn.Conv* for the arguments that ours share with it.

Run once, where PyTorch is installed (2.13.0 made the file that is kept):

    python tools/make_torch_reference.py tests/data/torch_convolutions.npz

Inputs, kernels and output gradients are small whole numbers, so that every result is exact in any precision and order
of summation. `cases` is JSON: for each case the arguments, and the shapes of x, kernel, bias, y = conv(x), w, and dx,
the gradient of <y, w> for x, which is the transposed convolution of w. `values` holds their numbers one after another,
in PyTorch's order of axes (channels first; kernels: filters, channels / groups, sizes).
"""

import itertools
import json
import sys

import numpy as np
import torch

MODES = ("zeros", "reflect", "replicate", "circular")
# sizes, then kernel size, stride, padding, dilation, groups: each an int or one for each axis
CASES = [
    *itertools.product([(7,), (10,)], [3], [1, 2], [1, 2], [1], [1]),
    ((9,), 4, 3, 2, 1, 2),
    ((11,), 3, 1, 2, 2, 1),
    ((12,), 3, 2, 3, 2, 1),
    ((8,), 5, 1, "same", 1, 1),
    ((8,), 4, 1, "same", 1, 1),
    *itertools.product([(6, 7), (8, 5)], [3], [1, 2], [1], [1], [1, 2]),
    ((7, 6), (5, 2), (2, 1), (2, 1), 1, 1),
    ((7, 9), (1, 3), (1, 2), (0, 2), 1, 4),
    ((9, 8), 3, 1, 2, (2, 1), 1),
    ((9, 8), 3, 1, "same", 2, 1),
    ((14, 13), 7, 2, 3, 1, 1),
    ((5, 4, 6), 3, 1, 1, 1, 1),
    ((5, 6, 4), (2, 3, 1), (1, 2, 3), (1, 1, 0), 1, 2),
    ((6, 5, 5), 2, 1, (1, 0, 1), 2, 1),
]


def compute(numbers, sizes, mode, kernel_size, stride, padding, dilation, groups):
    layer_class = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[len(sizes) - 1]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode}
    layer = layer_class(4, 4, kernel_size, **options).double()

    def whole(shape):
        return torch.from_numpy(numbers.integers(-3, 4, tuple(shape)).astype("float64"))

    with torch.no_grad():
        layer.weight.copy_(whole(layer.weight.shape))
        layer.bias.copy_(whole(layer.bias.shape))
    x = whole((2, 4, *sizes)).requires_grad_()
    y = layer(x)
    w = whole(y.shape)
    (y * w).sum().backward()
    arrays = {"x": x, "kernel": layer.weight, "bias": layer.bias, "y": y, "w": w, "dx": x.grad}
    return {"kernel_size": kernel_size, **options}, {name: array.detach().numpy() for name, array in arrays.items()}


def main(path):
    numbers = np.random.default_rng(0)
    cases, values = [], []
    for (sizes, *rest), mode in itertools.product(CASES, MODES):
        options, arrays = compute(numbers, sizes, mode, *rest)
        cases.append({"arguments": options, "shapes": {name: array.shape for name, array in arrays.items()}})
        values += [array.ravel().astype("int16") for array in arrays.values()]
    source = np.array(f"PyTorch {torch.__version__}")
    np.savez_compressed(path, source=source, cases=np.array(json.dumps(cases)), values=np.concatenate(values))


if __name__ == "__main__":
    main(sys.argv[1])
