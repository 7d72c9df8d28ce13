"""SavedModels that do more than compute, each made of a harmless one by one change of its files."""

import os
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

STRING, FLOAT = tf.string.as_datatype_enum, tf.float32.as_datatype_enum


def save_harmless(directory):
    """A variable, a fixed table, one that grows, a loop, and a signature as `keras-cnn predict` asks for it."""

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(tf.ones(1), name="weight")
            pairs = tf.lookup.KeyValueTensorInitializer(["a"], tf.constant([1], tf.int64))
            self.fixed = tf.lookup.StaticHashTable(pairs, 0)
            self.growing = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "?")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, image_bytes):
            labels = self.growing.lookup(self.fixed.lookup(image_bytes))[:, None]
            count = tf.while_loop(lambda i: i < 1.0, lambda i: i + self.weight[0], [0.0])[0]
            return {"labels": labels, "probabilities": tf.fill((tf.size(image_bytes), 1), count)}

    module = Module()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})


def change(directory, how):
    """Change the graph in `directory` by a function of its `MetaGraphDef` and of the directory."""
    path = Path(directory) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    how(saved.meta_graphs[0], Path(directory))
    path.write_bytes(saved.SerializeToString())


def function(meta, part):
    """The first function with this in its name."""
    return next(one for one in meta.graph_def.library.function if part in one.signature.name)


def add(body, operation, *inputs, name="added"):
    """Add a node, which need not be one that runs."""
    node = body.add(name=name, op=operation)
    node.input.extend(inputs)
    return node


def text(body, content, name):
    """Add a constant text."""
    node = add(body, "Const", name=name)
    node.attr["dtype"].type = STRING
    node.attr["value"].tensor.dtype = STRING
    node.attr["value"].tensor.tensor_shape.SetInParent()
    node.attr["value"].tensor.string_val.append(content.encode())


def write(body, path, suffix=""):
    """Add nodes that write a file, and run."""
    text(body, str(path), "path")
    text(body, "written", "content")
    add(body, "WriteFile", f"path{suffix}", f"content{suffix}")


def save(body, path, suffix=""):
    """Add nodes that write a checkpoint, and run."""
    text(body, str(path), "path")
    add_texts(body, "names", "x")
    add_texts(body, "slices", "")
    text(body, "written", "content")
    node = add(body, "SaveV2", *(f"{one}{suffix}" for one in ("path", "names", "slices", "content")))
    node.attr["dtypes"].list.type.append(STRING)


def add_texts(body, name, content):
    text(body, content, name)
    body[-1].attr["value"].tensor.tensor_shape.dim.add(size=1)


def call(body, name, *inputs, operation="StatefulPartitionedCall"):
    node = add(body, operation, *inputs)
    node.attr["f"].func.name = name
    return node


def saver_of(meta):
    """The names of the function that saves and of the one that restores."""
    return function(meta, "traced_save").signature.name, function(meta, "traced_restore").signature.name


def main(meta, name):
    return next(node for node in meta.graph_def.node if node.name == name)


def inside(part, operation):
    """A change: this operation in the function with `part` in its name."""
    return lambda meta, _: add(function(meta, part).node_def, operation)


def hidden_save(meta, _):
    save(function(meta, "serve").node_def, "/tmp/evil")
    add(meta.graph_def.node, "NoOp", name="nothing")
    for output in meta.signature_def["serving_default"].outputs.values():
        output.name = "nothing:0"


def attached_by_control(meta, _):
    add(meta.graph_def.node, "WriteFile")
    main(meta, "NoOp").input.append("^added")


def in_a_nested_attribute(meta, _):
    add(meta.graph_def.library.function.add().node_def, "ReadFile")
    meta.graph_def.library.function[-1].signature.name = "evil"
    inner = main(meta, "NoOp").attr["f"].func
    inner.name = function(meta, "serve").signature.name
    inner.attr["g"].func.name = "evil"


def in_a_branch(meta, _):
    add(meta.graph_def.library.function.add().node_def, "ReadFile")
    meta.graph_def.library.function[-1].signature.name = "evil"
    add(function(meta, "serve").node_def, "Case").attr["branches"].list.func.add(name="evil")


def gradient(meta, _):
    add(meta.graph_def.library.function.add().node_def, "ReadFile")
    meta.graph_def.library.function[-1].signature.name = "evil"
    meta.graph_def.library.registered_gradients.add(gradient_func="evil", registered_op_type="CustomGradient-1")


