"""The peer of AttentionResidual.java: PyTorch's eager autograd in fp32, with the attention of the dense weights computed before.

Arguments: threads, rounds, then `length heads size causal|both` again and again. Prints a line a shape: the median in
milliseconds, after a second of rounds that are not counted.
"""

import statistics
import sys
import time

import torch


def measure(rounds, length, heads, size, causal):
    torch.manual_seed(1)
    width = heads * size
    x = torch.randn(length, width)
    weights = [torch.randn(width, width) / width**0.5 for _ in range(2)]
    masks = [(1 - 0.1 * torch.rand(width, width)).requires_grad_() for _ in range(2)]
    unseen = torch.full((length, length), float("-inf")).triu(1) if causal else None

    def attention(matrices):
        q, k = ((x @ w.T).view(length, heads, size).transpose(0, 1) for w in matrices)
        logits = q @ k.transpose(1, 2) * size**-0.5
        return torch.softmax(logits if unseen is None else logits + unseen, dim=-1)

    with torch.no_grad():
        target = attention(weights)

    def iteration():
        start = time.perf_counter()
        loss = 0.5 * (attention([m * w for m, w in zip(masks, weights)]) - target).square().sum()
        loss.backward()
        elapsed = time.perf_counter() - start
        for m in masks:
            m.grad = None
        return elapsed

    begin = time.perf_counter()
    while time.perf_counter() - begin < 1:
        iteration()
    return statistics.median(iteration() for _ in range(rounds)) * 1e3


threads, rounds = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
shapes = sys.argv[3:]
for i in range(0, len(shapes), 4):
    length, heads, size = map(int, shapes[i : i + 3])
    print(*shapes[i : i + 4], f"{measure(rounds, length, heads, size, shapes[i + 3] == 'causal'):.2f}")
