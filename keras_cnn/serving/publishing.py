"""Writes a version of a model beside the older ones: built apart, proved, then renamed into place."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import keras

from keras_cnn import arguments, durable
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving import card, folder, journal, server_files, verification
from keras_cnn.surgery.graph import require_graph

# Unicode categories that no list of labels can carry: control signs, halves of signs, ends of lines.
UNUSABLE = {"Cc", "Cs", "Zl", "Zp"}


def export(
    model: keras.Model,
    directory,
    labels=None,
    preprocessing: Preprocessing | None = None,
    version: int | None = None,
    warm_up_xla: bool = False,
    *,
    precision: str = "float32",
    temperature: float = 1.0,
    metadata: dict | None = None,
    examples=(),
    targets=None,
    tolerance: float = 0.01,
) -> Path:
    """Write `directory/VERSION`, a SavedModel that takes image files and gives labels and probabilities.

    Signatures, each with a free batch dimension and float32 results:

    - `serving_default`: `image_bytes`, strings `[batch]` of JPEG, PNG, GIF, BMP or WebP files -> `labels` and
      `probabilities` `[batch, k]`, best first (k is 5, or the number of classes if that is smaller), and `scores`
      `[batch, classes]`. A file that is no image gets the label "" and probability 0; the others are right.
    - `predict_images`: `images`, uint8 `[batch, height, width, 3]` RGB of the network's size -> the same.
    - `features`: `images` -> `features` `[batch, channels]`, what the last pooling layer gives; if there is such a layer.
    - `serving_xla`: as `predict_images`, compiled by XLA, for GPUs; batches are padded to the sizes of the batching file.

    Batch normalisation is folded into the convolutions and the weights become constants; `model` is unchanged. The
    SavedModel is run in a fresh process with TensorFlow alone before it gets its name, and must give the scores of `model`.
    `directory/serving` holds what TF Serving needs to load it: see its README.md.

    Args:
        model: Images `(batch, height, width, 3)` RGB 0..255 -> probabilities `(batch, classes)`; a model in the
            channels_first format is served with images `(batch, height, width, 3)` too.
        directory: The folder of all versions; made if it is missing.
        labels: The names of the classes, in the order of the outputs; None for "0", "1" and so on.
        preprocessing: How an image file becomes the input of `model`; None to squash it to the model's size.
        version: A positive integer; None for one more than the highest.
        warm_up_xla: Whether a server shall compile `serving_xla` for every batch size when it loads the model. Only for
            servers with a GPU and XLA: others refuse the model then.
        precision: Of the convolutions: "float32"; "bfloat16" or "float16"; "int8" for weights of 8 bits with a scale for
            each channel and arithmetic in float32, a quarter of the size. The last needs examples.
        temperature: Positive; the logits are divided by it (calibration). The model must end in softmax or sigmoid.
        metadata: What to tell of the training in the model card, such as `{"accuracy": 0.93}`: plain values, for JSON.
        examples: Contents of image files to compare on, besides those that are stored with the model.
        targets: The number of the right class of each example, to compare accuracies; None for the best class of `model`.
        tolerance: The share of examples by which the accuracy may fall when `precision` is not float32.

    Returns:
        The path of the version.

    Raises:
        ValueError: If the labels do not fit the outputs, an option is out of range, or the model is neither functional nor
            Sequential.
        FolderError: If `directory` holds other things than versions, or another job is writing there (a ValueError).
        FileExistsError: If the version is there already.
        VerificationError: If the SavedModel does not give the scores of `model`; then nothing is left behind.
    """
    directory = folder.check(directory)
    require_graph("export", model)
    if version is not None:
        arguments.integer("export", "version", version)
    labels = [str(number) for number in range(model.output_shape[-1])] if labels is None else list(labels)
    preprocessing = preprocessing or _squash(model)
    check_labels(model, labels)
    with folder.staged(directory) as staged:
        number = folder.next_version(directory) if version is None else version
        target = directory / str(number)
        if target.exists():
            raise FileExistsError(f"export: `version` must be new. Received: version={number}, and {target} exists.")
        write(
            model,
            staged.path / "version",
            labels,
            preprocessing,
            examples,
            targets=targets,
            precision=precision,
            temperature=temperature,
            metadata=metadata,
            warm_up_xla=warm_up_xla,
            tolerance=tolerance,
        )
        publish(staged.path, number)
    return target


def write(
    model: keras.Model,
    path: Path,
    labels,
    preprocessing: Preprocessing,
    examples=(),
    *,
    targets=None,
    precision: str = "float32",
    temperature: float = 1.0,
    metadata: dict | None = None,
    warm_up_xla: bool = False,
    tolerance: float = 0.01,
):
    """Write the SavedModel at `path`, a folder that does not exist yet, and prove it; returns the `Verification`.

    Args:
        model: As in `export`, and so is all that is not named here.
        path: Where; not seen by TF Serving unless its name is an integer.
    """
    from keras_cnn.serving import samples, signatures, warm_up
    from keras_cnn.serving.network import Network

    arguments.one_of("export", "precision", precision, verification.LIMITS)
    check_labels(model, labels)
    about = card.describe(labels, preprocessing, precision, temperature, metadata)
    examples, targets = _paired(examples, targets)
    if precision == "int8" and not examples:
        raise ValueError(
            arguments.message("export", "examples", 'images to measure the accuracy on for precision="int8"', examples)
        )
    reference = samples.Reference(model, preprocessing, temperature)
    stored = samples.stored(reference)
    network = Network(model, precision, temperature)
    about["several_labels"] = network.independent
    signatures.save(network, labels, preprocessing, path)
    samples.write(path / verification.EXAMPLES, stored)
    warm_up.write(path, stored[0].content, preprocessing.size, warm_up_xla)
    card.write(path, labels, about)
    compared = [reference.sample(content, target) for content, target in zip(examples, targets, strict=True)]
    found = verification.compare(path, compared, tolerance)
    card.write(path, labels, {**about, "measured": found.measured()})
    return found


def publish(staging: Path, number: int, job: dict | None = None, unfinished: bool = False) -> None:
    """Give what is finished in a staging folder its name: `version`, and `run` and `report.html` where they are there.

    From now on TF Serving loads it. All of it is on the disk before the first name changes; a kill on the way changes nothing,
    for the next job takes the steps that are left.

    Args:
        staging: From `folder.staged`, whose lock is held.
        number: Of the version.
        job: Plain values by which the job knows itself when it is run again after such a kill.
        unfinished: Whether `.unfinished` is of this job, and goes.
    """
    server_files.write(staging.parent, staging / "serving")
    durable.sync_tree(staging)
    journal.begin(staging, number, job, unfinished)
    journal.finish(staging.parent)
    journal.forget(staging.parent)


def check_labels(model, labels) -> None:
    """ValueError unless the labels fit the outputs of `model` and can stand in a list, one a line."""
    classes = model.output_shape[-1]
    if len(labels) != classes or len(set(labels)) != len(labels):
        raise ValueError(
            arguments.message("export", "labels", f"{classes} different names, one for each output", list(labels))
        )
    if any(
        not isinstance(label, str) or not label or UNUSABLE & set(map(unicodedata.category, label)) for label in labels
    ):
        expected = "texts of one line, without control signs, that are not empty"
        raise ValueError(arguments.message("export", "labels", expected, list(labels)))


def _paired(examples, targets):
    """Lists of the same length: contents, and numbers of classes, -1 where they are not known."""
    examples = list(examples)
    targets = [-1] * len(examples) if targets is None else list(targets)
    if len(targets) != len(examples):
        expected = f"as many numbers as there are examples ({len(examples)})"
        raise ValueError(arguments.message("export", "targets", expected, targets))
    return examples, targets


def _squash(model):
    from keras_cnn.serving.network import image_shape

    size = image_shape(model)[:2]
    if None in size:
        expected = "given for a model that takes any size"
        raise ValueError(
            arguments.message("export", "preprocessing", expected, None, "Say keras_cnn.Preprocessing(224).")
        )
    return Preprocessing(size)
