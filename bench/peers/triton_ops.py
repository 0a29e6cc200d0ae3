"""Triton kernels that do what Sentei's do: the fair peers where PyTorch takes several passes.

moments          sum and sum of squares of every column in one pass over x, a partial sum a slab of rows, then their sum
select_rows      the `prune` lowest |w| * scale of every row, ties to the lower column: a row in registers, the threshold found
                 bit by bit, a mask of one bit a weight (set where it stays), and what stays if that is wanted
select_2_of_4    the same of every two in four

  TRITON_INTERPRET=1 triton_ops.py     holds them against PyTorch on a processor
"""

import torch
import triton
import triton.language as tl

SLABS = 64


@triton.jit
def moments_kernel(x, partial, rows, cols, slab, ROWS: tl.constexpr, COLS: tl.constexpr):
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = tl.program_id(1) * slab
    last = tl.minimum(first + slab, rows)
    total = tl.zeros([ROWS, COLS], tl.float32)
    squares = tl.zeros([ROWS, COLS], tl.float32)
    for start in range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < last) & (col[None, :] < cols)
        value = tl.load(x + row[:, None].to(tl.int64) * cols + col[None, :], mask=inside, other=0.0)
        total += value
        squares += value * value
    target = partial + tl.program_id(1) * cols + col
    tl.store(target, tl.sum(total, 0), mask=col < cols)
    tl.store(target + tl.num_programs(1) * cols, tl.sum(squares, 0), mask=col < cols)


def moments(x):
    """The call that gives 2 x cols: sums and sums of squares."""
    rows, cols = x.shape
    partial = torch.empty(2, SLABS, cols, device=x.device)
    result = torch.empty(2, cols, device=x.device)
    grid = (triton.cdiv(cols, 128), SLABS)

    def call():
        moments_kernel[grid](x, partial, rows, cols, triton.cdiv(rows, SLABS), ROWS=16, COLS=128, num_warps=4)
        return torch.sum(partial, 1, out=result)

    return call