def function_without_a_name(meta, _):
    """It must not be taken for the graph itself, which has none either."""
    meta.graph_def.library.function.add()
    collection("saved_model_main_op")(meta, _)


def function_named_as_an_operation(meta, _):
    meta.graph_def.library.function.add().signature.name = "ReadFile"
    add(function(meta, "serve").node_def, "ReadFile")


def two_functions_of_one_name(meta, _):
    meta.graph_def.library.function.add().CopyFrom(function(meta, "serve"))


def two_nodes_of_one_name(meta, _):
    add(meta.graph_def.node, "NoOp", name="NoOp")


def gradient_of_another_operation(meta, _):
    main(meta, "NoOp").attr["_gradient_op_type"].s = b"EagerPyFunc"


def restored_from_elsewhere(meta, _):
    body = function(meta, "traced_restore").node_def
    text(body, "/etc/evil", "path")
    next(node for node in body if node.op == "RestoreV2").input[0] = "path:output:0"


def restored_from_a_joined_name(meta, _):
    body = function(meta, "traced_restore").node_def
    text(body, "/../../evil", "path")
    add(body, "StringJoin", "file_prefix", "path:output:0", name="joined")
    next(node for node in body if node.op == "RestoreV2").input[0] = "joined:output:0"


def saved_elsewhere(meta, _):
    body = function(meta, "traced_save").node_def
    text(body, "/tmp/evil", "path")
    next(node for node in body if node.op == "SaveV2").input[0] = "path:output:0"


def saved_under_a_longer_name(meta, _):
    node = next(node for node in function(meta, "traced_save").node_def if node.op == "Const" and "_temp" in str(node))
    node.attr["value"].tensor.string_val[0] = b"/../../evil"


def merged_elsewhere(meta, _):
    body = function(meta, "traced_save").node_def
    text(body, "/tmp/evil", "path")
    next(node for node in body if node.op == "MergeV2Checkpoints").input[1] = "path:output:0"


def another_name_is_handed_over(meta, _):
    text(meta.graph_def.node, "/etc/evil", "path")
    main(meta, meta.saver_def.restore_op_name).input[0] = "path"


def a_default_is_handed_over(meta, _):
    text(meta.graph_def.node, "/etc/evil", "path")
    add(meta.graph_def.node, "PlaceholderWithDefault", "path", name="other")
    main(meta, meta.saver_def.restore_op_name).input[0] = "other"


def arguments_of_two_tensors(meta, _):
    """The second argument is the third input, for the first argument takes two."""
    restore = function(meta, "traced_restore")
    first = restore.signature.input_arg[0]
    extra = type(first)(name="extra", type=STRING, number_attr="N")
    rest = [type(one).FromString(one.SerializeToString()) for one in restore.signature.input_arg]
    del restore.signature.input_arg[:]
    restore.signature.input_arg.extend([extra, *rest])
    text(meta.graph_def.node, "/etc/evil", "path")
    main(meta, meta.saver_def.restore_op_name).input[:0] = ["path", "saver_filename"]


def signature_that_restores(meta, _):
    meta.signature_def["serving_default"].outputs["labels"].name = f"{meta.saver_def.restore_op_name}:0"


def collection(key):
    def how(meta, _):
        meta.collection_def[key].node_list.value[:] = [meta.saver_def.save_tensor_name.split(":")[0]]

    return how


def initialised_by_the_saver(meta, _):
    from tensorflow.core.framework import variable_pb2

    variable = variable_pb2.VariableDef(variable_name="weight:0", initializer_name=meta.saver_def.restore_op_name)
    meta.collection_def["variables"].bytes_list.value.append(variable.SerializeToString())


def saver_among_the_objects(meta, _):
    meta.object_graph_def.concrete_functions[saver_of(meta)[0]].SetInParent()


def saver_as_an_attribute_of_the_object(meta, _):
    objects = meta.object_graph_def
    objects.nodes.add().bare_concrete_function.concrete_function_name = saver_of(meta)[1]
    objects.nodes[0].children.add(node_id=len(objects.nodes) - 1, local_name="restore")


def saver_called_by_the_signature(meta, _):
    call(function(meta, "serve").node_def, saver_of(meta)[0], "image_bytes")


