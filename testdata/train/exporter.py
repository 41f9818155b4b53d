"""A small writer of ONNX graphs on top of onnx.helper."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCER = "lapidary-testdata"


class Graph:
    """Nodes and initializers in the order they are added. Values are referred to by name."""

    def __init__(self):
        self.nodes = []
        self.initializers = {}

    def node(self, name, op, *inputs, out=None, **attributes):
        """Adds a node with one output, named `{name}_output_0` unless `out` is given."""
        out = out or f"{name}_output_0"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, **attributes))
        return out

    def weight(self, name, array):
        array = np.ascontiguousarray(array)
        if name in self.initializers:
            raise ValueError(f"initializer {name!r} is added twice")
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def constant(self, name, value, dtype=np.int64):
        """Adds a Constant node, as tracing exporters write literals."""
        tensor = numpy_helper.from_array(np.array(value, dtype))
        return self.node(name, "Constant", value=tensor)

    def model(self, name, inputs, outputs, opset, ir_version, doc):
        """`inputs` and `outputs` are (name, element type, shape). The result passes the checker."""
        infos = [
            [helper.make_tensor_value_info(*info) for info in side] for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, name, *infos, list(self.initializers.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
            producer_name=PRODUCER,
            doc_string=doc,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def floats(name, *shape):
    return name, TensorProto.FLOAT, list(shape)


def int64s(name, *shape):
    return name, TensorProto.INT64, list(shape)


def one_int64():
    """The `value` attribute of a ConstantOfShape that makes int64 ones."""
    return numpy_helper.from_array(np.ones(1, np.int64))
