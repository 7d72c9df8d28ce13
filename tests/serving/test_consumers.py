"""Readers of an exported version that know nothing of this project: C, TensorFlow's tools, the protos of TF Serving."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from helpers.commands import run_command
from helpers.serving_cases import LABELS, RECORD, encoded_image, make_model

import keras_cnn as kc
from keras_cnn.serving.server_files import BATCH_SIZES
from pipelines import fine_tune

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return kc.export(model, tmp_path_factory.mktemp("models") / "my photos", LABELS, RECORD, warm_up_xla=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Paths of three image files and of one file that is not an image."""
    folder = tmp_path_factory.mktemp("images")
    contents = [encoded_image("JPEG"), encoded_image("PNG", "RGBA"), b"no image", encoded_image("WEBP", seed=3)]
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def expected(model, path):
    image = kc.images.prepare(path.read_bytes(), RECORD)
    return keras.ops.convert_to_numpy(model(image[None], training=False))[0]


def test_a_program_in_c(model, version, images, tmp_path):
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("needs gcc")
    library, program = tf.sysconfig.get_lib(), tmp_path / "classify"
    flags = [f"-I{tf.sysconfig.get_include()}", f"-L{library}", f"-Wl,-rpath,{library}"]
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    source = HERE / "classify.c"
    subprocess.run([compiler, "-Wall", "-Werror", str(source), *flags, *libraries, "-o", str(program)], check=True)
    (meta,) = saved_model(version).meta_graphs
    signature = meta.signature_def["serving_default"]
    names = [
        signature.inputs["image_bytes"].name,
        *(signature.outputs[name].name for name in ("labels", "probabilities")),
    ]
    output = subprocess.run(
        [program, version, *names, *images],
        check=True,
        capture_output=True,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    ).stdout
    for path, line in zip(images, output.splitlines(), strict=True):
        label, probability = line.split("\t")
        if path.read_bytes() == b"no image":
            assert (label, probability) == ("", "0.000000")
        else:
            scores = expected(model, path)
            assert label == LABELS[scores.argmax()] and abs(float(probability) - scores.max()) < 1e-5


def saved_model(version):
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())


def test_saved_model_cli(model, version, tmp_path):
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    shown = subprocess.run([*cli, "show", "--dir", version, "--all"], check=True, capture_output=True, text=True).stdout
    for name in ("serving_default", "predict_images", "features", "serving_xla"):
        assert f"signature_def['{name}']" in shown
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), "uint8")
    np.save(tmp_path / "pixels.npy", pixels)
    command = [*cli, "run", "--dir", version, "--tag_set", "serve", "--signature_def", "predict_images"]
    command += ["--inputs", f"images={tmp_path / 'pixels.npy'}", "--outdir", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    found = model(pixels.astype("float32"), training=False)
    np.testing.assert_allclose(np.load(tmp_path / "all_probabilities.npy"), found, atol=1e-5)


def test_the_protos_of_tf_serving_read_the_warm_up_file(version):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    loaded = tf.saved_model.load(str(version))
    batches = []
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        answer = loaded.signatures[request.model_spec.signature_name](**inputs)
        batches.append((request.model_spec.signature_name, len(answer["labels"])))
    assert batches == [("serving_default", 1), ("serving_default", 8)] + [("serving_xla", size) for size in BATCH_SIZES]


def test_the_protos_of_tf_serving_read_the_configuration(version):
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = (version.parent / "serving" / "models.config").read_text()
    (config,) = text_format.Parse(text, config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("my_photos", "/models/my_photos", "tensorflow")


def test_the_batching_file_is_one_of_tf_serving(version):
    # The message is not in tensorflow-serving-api: its fields, from session_bundle_config.proto.
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", syntax="proto3")
    file.message_type.add(name="Int64Value").field.add(name="value", number=1, type=3, label=1)
    message = file.message_type.add(name="BatchingParameters")
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(names, 1):
        message.field.add(name=name, number=number, type=11, label=1, type_name="Int64Value")
    message.field.add(name="allowed_batch_sizes", number=6, type=3, label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))
    found = text_format.Parse((version.parent / "serving" / "batching_parameters.txt").read_text(), kind())
    # The server demands this of the last one.
    assert found.allowed_batch_sizes[-1] == found.max_batch_size.value == BATCH_SIZES[-1]
    assert list(found.allowed_batch_sizes) == sorted(BATCH_SIZES)


def test_openvino_reads_the_folded_network(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = make_model()
    kc.fold_batch_norm(model).export(tmp_path / "floats", verbose=False)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # it would choose bfloat16 by itself
    run = openvino.Core().compile_model(openvino.convert_model(tmp_path / "floats"), "CPU", exact)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3)).astype("float32")
    np.testing.assert_allclose(run([pixels])[0], model(pixels, training=False), atol=1e-5)


