"""Writes a version of a model beside the older ones: built apart, proved, then renamed into place."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import keras

from keras_cnn import arguments, durable
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving import journal, model_card, server_files, verification, version_folder
from keras_cnn.serving.agreement import targets_matrix
from keras_cnn.serving.classifier import in_float32, require_classifier

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
    max_accuracy_drop: float = 0.01,
    activation: str | None = None,
) -> Path:
    """Write `directory/VERSION`, a SavedModel that takes image files and gives labels and probabilities.

    Signatures, each with a free batch dimension and float32 results:

    - `serving_default`: `image_bytes`, strings `[batch]` of JPEG, PNG, GIF, BMP or WebP files -> `labels` and
      `probabilities` `[batch, k]`, best first (k is 5, or the number of classes if that is smaller), and
      `all_probabilities` `[batch, classes]` in the order of `labels`. A file that is not an image gets the label "" and
      probability 0; the other images of the batch are not affected.
    - `predict_images`: `images`, uint8 `[batch, height, width, 3]` RGB of the network's size -> the same.
    - `features`: `images` -> `features` `[batch, channels]`, what the last pooling layer gives; if there is such a layer.
    - `serving_xla`: as `predict_images`, compiled by XLA, for GPUs; batches are padded to the sizes of the batching file.

    Batch normalisation is folded into the convolutions and the weights become constants; `model` is unchanged. Before the
    SavedModel gets its name, it is run in a fresh process with TensorFlow alone and must give the probabilities of `model`.
    `directory/serving` holds what TF Serving needs to load it: see its README.md.

    Args:
        model: Images `(batch, height, width, 3)` RGB 0..255 -> probabilities `(batch, classes)`; a model in the
            channels_first format is served with images `(batch, height, width, 3)` too. One made under a policy of mixed
            precision is served, and compared, as its layers compute under "float32".
        directory: The folder of all versions; made if it is missing.
        labels: The names of the classes, in the order of the outputs; None for "0", "1" and so on. Two names for one output
            that ends in a sigmoid: it is the probability of the second, as Keras trains on classes 0 and 1.
        preprocessing: How an image file becomes the input of `model`; None to squash it to the model's size.
        version: A positive integer; None for one more than the highest.
        warm_up_xla: Whether a server shall compile `serving_xla` for every batch size when it loads the model. Only for
            servers with a GPU and XLA: others refuse the model then.
        precision: Of the convolutions: "float32"; "bfloat16" or "float16"; "int8" for weights of 8 bits with a scale for
            each channel and arithmetic in float32, a quarter of the size. The last needs examples.
        temperature: Positive; the logits are divided by it (calibration). The model must end in softmax or sigmoid, or
            give logits (see `activation`).
        metadata: What to tell of the training in the model card, such as `{"accuracy": 0.93}`: plain values, for JSON.
        examples: Image files to compare on beside those that are stored with the model: paths, or contents as bytes.
        targets: The number of the right class of each example, to compare accuracies; with several labels an image a row of
            0 and 1, to compare mean average precision. None: what `model` says stands for the truth.
        max_accuracy_drop: The share of examples by which the accuracy may fall when `precision` is not float32; one example
            if that is more, unless it is 0.
        activation: "softmax" or "sigmoid" for a model that gives logits (trained with `from_logits=True`), to be applied to
            them; None for one that gives probabilities.

    Returns:
        The path of the version.

    Raises:
        ValueError: If the labels do not fit the outputs, an option is out of range, or the model is neither functional nor
            Sequential, takes anything else than RGB images, or gives anything else than probabilities.
        FolderError: If `directory` holds other things than versions, or another job is writing there (a ValueError).
        FileExistsError: If the version is there already.
        VerificationError: If the SavedModel does not give the probabilities of `model`; then nothing is left behind.
    """
    directory = version_folder.check(directory)
    model = require_classifier(model)
    if version is not None:
        arguments.integer("export", "version", version)
    labels = [str(number) for number in range(model.output_shape[-1])] if labels is None else list(labels)
    preprocessing = preprocessing or _squash(model)
    check_labels(model, labels)
    with version_folder.staged(directory) as staged:
        number = version_folder.next_version(directory) if version is None else version
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
            max_accuracy_drop=max_accuracy_drop,
            activation=activation,
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
    max_accuracy_drop: float = 0.01,
    activation: str | None = None,
):
    """Write the SavedModel at `path`, a folder that does not exist yet, and prove it; returns the `Verification`.

    Args:
        model: As in `export`, and so is all that is not named here.
        path: Where; not seen by TF Serving unless its name is an integer.
    """
    from keras_cnn.serving import samples, signatures, warm_up
    from keras_cnn.serving.network import Network
    from keras_cnn.serving.served_outputs import ACTIVATIONS, check_probabilities

    arguments.one_of("export", "precision", precision, verification.LIMITS)
    arguments.one_of("export", "activation", activation, (None, *ACTIVATIONS))
    arguments.fraction("export", "max_accuracy_drop", max_accuracy_drop)
    model = require_classifier(model)
    check_labels(model, labels)
    card = model_card.describe(labels, preprocessing, precision, temperature, metadata)
    names, contents = samples.read(examples)
    targets = None if targets is None else list(targets)
    if precision == "int8" and not contents:
        raise ValueError(
            arguments.message("export", "examples", 'images to measure the accuracy on for precision="int8"', contents)
        )
    with in_float32(model) as model:
        binary = model.output_shape[-1] == 1 and len(labels) == 2
        ending = (temperature, activation, binary)
        reference = samples.of_model(model, preprocessing, *ending)
        network = Network(model, precision, *ending)
        targets = targets_matrix(targets, (len(contents), len(labels)), network.multi_label)
        stored = samples.stored(reference)
        check_probabilities(network.probabilities, [sample.scores for sample in stored if sample.readable])
        signatures.save(network, labels, preprocessing, path)
        if precision != "float32":
            limit = None if contents else verification.LIMITS[precision]
            stored = samples.again(stored, samples.of_network(network, preprocessing), limit)
        samples.write(path / verification.EXAMPLES, stored)
        warm_up.write(path, stored[0].content, preprocessing.size, warm_up_xla)
        card |= {"multi_label": network.multi_label, "sha256": model_card.digests(path)}
        model_card.write(path, labels, card)
        compared = [reference.sample(content) for content in contents]
    given = verification.Examples(compared, names, targets, network.multi_label)
    found = verification.compare(path, given, max_accuracy_drop)
    model_card.write(path, labels, {**card, "verification": found.to_model_card()})
    return found


def publish(staging: Path, number: int, job: dict | None = None, unfinished: bool = False) -> None:
    """Give what is finished in a staging folder its name: `version`, and `run` and `report.html` where they are there.

    From now on TF Serving loads it. All of it is on the disk before the first name changes; a kill on the way changes nothing,
    for the next job takes the steps that are left.

    Args:
        staging: From `version_folder.staged`, whose lock is held.
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
    """ValueError unless the labels fit the outputs of `model` and can stand in a list, one a line.

    Two fit a single output, too: that of a sigmoid, see `keras_cnn.serving.served_outputs.to_probabilities`.
    """
    classes = model.output_shape[-1]
    if len(set(labels)) != len(labels) or len(labels) not in {classes, 2 if classes == 1 else classes}:
        raise ValueError(
            arguments.message("export", "labels", f"{classes} different names, one for each output", list(labels))
        )
    if any(
        not isinstance(label, str) or not label or UNUSABLE & set(map(unicodedata.category, label)) for label in labels
    ):
        expected = "texts of one line, without control signs, that are not empty"
        raise ValueError(arguments.message("export", "labels", expected, list(labels)))


def _squash(model):
    from keras_cnn.serving.network import image_shape

    size = image_shape(model)[:2]
    if None in size:
        expected = "given for a model that takes any size"
        raise ValueError(
            arguments.message("export", "preprocessing", expected, None, "Say keras_cnn.Preprocessing(224).")
        )
    return Preprocessing(size)