def saver_called_by_its_name(meta, _):
    add(function(meta, "initializer").node_def, saver_of(meta)[0])


def saver_named_by_a_text(meta, _):
    function(meta, "serve").attr["forward_function_name"].s = saver_of(meta)[0].encode()


def saver_as_a_gradient(meta, _):
    name = function(meta, "serve").signature.name
    meta.graph_def.library.gradient.add(function_name=name, gradient_func=saver_of(meta)[0])


def saver_that_implements_an_interface(meta, _):
    for part in ("serve", "traced_save"):
        function(meta, part).attr["api_implements"].s = b"the_same"


def saver_that_writes_when_it_reads(meta, _):
    meta.saver_def.restore_op_name = meta.saver_def.save_tensor_name.split(":")[0]


def saver_that_writes_before_it_reads(meta, _):
    main(meta, meta.saver_def.restore_op_name).input.append("^" + meta.saver_def.save_tensor_name.split(":")[0])


def variables_from_a_checkpoint(meta, _):
    text(meta.graph_def.node, "/etc/evil", "path")
    add(meta.graph_def.node, "RestoreV2", "path")


def asset_upwards(meta, _):
    meta.asset_file_def.add(filename="../../../etc/passwd")


def asset_with_a_root(meta, _):
    meta.asset_file_def.add(filename="/etc/passwd")


def asset_of_tensorflow_1(meta, _):
    asset = meta_graph_pb2.AssetFileDef(filename="..\\..\\secret")
    meta.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)


def link_for_variables(_, directory):
    index = directory / "variables" / "variables.index"
    index.rename(directory.parent / "elsewhere.index")
    index.symlink_to(directory.parent / "elsewhere.index")


def link_for_the_folder_of_assets(_, directory):
    (directory / "assets").rmdir()
    (directory / "assets").symlink_to("/etc")


def pipe(_, directory):
    os.mkfifo(directory / "assets" / "pipe")


