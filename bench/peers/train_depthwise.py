"""Trains the small depthwise network that the tests of quantization read: Fashion-MNIST, ReLU6, ONNX under 1 MB.

    python bench/peers/train_depthwise.py FASHION_MNIST_FOLDER OUT.onnx [EPOCHS]

The folder holds the four idx files, gzipped or not (Debian: package dataset-fashion-mnist, /usr/share/datasets/fashion-mnist).
Batch normalization is left in the graph: to fold it is the quantizer's first pass. Needs torch and onnx.
"""

import gzip
import pathlib
import struct
import sys

import numpy
import torch
from torch import nn


def idx(folder, name):
    path = next(folder.glob(name + "*"))
    raw = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    rank = raw[3]
    shape = struct.unpack(">" + "I" * rank, raw[4 : 4 + 4 * rank])
    return numpy.frombuffer(raw, numpy.uint8, offset=4 + 4 * rank).reshape(shape)


def images(folder, name):
    return torch.from_numpy((idx(folder, name).astype(numpy.float32) / 255 - 0.286) / 0.353).unsqueeze(1)


def conv(inputs, outputs, size, stride=1, groups=1):
    return [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    ]


class Network(nn.Module):
    """A stem, then three inverted bottlenecks' worth of 1x1 and depthwise layers, one of them with a residual sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*conv(1, 16, 3, 2))
        self.first = nn.Sequential(*conv(16, 48, 1), *conv(48, 48, 3, 1, 48), *conv(48, 24, 1)[:2])
        self.second = nn.Sequential(*conv(24, 72, 1), *conv(72, 72, 3, 1, 72), *conv(72, 24, 1)[:2])
        self.third = nn.Sequential(*conv(24, 72, 1), *conv(72, 72, 3, 2, 72), *conv(72, 64, 1))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.first(self.stem(x))
        x = self.third(x + self.second(x))
        return self.head(x.mean((2, 3), keepdim=True).flatten(1))


def main():
    folder = pathlib.Path(sys.argv[1])
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 6
    torch.manual_seed(7)
    torch.set_num_threads(1)
    x, y = images(folder, "train-images"), torch.from_numpy(idx(folder, "train-labels").astype(numpy.int64))
    tx, ty = images(folder, "t10k-images"), torch.from_numpy(idx(folder, "t10k-labels").astype(numpy.int64))
    net = Network().to(memory_format=torch.channels_last)
    batch = 128
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            take = order[start : start + batch]
            loss = nn.functional.cross_entropy(net(x[take]), y[take])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            right = sum((net(tx[i : i + 500]).argmax(1) == ty[i : i + 500]).sum().item() for i in range(0, len(tx), 500))
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test accuracy {right / len(tx):.4f}", flush=True)
    net.to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        net,
        torch.zeros(1, 1, 28, 28),
        sys.argv[2],
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=12,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )


if __name__ == "__main__":
    main()