def in_version(model, labels, tmp_path, record=RECORD, **options):
    """The outputs of the exported version for three images, and these images for the model."""
    version = kc.export(model, tmp_path / "odd", labels, record, **options)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *record.size, 3), "uint8")
    answer = tf.saved_model.load(str(version)).signatures["predict_images"](images=tf.constant(pixels))
    return {name: tensor.numpy() for name, tensor in answer.items()}, pixels.astype("float32")


def test_multi_label(tmp_path):
    inputs = keras.Input((16, 24, 3))
    model = keras.Model(inputs, kc.heads.multi_label(4)(keras.layers.Conv2D(8, 3)(inputs)))
    answer, pixels = in_version(model, list("abcd"), tmp_path)
    np.testing.assert_allclose(answer["all_probabilities"], model(pixels), atol=1e-5)
    assert answer["labels"].shape == (3, 4)
    assert json.loads((tmp_path / "odd" / "1" / "assets" / "model_card.json").read_text())["multi_label"] is True


def test_channels_first(tmp_path):
    inputs = keras.Input((3, 16, 24))
    x = keras.layers.Conv2D(8, 3, padding="same", data_format="channels_first")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(axis=1)(x))
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    answer, pixels = in_version(model, list("abc"), tmp_path)
    np.testing.assert_allclose(answer["all_probabilities"], model(pixels.transpose(0, 3, 1, 2)), atol=1e-5)


def test_three_thousand_labels_in_other_letters(tmp_path):
    labels = [f"{chr(0x4E00 + number)}-ру́сский-{number}" for number in range(3000)]
    inputs = keras.Input((16, 24, 3))
    model = keras.Model(inputs, kc.heads.classification(3000)(keras.layers.Conv2D(8, 3)(inputs)))
    answer, pixels = in_version(model, labels, tmp_path)
    order = np.argsort(-keras.ops.convert_to_numpy(model(pixels)), kind="stable")[:, :5]
    assert [[label.decode() for label in row] for row in answer["labels"]] == [
        [labels[k] for k in row] for row in order
    ]


def test_mixed_precision_gives_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((16, 24, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    finally:
        keras.config.set_dtype_policy("float32")
    answer, pixels = in_version(model, list("abc"), tmp_path, precision="bfloat16")
    assert answer["all_probabilities"].dtype == np.float32 and model(pixels).dtype == tf.bfloat16
    np.testing.assert_allclose(answer["all_probabilities"], tf.cast(model(pixels), tf.float32), atol=0.1)


def test_a_model_without_a_pooling_layer_and_one_with_code_in_it(tmp_path):
    class Sum(keras.layers.Layer):
        def call(self, maps):
            return keras.ops.sum(maps, (1, 2))

    for middle in (keras.layers.Flatten(), Sum()):
        inputs = keras.Input((16, 24, 3))
        x = middle(keras.layers.Rescaling(1 / 255)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
        answer, pixels = in_version(model, list("abc"), tmp_path)
        np.testing.assert_allclose(answer["all_probabilities"], model(pixels), atol=1e-5)


def test_a_module_of_tf_hub(tmp_path):
    class Module(tf.Module):
        def __init__(self):
            self.kernel = tf.Variable(np.random.default_rng(0).normal(0, 0.1, (3, 3, 3, 5)).astype("float32"))

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, self.kernel, 1, "SAME")), (1, 2))

    tf.saved_model.save(Module(), str(tmp_path / "module"))
    inputs = keras.Input((16, 24, 3))
    features = kc.layers.HubLayer(tmp_path / "module")(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(features))
    answer, pixels = in_version(model, list("abc"), tmp_path)
    np.testing.assert_allclose(answer["all_probabilities"], model(pixels), atol=1e-5)


