"""What a transposed convolution is: draw a convolution as a matrix, and the transposed matrix next to it.

    python examples/transpose_convolution.py --size 4 --kernel 3 --strides 1 --padding valid --out transpose.png

The default is the example of Dumoulin & Visin, arXiv:1603.07285, section 4.1. It takes a few seconds.
"""

import argparse

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn.analysis import convolution_matrix, plot_convolution_matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4, help="height and width of x, at most 10 (default: %(default)s)")
    parser.add_argument("--kernel", type=int, default=3, help="height and width of the kernel (default: %(default)s)")
    parser.add_argument(
        "--strides", type=int, default=1, help="cells from one window to the next (default: %(default)s)"
    )
    parser.add_argument(
        "--padding", choices=("valid", "same"), default="valid", help="of the convolution (default: %(default)s)"
    )
    parser.add_argument("--out", default="transpose.png", help="image file to write (default: %(default)s)")
    arguments = parser.parse_args()

    shape = (arguments.size, arguments.size, 1)
    conv = keras.layers.Conv2D(1, arguments.kernel, arguments.strides, arguments.padding, use_bias=False)
    matrix = convolution_matrix(conv, shape)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    y = keras.ops.convert_to_numpy(conv(x[None]))[0]
    back = keras.ops.convert_to_numpy(kc.layers.ConvAdjoint2D(conv)(y[None]))[0]

    print(f"A has {matrix.shape[0]} x {matrix.shape[1]} entries, {matrix.nnz} of them weights")
    print(f"largest difference between A x and the convolution: {abs(matrix @ x.ravel() - y.ravel()).max():.1e}")
    print(f"largest difference between Aᵀ y and its transpose:  {abs(matrix.T @ y.ravel() - back.ravel()).max():.1e}")
    plot_convolution_matrix(conv, shape, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
