"""SavedModels of every kind that `HubLayer` meets, as small as they can be."""

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

IMAGES = tf.TensorSpec((None, None, None, 3))
L2 = 1e-2
MOMENTUM = 0.9


def normal(*shape, seed):
    return 0.3 * tf.random.stateless_normal(shape, (seed, 0))


def save_conv_net(directory):
    """A reusable SavedModel: two convolutions, batch norm between them, L2 losses, a switch for training and a scale.

    Weights: 3·3·3·4 + 3·3·4·4 of the kernels, 4 + 4 of the batch norm, and its 4 + 4 statistics: 268 in all.
    """
    net = tf.train.Checkpoint()  # an object that keeps what is set on it
    kernel_1 = tf.Variable(normal(3, 3, 3, 4, seed=1), name="conv_1/kernel")
    gamma, beta = tf.Variable(tf.ones(4), name="bn/gamma"), tf.Variable(tf.zeros(4), name="bn/beta")
    kernel_2 = tf.Variable(normal(3, 3, 4, 4, seed=2), name="conv_2/kernel")
    mean = tf.Variable(tf.zeros(4), trainable=False, name="bn/moving_mean")
    variance = tf.Variable(tf.ones(4), trainable=False, name="bn/moving_variance")
    net.trainable_variables = [kernel_1, gamma, beta, kernel_2]
    net.variables = [*net.trainable_variables, mean, variance]
    net.regularization_losses = [_l2(kernel_1), _l2(kernel_2)]

    @tf.function
    def call(images, training=False, scale=1.0):
        x = tf.nn.conv2d(images, kernel_1, 1, "SAME")
        moments = (mean, variance)
        if training:
            moments = tf.nn.moments(x, (0, 1, 2))
            for average, moment in zip((mean, variance), moments, strict=True):
                average.assign(MOMENTUM * average + (1 - MOMENTUM) * moment)
        x = tf.nn.relu(tf.nn.batch_normalization(x, *moments, beta, gamma, 1e-3))
        x = scale * tf.nn.conv2d(x, kernel_2, 2, "SAME")
        return {"map": x, "vector": tf.reduce_mean(x, (1, 2))}

    for training in (False, True):
        for scale in (1.0, 2.0):
            call.get_concrete_function(IMAGES, training=training, scale=scale)
    net.__call__ = call
    tf.saved_model.save(net, str(directory))


def _l2(kernel):
    return tf.function(lambda: L2 * tf.reduce_sum(kernel**2), input_signature=[])


class _Plain(tf.Module):
    """Lists nothing, takes no `training`, names two variables alike, returns a list."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (tf.Variable(normal(3, 3, seed=seed), name="w") for seed in (3, 4))
        self.constant = tf.Variable(tf.ones(3), trainable=False, name="c")

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def __call__(self, x):
        hidden = x @ self.first + self.constant
        return [hidden, hidden @ self.second]


def save_plain(directory):
    tf.saved_model.save(_Plain(), str(directory))


class _Kinds(tf.Module):
    """Does different things to whole numbers and to floats, and was saved for inference only."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(1.0, name="w")

    @tf.function
    def __call__(self, x, training=True):
        assert not training
        return self.weight * (x if x.dtype.is_floating else tf.cast(-x, "float32"))


def save_kinds(directory):
    module = _Kinds()
    for dtype in (tf.float32, tf.int32):
        module.__call__.get_concrete_function(tf.TensorSpec((None, 2), dtype), training=False)
    tf.saved_model.save(module, str(directory))


class _Words(tf.Module):
    """A lookup table with its file, and an embedding."""

    def __init__(self, vocabulary):
        super().__init__()
        index = tf.lookup.TextFileIndex
        lines = (str(vocabulary), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(*lines), 2)
        self.embedding = tf.Variable(normal(3, 4, seed=5), name="embedding")

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, words):
        return tf.gather(self.embedding, self.table.lookup(words))


def save_words(directory):
    """Two known words, "cat" and "dog"; the third row is that of all others."""
    vocabulary = directory.with_suffix(".txt")
    vocabulary.write_text("cat\ndog\n")
    tf.saved_model.save(_Words(vocabulary), str(directory))
    vocabulary.unlink()


class _Counter(tf.Module):
    def __init__(self):
        super().__init__()
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def __call__(self, x):
        return self.table.lookup(x)


def save_growing_table(directory):
    tf.saved_model.save(_Counter(), str(directory))


def save_tf1(directory):
    """The format of TF1 Hub: one graph without tags, one for training, and the outputs "default" and "map"."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 3))
        kernel = tf.compat.v1.get_variable("module/kernel", initializer=normal(3, 3, 3, 4, seed=1))
        x = tf.nn.conv2d(images, kernel, 1, "SAME")
        session.run(tf.compat.v1.global_variables_initializer())
        mean = tf.reduce_mean(x, (1, 2))
        signature = tf.compat.v1.saved_model.predict_signature_def
        builder = tf.compat.v1.saved_model.Builder(str(directory))
        inference = signature({"images": images}, {"default": mean, "map": x})
        builder.add_meta_graph_and_variables(session, [], {"default": inference})
        builder.add_meta_graph(["train"], {"default": signature({"images": images}, {"default": -mean})})
        builder.save()


class _Sum(tf.Module):
    @tf.function
    def both(self, a, b):
        return {"sum": a + b, "difference": a - b}

    @tf.function
    def one(self, a):
        return {"double": 2 * a}


def save_signatures(directory):
    """No object to call: a signature of two inputs, and one of one."""
    module, spec = _Sum(), tf.TensorSpec((None, 2))
    signatures = {
        "both": module.both.get_concrete_function(spec, spec),
        "serving_default": module.one.get_concrete_function(spec),
    }
    tf.saved_model.save(module, str(directory), signatures)


def add_optimizer(directory):
    """Make a SavedModel look as if Keras 2 had saved it with one of its older optimizers."""
    path = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    variables = [number for number, node in enumerate(nodes) if node.HasField("variable")]
    optimizer = next(node for node in nodes if node.user_object.identifier == "_generic_user_object")
    optimizer.slot_variables.add(
        original_variable_node_id=variables[0], slot_name="m", slot_variable_node_id=variables[1]
    )
    path.write_bytes(model.SerializeToString())