def test_keras_hub(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(16, 24, 3),
    )
    model = keras_hub.models.ImageClassifier(backbone=backbone, num_classes=3, activation="softmax")
    answer, pixels = in_version(model, list("abc"), tmp_path)
    np.testing.assert_allclose(answer["all_probabilities"], model(pixels), atol=1e-5)


EXPORTER = """
import sys
import keras_cnn as kc
from helpers.serving_cases import LABELS, RECORD, make_model
model = make_model()
print("ready", flush=True)
kc.export(model, sys.argv[1], LABELS, RECORD)
"""


def exporting(directory, **options):
    command = [sys.executable, "-c", EXPORTER, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE.parent, text=True, **options)
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_moment_and_read_meanwhile(version, tmp_path):
    """Whoever follows TF Serving's rule, the highest integer, finds a whole version whenever it looks."""
    directory = tmp_path / "photos"
    shutil.copytree(version, directory / "1")
    size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    seconds = np.random.default_rng(0).uniform(0, 8, 20)
    for number, wait in enumerate(seconds):
        with exporting(directory, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
        highest = max((path for path in directory.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        found = sum(path.stat().st_size for path in highest.rglob("*") if path.is_file())
        assert found == pytest.approx(size, rel=0.1), f"kill {number} after {wait:.2f} s"
    with exporting(directory) as process:
        assert process.wait() == 0
    assert not list(directory.glob(".staging*"))
    assert kc.verify(directory).largest_difference <= 1e-4


def test_a_full_disk(version, tmp_path):
    import resource

    directory = tmp_path / "photos"
    shutil.copytree(version, directory / "1")
    before = sorted(directory.rglob("*"))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    with exporting(directory, stderr=subprocess.PIPE, preexec_fn=limit) as process:
        _, error = process.communicate()
    assert process.returncode == 1 and "Error" in error.splitlines()[-1]
    left = sorted(path for path in directory.rglob("*") if path.name != ".lock")
    assert left == before


def test_the_whole_way_by_the_command_line(sample_photos, tmp_path, capsys):
    """`export` of a run in 8 bits, `verify` of what it wrote, and its card."""
    result = fine_tune(sample_photos, tmp_path / "out", epochs=0, progress=False)
    capsys.readouterr()
    assert run_command("export", result.run, "--precision", "int8", "--out", tmp_path / "8") == 0
    assert "accuracy" in capsys.readouterr().out
    card = json.loads((tmp_path / "8" / "1" / "assets" / "model_card.json").read_text())
    assert card["precision"] == "int8" and card["verification"]["accuracy_before"] >= 0.5
    assert run_command("verify", tmp_path / "8", "--json") == 0
    assert json.loads(capsys.readouterr().out)["differences"]["serving_default"] <= 0.2
    small = sum(file.stat().st_size for file in (tmp_path / "8" / "1").rglob("*"))
    assert small < 0.4 * sum(file.stat().st_size for file in result.export.rglob("*"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # tf2onnx with NumPy 2
def test_onnx_by_keras_itself(tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make_model()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype("float32")
    scores = model(pixels, training=False)
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(found, scores, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_litert_by_keras_itself(tmp_path):
    model = make_model()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype("float32")
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model(pixels, training=False), atol=1e-5)
