"""Writes a version of a model next to the older ones: first into a staging folder, then verified, then renamed into place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_cnn import arguments, durable
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving import journal, layout, model_card, server_files, verification, version_folder
from keras_cnn.serving.agreement import targets_matrix
from keras_cnn.serving.classifier import in_float32, require_classifier
from keras_cnn.serving.precisions import PRECISIONS


def export(
    model: keras.Model,
    directory: str | Path,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    version: int | None = None,
    warm_up_xla: bool = False,
    *,
    precision: str = "float32",
    temperature: float = 1.0,
    metadata: dict[str, Any] | None = None,
    examples: Iterable[str | Path | bytes] = (),
    targets: Iterable | None = None,
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
        model: Images `(batch, height, width, 3)` RGB 0..255 -> probabilities `(batch, classes)`. A model in the channels_first
            format is served with images `(batch, height, width, 3)` too. A model made under a policy of mixed precision is
            served, and compared, as its layers compute under "float32".
        directory: The folder of all versions; made if it is missing.
        labels: The names of the classes, in the order of the outputs; None for "0", "1" and so on. Two names for one output
            that ends in a sigmoid: it is the probability of the second, as Keras trains on classes 0 and 1.
        preprocessing: How an image file becomes the input of `model`; None to squash it to the model's size.
        version: A positive integer; None for one more than the highest.
        warm_up_xla: Whether a server compiles `serving_xla` for every batch size when it loads the model. Only for servers
            with a GPU and XLA: others refuse the model then.
        precision: Of the convolutions: "float32"; "bfloat16" or "float16"; "int8" for weights of 8 bits with one scale per
            channel and arithmetic in float32, a quarter of the size. "int8" needs examples.
        temperature: Positive; the logits are divided by it (calibration). The model must end in softmax or sigmoid, or
            give logits (see `activation`).
        metadata: What the model card says of the training, such as `{"accuracy": 0.93}`: plain values, for JSON.
        examples: Image files to compare on, in addition to the golden examples of every version: paths, or contents as bytes.
        targets: The class number of each example, to compare accuracies; with several labels per image a row of 0 and 1, to
            compare mean average precisions. None: the probabilities of `model` stand in for them.
        max_accuracy_drop: By how much the accuracy on the examples may fall when `precision` is not "float32", or one example
            if that is more; 0 allows no drop at all.
        activation: "softmax" or "sigmoid" for a model that gives logits (trained with `from_logits=True`), to be applied to
            them; None for a model that gives probabilities.

    Returns:
        The path of the version.

    Raises:
        ValueError: If the labels do not fit the outputs, an option is out of range, or the model is neither functional nor
            Sequential, takes anything else than RGB images, or gives anything else than probabilities.
        FolderError: If `directory` holds other things than versions, or another job is writing there (a ValueError).
        FileExistsError: If the version exists already.
        VerificationError: If the SavedModel does not give the probabilities of `model`; then no file of it is left.

    Example:
        kc.export(model, "saved_models/fruit", labels=["apple", "pear", "plum"])  # writes saved_models/fruit/1
    """
    directory = version_folder.check_directory(directory)
    model = require_classifier(model)
    if version is not None:
        arguments.integer("export", "version", version)
    labels = [str(index) for index in range(model.output_shape[-1])] if labels is None else list(labels)
    preprocessing = preprocessing or _squash(model)
    check_labels(model, labels)
    with version_folder.open_staging(directory) as staging:
        number = version_folder.next_version(directory) if version is None else version
        target = directory / str(number)
        if target.exists():
            raise FileExistsError(f"export: `version` must be new. Received: version={number}, and {target} exists.")
        write(
            model,
            staging.path / layout.STAGED_VERSION,
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
        publish(staging.path, number)
    return target


def write(
    model: keras.Model,
    path: Path,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    examples: Iterable[str | Path | bytes] = (),
    *,
    targets: Iterable | None = None,
    precision: str = "float32",
    temperature: float = 1.0,
    metadata: dict[str, Any] | None = None,
    warm_up_xla: bool = False,
    max_accuracy_drop: float = 0.01,
    activation: str | None = None,
) -> verification.Verification:
    """Write the SavedModel at `path` and verify it. The other arguments are those of `export`.

    Args:
        model: As in `export`.
        path: A folder that does not exist yet. TF Serving does not load it unless its name is an integer.
        labels: As in `export`, but not None.
        preprocessing: As in `export`, but not None.
        examples: As in `export`.
    """
    from keras_cnn.serving import examples as example_images
    from keras_cnn.serving import signatures, warm_up
    from keras_cnn.serving.network import Network
    from keras_cnn.serving.served_outputs import ACTIVATIONS, check_probabilities

    arguments.one_of("export", "precision", precision, PRECISIONS)
    arguments.one_of("export", "activation", activation, (None, *ACTIVATIONS))
    arguments.fraction("export", "max_accuracy_drop", max_accuracy_drop)
    model = require_classifier(model)
    check_labels(model, labels)
    card = model_card.describe(labels, preprocessing, precision, temperature, metadata)
    names, contents = example_images.read_files(examples)
    targets = None if targets is None else list(targets)
    if precision == "int8" and not contents:
        raise ValueError(
            arguments.message("export", "examples", 'images to measure the accuracy on for precision="int8"', contents)
        )
    with in_float32(model) as model:
        binary = model.output_shape[-1] == 1 and len(labels) == 2
        ending = (temperature, activation, binary)
        reference = example_images.keras_reference(model, preprocessing, *ending)
        network = Network(model, precision, *ending)
        matrix = targets_matrix(targets, (len(contents), len(labels)), network.multi_label)
        golden = example_images.golden_examples(reference)
        check_probabilities(network.probabilities, [one.probabilities for one in golden if one.readable])
        signatures.save(network, labels, preprocessing, path)
        if precision != "float32":
            limit = None if contents else verification.LIMITS[precision]
            golden = example_images.record_again(golden, example_images.served_reference(network, preprocessing), limit)
        example_images.write(path / verification.GOLDEN_EXAMPLES, golden)
        warm_up.write(path, golden[0].content, preprocessing.size, warm_up_xla)
        card |= {"multi_label": network.multi_label, "sha256": model_card.digests(path)}
        model_card.write(path, labels, card)
        recorded = [reference.record(content) for content in contents]
    given = verification.Examples(recorded, names, matrix, network.multi_label)
    found = verification.compare(path, given, max_accuracy_drop)
    model_card.write(path, labels, {**card, "verification": found.to_model_card()})
    return found


def publish(staging: Path, number: int, job: dict[str, Any] | None = None, remove_checkpoints: bool = False) -> None:
    """Give what is finished in a staging folder its name: the version, and the run and its report where they are there.

    From then on TF Serving loads it. Everything is on disk before the first name changes. A kill in between changes nothing,
    since the next job takes the steps that are left.

    Args:
        staging: From `version_folder.open_staging`, whose lock is held.
        number: The number of the version.
        job: Plain values by which the job recognizes itself when it runs again after such a kill.
        remove_checkpoints: Whether the folder with checkpoints belongs to this job and is removed.
    """
    server_files.write(staging.parent, staging / layout.SERVING)
    durable.sync_tree(staging)
    journal.begin(staging, number, job, remove_checkpoints)
    journal.finish(staging.parent)
    journal.forget(staging.parent)


def check_labels(model: keras.Model, labels: Sequence[str]) -> None:
    """ValueError unless the labels fit the outputs of `model` and can be written one per line.

    Two labels also fit a single sigmoid output, see `keras_cnn.serving.served_outputs.to_probabilities`.
    """
    classes = model.output_shape[-1]
    if len(set(labels)) != len(labels) or len(labels) not in {classes, 2 if classes == 1 else classes}:
        raise ValueError(
            arguments.message("export", "labels", f"{classes} different names, one for each output", list(labels))
        )
    if any(not isinstance(label, str) or not label or not arguments.is_one_line(label) for label in labels):
        expected = "texts of one line, without control characters, that are not empty"
        raise ValueError(arguments.message("export", "labels", expected, list(labels)))


def _squash(model: keras.Model) -> Preprocessing:
    from keras_cnn.serving.network import image_shape

    height, width, _ = image_shape(model)
    if height is None or width is None:
        expected = "given for a model that takes any size"
        raise ValueError(
            arguments.message("export", "preprocessing", expected, None, "Use keras_cnn.Preprocessing(224).")
        )
    return Preprocessing((height, width))
