"""What `load_backbone` and a head add to the time that Keras needs to build the same network.

    python benchmarks/backbones.py [NETWORK … | all] [--turns 7] [--json]

In each turn a network is loaded and gets a head, and the time that Keras' own function takes meanwhile is subtracted: the
rest is ours. So both are measured in one run, and other work on the machine slows both; the first turn is not counted. The
processor time, which other programs on the machine do not stretch, is given next to the elapsed time. As in `timeit`, the
garbage collector waits until a turn is over: it runs for all objects of the process when there are enough of them, in Keras'
part or in ours. Networks with `keras:` have random weights. The embedded network is loaded with its own weights; making its
layers counts as Keras' part.
"""

import gc
import statistics
from contextlib import contextmanager

import harness
import keras

from keras_cnn import attach, heads, load_backbone
from keras_cnn.backbones import applications, efficientnet_lite

NETWORKS = ("efficientnet_lite0", "keras:ResNet50", "keras:MobileNetV2", "keras:EfficientNetB0")


def load_with_head(handle):
    """The whole that is timed."""
    weights = None if handle.startswith("keras:") else "default"
    return attach(load_backbone(handle, weights=weights).model, heads.classification(10))


@contextmanager
def time_calls(owner, name, seconds):
    """Within the context, each call of a function of `owner` adds its time to the list `seconds`."""
    original = getattr(owner, name)

    def call(*args, **kwargs):
        result, taken = harness.timed(original, *args, **kwargs)
        seconds.append(taken)
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def time_parts(handle):
    """The seconds of one turn: Keras' part, and ours."""
    owner, name = (applications, "_build") if handle.startswith("keras:") else (efficientnet_lite, "_body")
    inner = []
    gc.disable()
    with time_calls(owner, name, inner):
        _, whole = harness.timed(load_with_head, handle)
    gc.enable()
    keras.backend.clear_session(free_memory=True)  # collects garbage
    return inner[0], harness.Seconds(whole.elapsed - inner[0].elapsed, whole.processor - inner[0].processor)


def measure(handle, turns):
    """The row of a network."""
    pairs = harness.take_turns({handle: lambda: time_parts(handle)}, turns)[handle]
    row = {"network": handle}
    for clock in harness.Seconds._fields:
        of_keras, added = ([getattr(seconds, clock) for seconds in part] for part in zip(*pairs, strict=True))
        row |= {f"keras_{clock}": statistics.median(of_keras), f"added_{clock}": statistics.median(added)}
        row |= {f"added_{clock}_quartiles": harness.quartiles(added)}
    return row


def main():
    parser = harness.parser(__doc__, turns=7)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="handles, or all")
    options = parser.parse_args()
    every = [*efficientnet_lite.VARIANTS][:1] + [f"keras:{name}" for name in applications.names()]
    networks = every if options.networks == ["all"] else options.networks
    harness.show(harness.echo(measure(network, options.turns) for network in networks), options.json)


if __name__ == "__main__":
    main()
