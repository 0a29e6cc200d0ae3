"""Writes the graph of the consumer's tests: an embedding, two linear layers with a bias, random weights (seed 7)."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH, INNER = 2048, 16, 32

random = np.random.default_rng(7)


def weight(name, *shape):
    return numpy_helper.from_array((random.standard_normal(shape) * 0.2).astype(np.float32), name)


tokens = ["batch", "length"]
graph = helper.make_graph(
    [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "up.weight"], ["up.product"], name="up"),
        helper.make_node("Add", ["up.product", "up.bias"], ["up.sum"]),
        helper.make_node("Relu", ["up.sum"], ["inner"]),
        helper.make_node("MatMul", ["inner", "down.weight"], ["down.product"], name="down"),
        helper.make_node("Add", ["down.product", "down.bias"], ["down.sum"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask.column"]),
        helper.make_node("Mul", ["down.sum", "mask.column"], ["last_hidden_state"]),
    ],
    "encoder",
    [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ("input_ids", "attention_mask")],
    [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*tokens, WIDTH])],
    [
        weight("table", VOCABULARY, WIDTH),
        weight("up.weight", WIDTH, INNER),
        weight("up.bias", INNER),
        weight("down.weight", INNER, WIDTH),
        weight("down.bias", WIDTH),
        numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, sys.argv[1])
