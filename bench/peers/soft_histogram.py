"""Times PyTorch's eager soft histogram, all bins against all values, on one thread: see pmp.sh."""

import statistics
import sys
import time

import torch

count, bins = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
torch.manual_seed(1)
values = torch.randn(count, requires_grad=True)
centers = torch.linspace(-4, 4, bins)
spacing = 8 / (bins - 1)


def forward():
    return torch.exp(-(((values[:, None] - centers) / spacing) ** 2)).sum(0)


def milliseconds(work, rounds=7):
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def alone():
    with torch.no_grad():
        forward()


def both():
    values.grad = None
    forward().square().sum().backward()


print(f"{milliseconds(alone):.2f} {milliseconds(both):.2f}")
