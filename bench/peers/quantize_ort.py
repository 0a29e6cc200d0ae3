"""Quantizes a network with onnxruntime.quantization on the same calibration images, and pairs it with ours.

    python bench/peers/quantize_ort.py MODEL.onnx OURS.onnx CALIBRATION TEST HEIGHT WIDTH [KEYS.txt]

CALIBRATION and TEST are folders with labels.csv (bench/data/RenderLines.java). Prints the share that float, ours and the
peer's per-channel W8A8 QDQ models get right, and for each pair who alone was right, the difference with its 95 % interval
and McNemar's exact p. Needs numpy, onnx, onnxruntime, pillow.
"""

import csv
import math
import os
import pathlib
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static
from PIL import Image

SAMPLES = int(os.environ.get("SAMPLES", "96"))


def rows(folder):
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return [(folder / line[0], line[1]) for line in list(csv.reader(file))[1:]]


def load(path, height, width):
    """Blue, green, red; bilinear between the middles of pixels; what is too short is filled with zeros on the right."""
    pixels = numpy.asarray(Image.open(path).convert("RGB"), numpy.float64)[:, :, ::-1]
    filled = min(width, max(1, math.ceil(height * pixels.shape[1] / pixels.shape[0])))
    out = numpy.zeros((3, height, width), numpy.float32)
    for axis, size in ((0, height), (1, filled)):
        at = (numpy.arange(size) + 0.5) * pixels.shape[axis] / size - 0.5
        low = numpy.floor(at).astype(int)
        part = at - low
        a = pixels.take(numpy.clip(low, 0, pixels.shape[axis] - 1), axis)
        b = pixels.take(numpy.clip(low + 1, 0, pixels.shape[axis] - 1), axis)
        part = part.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = a * (1 - part) + b * part
    out[:, :, :filled] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return out[None]


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def lifted(path, target):
    """Weights in Constant nodes would be taken for activations, and scales per channel need operators of version 13."""
    model = onnx.load(path)
    kept = []
    for node in model.graph.node:
        values = [a for a in node.attribute if node.op_type == "Constant" and a.name == "value"]
        if values:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(values[0].t)
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = max(model.ir_version, 8)
    onnx.save(version_converter.convert_version(model, 13), target)


class Reader(CalibrationDataReader):
    def __init__(self, name, images):
        self.feeds = iter([{name: image} for image in images])

    def get_next(self):
        return next(self.feeds, None)


def text(scores, keys):
    if keys is None:
        return str(int(scores.reshape(-1).argmax()))
    best = scores[0].argmax(1)
    kept = [c for i, c in enumerate(best) if c != 0 and (i == 0 or c != best[i - 1])]
    return "".join(keys[c - 1] for c in kept if c <= len(keys))


def predict(path, images, keys):
    run = session(path)
    name = run.get_inputs()[0].name
    return [text(run.run(None, {name: image()})[0], keys) for image in images]


def pair(name, a, b):
    n = len(a)
    only_a = sum(x and not y for x, y in zip(a, b))
    only_b = sum(y and not x for x, y in zip(a, b))
    difference = (only_b - only_a) / n
    half = 1.96 * math.sqrt(max(0, only_a + only_b - (only_b - only_a) ** 2 / n)) / n
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, k) for k in range(min(only_a, only_b) + 1)) / 2**discordant if discordant else 1
    print(
        f"{name}: alone right {only_a} and {only_b}; difference {100 * difference:+.2f} points, "
        f"95 % [{100 * (difference - half):+.2f}, {100 * (difference + half):+.2f}], p {min(1, 2 * tail):.2f}"
    )


def main():
    model, ours = sys.argv[1:3]
    calibration, test = map(pathlib.Path, sys.argv[3:5])
    height, width = map(int, sys.argv[5:7])
    keys = pathlib.Path(sys.argv[7]).read_text(encoding="utf-8").splitlines() if len(sys.argv) > 7 else None
    with tempfile.TemporaryDirectory() as folder:
        prepared, peer = f"{folder}/prepared.onnx", f"{folder}/peer.onnx"
        lifted(model, f"{folder}/lifted.onnx")
        quant_pre_process(f"{folder}/lifted.onnx", prepared, skip_symbolic_shape=True)
        images = [load(path, height, width) for path, _ in rows(calibration)[:SAMPLES]]
        quantize_static(
            prepared,
            peer,
            Reader(session(model).get_inputs()[0].name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        labelled = rows(test)
        samples = [lambda path=path: load(path, height, width) for path, _ in labelled]
        labels = [label if keys is None else label.replace(" ", "") for _, label in labelled]
        right = {
            name: [x == y for x, y in zip(predict(path, samples, keys), labels)]
            for name, path in (("float", model), ("ours", ours), ("peer", peer))
        }
    for name, results in right.items():
        print(f"{name}: {sum(results)} of {len(results)} = {sum(results) / len(results):.4f}")
    pair("float, ours", right["float"], right["ours"])
    pair("float, peer", right["float"], right["peer"])
    pair("peer, ours", right["peer"], right["ours"])


if __name__ == "__main__":
    main()