@triton.jit
def select_rows_kernel(weights, scale, mask, kept, cols, words, prune, WRITE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    inside = col < cols
    value = tl.load(weights + row * cols + col, mask=inside, other=0.0)
    score = tl.abs(value) * tl.load(scale + col, mask=inside, other=0.0)
    # Floats that are not negative order as their bits do.
    key = tl.where(inside, score.to(tl.int32, bitcast=True), 0x7FFFFFFF)
    threshold = tl.full([], 0, tl.int32)
    for bit in range(31):
        candidate = threshold | (1 << (30 - bit))
        below = tl.sum((key < candidate).to(tl.int32), 0)
        threshold = tl.where(below < prune, candidate, threshold)
    ties = prune - tl.sum((key < threshold).to(tl.int32), 0)
    equal = (key == threshold).to(tl.int32)
    stays = (key > threshold) | ((equal == 1) & (tl.cumsum(equal, 0) > ties))
    stays = stays & inside
    bits = tl.reshape(stays.to(tl.int32), [BLOCK // 32, 32]) << tl.arange(0, 32)[None, :]
    word = tl.arange(0, BLOCK // 32)
    tl.store(mask + row * words + word, tl.sum(bits, 1), mask=word < words)
    if WRITE:
        tl.store(kept + row * cols + col, tl.where(stays, value, 0.0), mask=inside)


def select_rows(weights, scale, kept, prune):
    """The mask of what stays, rows x words of 32; what stays goes into `kept` unless that is None. `prune` is 1 or more."""
    rows, cols = weights.shape
    words = triton.cdiv(cols, 32)
    mask = torch.empty(rows, words, dtype=torch.int32, device=weights.device)
    block = max(32, triton.next_power_of_2(cols))
    warps = min(32, max(4, block // 512))
    target = weights if kept is None else kept
    select_rows_kernel[(rows,)](
        weights, scale, mask, target, cols, words, prune, WRITE=kept is not None, BLOCK=block, num_warps=warps
    )
    return mask


@triton.jit
def select_2_of_4_kernel(weights, scale, mask, kept, cols, total, WRITE: tl.constexpr, WORDS: tl.constexpr):
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    element = word[:, None] * 32 + tl.arange(0, 32)[None, :]
    inside = element < total
    value = tl.load(weights + element, mask=inside, other=0.0)
    score = tl.abs(value) * tl.load(scale + element % cols, mask=inside, other=0.0)
    even, odd = tl.split(tl.reshape(score, [WORDS, 8, 2, 2]))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    # One stays when two of the others are pruned before it, the lower column first where they tie.
    stays_a = ((b < a).to(tl.int32) + (c < a).to(tl.int32) + (d < a).to(tl.int32)) >= 2
    stays_b = ((a <= b).to(tl.int32) + (c < b).to(tl.int32) + (d < b).to(tl.int32)) >= 2
    stays_c = ((a <= c).to(tl.int32) + (b <= c).to(tl.int32) + (d < c).to(tl.int32)) >= 2
    stays_d = ((a <= d).to(tl.int32) + (b <= d).to(tl.int32) + (c <= d).to(tl.int32)) >= 2
    bits = stays_a.to(tl.int32) | (stays_b.to(tl.int32) << 1) | (stays_c.to(tl.int32) << 2) | (stays_d.to(tl.int32) << 3)
    packed = tl.sum(bits << (4 * tl.arange(0, 8))[None, :], 1)
    tl.store(mask + word, packed, mask=word * 32 < total)
    if WRITE:
        stays = (packed[:, None] >> tl.arange(0, 32)[None, :]) & 1
        tl.store(kept + element, tl.where(stays == 1, value, 0.0), mask=inside)


def select_2_of_4(weights, scale, kept):
    """As select_rows; columns must be a multiple of 32."""
    rows, cols = weights.shape
    if cols % 32 != 0:
        raise ValueError(f"{cols} columns are no multiple of 32")
    words = rows * cols // 32
    mask = torch.empty(rows, cols // 32, dtype=torch.int32, device=weights.device)
    target = weights if kept is None else kept
    grid = (triton.cdiv(words, 64),)
    select_2_of_4_kernel[grid](
        weights, scale, mask, target, cols, rows * cols, WRITE=kept is not None, WORDS=64, num_warps=4
    )
    return mask


def unpacked(mask, cols):
    return ((mask.unsqueeze(2) >> torch.arange(32)) & 1).bool().reshape(mask.shape[0], -1)[:, :cols]


def check():
    torch.manual_seed(1)
    for rows, cols in ((7, 5), (130, 33), (1000, 257)):
        x = torch.randn(rows, cols)
        torch.testing.assert_close(moments(x)(), torch.stack((x.sum(0), (x * x).sum(0))), rtol=1e-4, atol=1e-4)
    for cols, prune in ((1, 1), (33, 16), (100, 99), (257, 128), (768, 576)):
        for weights in (torch.randn(5, cols), torch.randint(-3, 4, (5, cols)).float(), torch.zeros(5, cols)):
            scale, kept = torch.randn(cols).exp(), torch.full((5, cols), 7.0)
            if weights[0, 0] % 1 == 0:
                scale = torch.ones(cols)
            order = torch.sort(weights.abs() * scale, dim=1, stable=True).indices[:, :prune]
            stays = torch.ones(5, cols, dtype=torch.bool).scatter_(1, order, False)
            assert torch.equal(unpacked(select_rows(weights, scale, None, prune), cols), stays)
            assert torch.equal(unpacked(select_rows(weights, scale, kept, prune), cols), stays)
            assert torch.equal(kept, torch.where(stays, weights, 0))
    for rows, cols in ((3, 32), (70, 96)):
        for weights in (torch.randn(rows, cols), torch.randint(-3, 4, (rows, cols)).float()):
            scale, kept = torch.randn(cols).exp(), torch.full((rows, cols), 7.0)
            groups = (weights.abs() * scale).reshape(rows, -1, 4)
            order = torch.sort(groups, dim=2, stable=True).indices[:, :, :2]
            stays = torch.ones_like(groups, dtype=torch.bool).scatter_(2, order, False).reshape(rows, cols)
            assert torch.equal(unpacked(select_2_of_4(weights, scale, None), cols), stays)
            assert torch.equal(unpacked(select_2_of_4(weights, scale, kept), cols), stays)
            assert torch.equal(kept, torch.where(stays, weights, 0))
    print("Triton's kernels agree with PyTorch")


if __name__ == "__main__":
    check()