def another_graph_next_to_it(_, directory):
    (directory / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")


def unknown_fields(meta, _):
    meta.graph_def.library.MergeFromString(b"\x9a\xbb\x01\x04evil")  # field 2995, of a length


READS, WRITES = "ReadFile reads files", "WriteFile writes files"
NOT_ALONE = "and something else than the saver can run it"
OTHER_NAME = "under a name that is not passed to the saver"
HOSTILE = {
    "a save by the signature, which seems to do nothing": (hidden_save, f"SaveV2 writes files {OTHER_NAME}"),
    "a table's initialiser": (inside("initializer", "WriteFile"), WRITES),
    "what makes a table": (inside("creator", "WriteFile"), WRITES),
    "what removes a table": (inside("destroyer", "WriteFile"), WRITES),
    "what saves a table": (inside("save_fn", "WriteFile"), WRITES),
    "what restores a table": (inside("restore_fn", "ReadFile"), READS),
    "a checkpoint in what saves a table": (inside("save_fn", "SaveV2"), f"SaveV2 writes files, {NOT_ALONE}"),
    "a checkpoint in what restores a table": (inside("restore_fn", "RestoreV2"), f"RestoreV2 reads files, {NOT_ALONE}"),
    "the body of a loop": (inside("while_body", "ReadFile"), READS),
    "the condition of a loop": (inside("while_cond", "ReadFile"), READS),
    "a branch in a list": (in_a_branch, READS),
    "an attribute of an attribute": (in_a_nested_attribute, READS),
    "a gradient that nothing asks for": (gradient, READS),
    "the saver's function that saves": (inside("traced_save", "ReadFile"), READS),
    "the saver's function that restores": (inside("traced_restore", "EagerPyFunc"), "EagerPyFunc runs other code"),
    "a node held by a control input": (attached_by_control, WRITES),
    "two files of words": (inside("serve", "GenerateVocabRemapping"), "GenerateVocabRemapping reads files"),
    "a text that is printed to a file": (inside("serve", "PrintV2"), "PrintV2 writes files"),
    "a description in a file": (inside("serve", "DecodeProtoV2"), "DecodeProtoV2 reads files"),
    "a program of XLA": (inside("serve", "XlaCallModule"), "XlaCallModule runs other code"),
    "a data service": (inside("serve", "DataServiceDatasetV4"), "DataServiceDatasetV4 reaches the network"),
    "an operation of a library": (inside("serve", "Evil>\x1b[2J"), r"'Evil>\x1b[2J' is not an operation of TensorFlow"),
    "an end of the process": (inside("serve", "Abort"), "Abort ends the process"),
    "a function without a name": (function_without_a_name, f"SaveV2 writes files, {NOT_ALONE}"),
    "a function named as an operation": (function_named_as_an_operation, READS),
    "two functions of one name": (two_functions_of_one_name, "two functions have the name '__inference_"),
    "two nodes of one name": (two_nodes_of_one_name, "two nodes have the name 'NoOp'"),
    "the gradient of another operation": (gradient_of_another_operation, "EagerPyFunc runs other code"),
    "variables from elsewhere": (restored_from_elsewhere, f"RestoreV2 reads files {OTHER_NAME}"),
    "variables from a joined name": (restored_from_a_joined_name, f"RestoreV2 reads files {OTHER_NAME}"),
    "variables from another name handed over": (another_name_is_handed_over, f"RestoreV2 reads files {OTHER_NAME}"),
    "variables from a default": (a_default_is_handed_over, f"RestoreV2 reads files {OTHER_NAME}"),
    "variables by an argument of two tensors": (arguments_of_two_tensors, f"RestoreV2 reads files {OTHER_NAME}"),
    "variables from a checkpoint of its own": (variables_from_a_checkpoint, f"RestoreV2 reads files {OTHER_NAME}"),
    "a save to elsewhere": (saved_elsewhere, f"SaveV2 writes files {OTHER_NAME}"),
    "a save to a longer name": (saved_under_a_longer_name, f"SaveV2 writes files {OTHER_NAME}"),
    "a merge to elsewhere": (merged_elsewhere, f"MergeV2Checkpoints writes files {OTHER_NAME}"),
    "a signature that restores": (signature_that_restores, f"RestoreV2 reads files, {NOT_ALONE}"),
    "a main operation that saves": (collection("saved_model_main_op"), f"SaveV2 writes files, {NOT_ALONE}"),
    "an old initialiser that saves": (collection("legacy_init_op"), f"SaveV2 writes files, {NOT_ALONE}"),
    "a step of training that saves": (collection("saved_model_train_op"), f"SaveV2 writes files, {NOT_ALONE}"),
    "a variable initialised by the saver": (initialised_by_the_saver, f"RestoreV2 reads files, {NOT_ALONE}"),
    "the saver among the objects": (saver_among_the_objects, f"SaveV2 writes files, {NOT_ALONE}"),
    "the saver as an attribute": (saver_as_an_attribute_of_the_object, f"RestoreV2 reads files, {NOT_ALONE}"),
    "the saver called by the signature": (saver_called_by_the_signature, f"SaveV2 writes files, {NOT_ALONE}"),
    "the saver called by its name": (saver_called_by_its_name, f"SaveV2 writes files, {NOT_ALONE}"),
    "the saver named by a text": (saver_named_by_a_text, f"SaveV2 writes files, {NOT_ALONE}"),
    "the saver as a gradient": (saver_as_a_gradient, f"SaveV2 writes files, {NOT_ALONE}"),
    "the saver for an interface": (saver_that_implements_an_interface, f"SaveV2 writes files, {NOT_ALONE}"),
    "a saver that writes when it reads": (saver_that_writes_when_it_reads, "writes files when it should read them"),
    "a saver that writes before it reads": (saver_that_writes_before_it_reads, "writes files when it should read them"),
    "an asset upwards": (asset_upwards, "an asset lies outside of the folder: '../../../etc/passwd'"),
    "an asset with a root": (asset_with_a_root, "an asset lies outside of the folder: '/etc/passwd'"),
    "an asset of TensorFlow 1": (asset_of_tensorflow_1, "an asset lies outside of the folder: "),
    "a link for variables": (link_for_variables, "'variables/variables.index' is a link to a place outside"),
    "a link for the assets": (link_for_the_folder_of_assets, "'assets' is a link to a place outside"),
    "a pipe": (pipe, "'assets/pipe' is neither a file nor a folder"),
    "another graph next to it": (another_graph_next_to_it, "'saved_model.pbtxt' is next to saved_model.pb"),
    "fields of another TensorFlow": (unknown_fields, "holds fields that this TensorFlow does not know"),
}
