"""PyTorch and ONNX Runtime beside `sentei bench`: the same op on the same shapes and threads, in interleaved rounds (run.sh).

The same is included on both sides: operands lie ready in memory, results go to memory that is there already where the API
allows it (torch: out=, copy_, in-place forms; ONNX Runtime: bound outputs), and every call takes the next of several sets of
operands, together 256 MiB at least, so that caches help nobody. Times are means over the calls of a round, as JMH's are.

Why these APIs are the fastest plain ones of their tool (each was timed against the alternatives named):

column_moments   torch.var_mean(x, 0) is the one call for it; x.sum(0) and (x * x).sum(0) is faster and what is written by
                 hand, though its variance is lost to cancellation when the mean is large. vector_norm(dim=0) and einsum are
                 slower. Ours gives mean, M2 and sum of squares, shifted, merged in fp64.
score_select     |w| * s, then kthvalue and a comparison (ties pruned in surplus), topk and scatter_, or the stable sort of
                 Wanda's code and scatter_: all end in a mask of one byte a weight, ours in one of one bit.
apply_mask       w.mul_(mask) with a mask as floats is faster than with booleans, than masked_fill_ and than where.
attention        scaled_dot_product_attention on views of the token-major matrices, no copies: its CPU flash kernel.
layer_norm,      torch.nn.functional.layer_norm and rms_norm, which allocate their results; ONNX Runtime's
rms_norm         LayerNormalization.
gemm             torch.mm and addmm with out=, torch.mv for one row (oneMKL or oneDNN below); ONNX Runtime's Gemm.
cast             out.copy_(x), which is x.to(dtype) without the allocation.
activate         torch.nn.functional.gelu and silu; the product of the gated form in place. ONNX Runtime's Gelu.
embedding        torch.index_select with out=; functional.embedding allocates.
rotary           the expression of transformers' apply_rotary_pos_emb.

  ops.py time THREADS OUT [DEVICE]   one round of every case, to a JSON file; on another device of PyTorch's, for example cuda,
                                     without ONNX Runtime, and a case that fails there is noted with its reason
  ops.py ceilings DEVICE             what a GPU does at best by PyTorch's operations, as JSON on stdout
  ops.py report OUT FOLDER COMMIT    medians of all rounds as kernels.json and kernels.md in FOLDER
"""

import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import sys
import time

ROTATED_BYTES = 256 << 20
SECONDS = 0.3
MAX_CALLS = 200


def cases(threads, device):
    """Yields case, peer, and a function that makes one set of operands and returns the call and its bytes."""
    import torch
    import torch.nn.functional as functional

    normal = torch.randn

    def tensor(*tensors):
        return sum(t.numel() * t.element_size() for t in tensors)

    def var_mean(rows, cols):
        x = normal(rows, cols)
        return lambda: torch.var_mean(x, 0, correction=0), tensor(x)

    def sums(rows, cols):
        x = normal(rows, cols)
        return lambda: (x.sum(0), (x * x).sum(0)), tensor(x)

    for shape in ((32768, 4096), (16384, 384)):
        label = f"column_moments/{shape[0]}x{shape[1]}"
        yield label, "torch.var_mean", lambda shape=shape: var_mean(*shape)
        yield label, "torch sum, sum of x * x", lambda shape=shape: sums(*shape)

    def selection(how):
        weights, scale, prune = normal(4096, 4096), torch.rand(4096) + 0.1, 2048

        def kthvalue():
            scores = weights.abs() * scale
            return scores <= torch.kthvalue(scores, prune, dim=1, keepdim=True).values

        def topk():
            scores = weights.abs() * scale
            indices = torch.topk(scores, prune, dim=1, largest=False, sorted=False).indices
            return torch.zeros(4096, 4096, dtype=torch.bool).scatter_(1, indices, True)

        def sort():
            scores = weights.abs() * scale
            indices = torch.sort(scores, dim=1, stable=True).indices[:, :prune]
            return torch.zeros(4096, 4096, dtype=torch.bool).scatter_(1, indices, True)

        return {"kthvalue": kthvalue, "topk": topk, "sort": sort}[how], tensor(weights)

    for how in ("kthvalue", "topk", "sort"):
        yield "score_select/row half of 4096x4096", f"torch.{how}", lambda how=how: selection(how)

    def mask():
        weights, keep = normal(4096, 4096), (torch.rand(4096, 4096) < 0.5).float()
        return lambda: weights.mul_(keep), tensor(weights, keep)

    yield "apply_mask/4096x4096", "torch mul_", mask

    def attention(batch, heads, length, size, causal):
        q, k, v = (normal(batch, length, heads * size).view(batch, length, heads, size).transpose(1, 2) for _ in range(3))
        return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal), 4 * tensor(q)

    for label, batch, heads, length, size, causal in (
        ("64 times 256 tokens, 12 heads of 32", 64, 12, 256, 32, False),
        ("512 tokens, 8 heads of 64", 1, 8, 512, 64, False),
        ("causal 2048 tokens, 12 heads of 64", 1, 12, 2048, 64, True),
    ):
        yield f"attention/{label}", "torch sdpa", lambda a=(batch, heads, length, size, causal): attention(*a)

    def norm(kind, rows, cols):
        x, gain, bias = normal(rows, cols), normal(cols), normal(cols)
        if kind == "layer_norm":
            return lambda: functional.layer_norm(x, (cols,), gain, bias, 1e-5), 2 * tensor(x)
        return lambda: functional.rms_norm(x, (cols,), gain, 1e-6), 2 * tensor(x)

    for kind, rows, cols in (("layer_norm", 16384, 384), ("layer_norm", 8192, 4096), ("rms_norm", 8192, 4096)):
        yield f"{kind}/{rows}x{cols}", f"torch {kind}", lambda a=(kind, rows, cols): norm(*a)

    def mm(m, k, n, transposed, biased):
        a, b = normal(m, k), normal(n, k).T if transposed else normal(k, n)
        bias, c = normal(n), torch.empty(m, n)
        if m == 1:
            row, out = a[0], c[0]
            return lambda: torch.mv(b.T, row, out=out), tensor(a, b, c)
        if biased:
            return lambda: torch.addmm(bias, a, b, out=c), tensor(a, b, c)
        return lambda: torch.mm(a, b, out=c), tensor(a, b, c)

    gemms = (
        ("1x4096x11008 transposed", 1, 4096, 11008, True, False),
        ("512x4096x1024 transposed", 512, 4096, 1024, True, False),
        ("1024x1024x1024", 1024, 1024, 1024, False, False),
        ("2048x384x1536 transposed bias", 2048, 384, 1536, True, True),
    )
    for label, *arguments in gemms:
        yield f"gemm/{label}", "torch mm, addmm, mv", lambda arguments=arguments: mm(*arguments)

    def cast(source, target):
        x, out = normal(4096, 11008).to(source), torch.empty(4096, 11008, dtype=target)
        return lambda: out.copy_(x), tensor(x, out)

    yield "cast/f32 to bf16 4096x11008", "torch copy_", lambda: cast(torch.float32, torch.bfloat16)
    yield "cast/bf16 to f32 4096x11008", "torch copy_", lambda: cast(torch.bfloat16, torch.float32)

    def gelu():
        x = normal(16384, 1536)
        return lambda: functional.gelu(x), 2 * tensor(x)

    def silu():
        x, up = normal(2048, 11008), normal(2048, 11008)
        return lambda: functional.silu(x).mul_(up), 3 * tensor(x)

    yield "activate/GELU 16384x1536", "torch gelu", gelu
    yield "activate/SILU 2048x11008 gated", "torch silu, mul_", silu

    def embedding():
        table, ids = normal(30522, 384), torch.randint(30522, (16384,))
        out = torch.empty(16384, 384)
        return lambda: torch.index_select(table, 0, ids, out=out), tensor(table, out)

    yield "embedding/16384 tokens of 384", "torch index_select", embedding

    def rotary():
        x = normal(2048, 32, 128)
        angles = torch.rand(2048, 1, 64)
        cosine, sine = torch.cat((angles.cos(),) * 2, -1), torch.cat((angles.sin(),) * 2, -1)
        return lambda: x * cosine + torch.cat((-x[..., 64:], x[..., :64]), -1) * sine, 2 * tensor(x)

    yield "rotary/2048 tokens, 32 heads of 128", "torch expression", rotary

    if device == "cpu":
        yield from onnx_cases(threads, gemms)


def onnx_cases(threads, gemms):
    import numpy
    import onnxruntime
    from onnx import TensorProto, helper

    random = numpy.random.default_rng(1)

    def normal(*shape):
        return random.standard_normal(shape, dtype=numpy.float32)

    def session(node, inputs, shape, output):
        types = {numpy.dtype(numpy.float32): TensorProto.FLOAT, numpy.dtype(numpy.uint16): TensorProto.BFLOAT16}
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info(name, types[array.dtype], array.shape) for name, array in inputs.items()],
            [helper.make_tensor_value_info("y", types[numpy.dtype(output)], shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = run.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        result = numpy.empty(shape, output)
        binding.bind_output("y", "cpu", 0, output, shape, result.ctypes.data)
        keep = (inputs, result)
        return lambda: (run.run_with_iobinding(binding), keep), sum(a.nbytes for a in inputs.values()) + result.nbytes

    def layer_norm(rows, cols):
        inputs = {"x": normal(rows, cols), "g": normal(cols), "b": normal(cols)}
        node = helper.make_node("LayerNormalization", list(inputs), ["y"], epsilon=1e-5)
        return session(node, inputs, (rows, cols), numpy.float32)

    for rows, cols in ((16384, 384), (8192, 4096)):
        yield f"layer_norm/{rows}x{cols}", "ONNX Runtime", lambda a=(rows, cols): layer_norm(*a)

    def gemm(m, k, n, transposed, biased):
        inputs = {"a": normal(m, k), "b": normal(n, k) if transposed else normal(k, n)}
        if biased:
            inputs["c"] = normal(n)
        node = helper.make_node("Gemm", list(inputs), ["y"], transB=int(transposed))
        return session(node, inputs, (m, n), numpy.float32)

    for label, *arguments in gemms:
        yield f"gemm/{label}", "ONNX Runtime", lambda arguments=arguments: gemm(*arguments)

    def gelu():
        return session(helper.make_node("Gelu", ["x"], ["y"]), {"x": normal(16384, 1536)}, (16384, 1536), numpy.float32)

    yield "activate/GELU 16384x1536", "ONNX Runtime", gelu


def waiting(device):
    """What returns when the device has done all that it was given."""
    import torch

    return (lambda: None) if device == "cpu" else torch.cuda.synchronize


def mean_time(calls, wait):
    start = time.perf_counter()
    calls[-1]()  # warm up
    wait()
    once = time.perf_counter() - start
    if once < SECONDS:
        for call in calls:
            call()
    wait()
    count, start = 0, time.perf_counter()
    while count < 1 or (time.perf_counter() - start < SECONDS and count < MAX_CALLS):
        calls[count % len(calls)]()
        count += 1
    wait()
    return (time.perf_counter() - start) / count


def measure(threads, out, device="cpu"):
    import torch

    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.manual_seed(1)
    times, failed = {}, {}
    with torch.inference_mode():
        for case, peer, make in cases(threads, device):
            try:
                call, size = make()
                calls = [call] + [make()[0] for _ in range(max(0, -(-ROTATED_BYTES // size) - 1))]
                times.setdefault(case, {})[peer] = mean_time(calls, waiting(device))
            except RuntimeError as error:
                if device == "cpu":
                    raise
                failed.setdefault(case, {})[peer] = str(error).splitlines()[0]
                print(f"{case}  {peer}  failed: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{case}  {peer}  {1e3 * times[case][peer]:.3f} ms", file=sys.stderr, flush=True)
            # After every case, so that a run that is stopped leaves what it has.
            record = {"torch": torch.__version__, "threads": threads, "times": times} | ({"failed": failed} if failed else {})
            out.write_text(json.dumps(record, indent=1))


def ceilings(device):
    """Prints the ceilings of a GPU: bytes read and written count, a multiply-add is two operations."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU: " + ("it was built without CUDA" if torch.version.cuda is None else "no device"))
    wait = waiting(device)
    size = 1 << 30
    found = []

    def ceiling(name, unit, how, work, make):
        try:
            found.append({"name": name, "unit": unit, "value": work / mean_time([make()], wait), "how": how})
        except (RuntimeError, AttributeError) as error:
            found.append({"name": name, "reason": str(error).splitlines()[0]})
        torch.cuda.empty_cache()

    def square(dtype, tf32=False):
        def make():
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(8192, 8192, device=device).to(dtype) for _ in range(2))
            out = torch.empty(8192, 8192, dtype=dtype, device=device)
            return lambda: torch.mm(a, b, out=out)

        return make

    def copy(source, target):
        def make():
            a, b = (torch.empty(size, dtype=torch.int8, device=where, pin_memory=where == "cpu") for where in (source, target))
            return lambda: b.copy_(a, non_blocking=True)

        return make

    def read():
        x = torch.ones(size // 4, device=device)
        return lambda: x.sum()

    def int8():
        a, b = (torch.randint(-128, 128, (8192, 8192), dtype=torch.int8, device=device) for _ in range(2))
        return lambda: torch._int_mm(a, b.T)

    def launch():
        x = torch.zeros(1, device=device)
        return lambda: x.add_(1)

    operations = 2 * 8192**3 / 1e12
    ceiling("read", "GB/s", "sum of 1 GiB of fp32", size / 1e9, read)
    ceiling("copy", "GB/s", "copy of 1 GiB on the device", 2 * size / 1e9, copy(device, device))
    ceiling("to the device", "GB/s", "1 GiB from pinned memory", size / 1e9, copy("cpu", device))
    ceiling("from the device", "GB/s", "1 GiB to pinned memory", size / 1e9, copy(device, "cpu"))
    ceiling("bf16", "TFLOP/s", "product of 8192 x 8192", operations, square(torch.bfloat16))
    ceiling("tf32", "TFLOP/s", "product of 8192 x 8192", operations, square(torch.float32, tf32=True))
    ceiling("fp32", "TFLOP/s", "product of 8192 x 8192, TF32 off", operations, square(torch.float32))
    ceiling("int8", "TOP/s", "product of 8192 x 8192", operations, int8)
    ceiling("PyTorch launches", "a second", "add_ on one element, many in flight", 1, launch)
    print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "ceilings": found}))


def processor():
    names = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0].strip() if names else platform.machine()


def report(out, folder, commit):
    ours = [json.loads(file.read_text()) for file in sorted(out.glob("sentei.*.json"))]
    theirs = [json.loads(file.read_text()) for file in sorted(out.glob("peers.*.json"))]
    rows = []
    for first in ours[0]["results"]:
        name = f"{first['op']}/{first['case']}"
        mine = [one for round in ours for one in round["results"] if (one["op"], one["case"]) == (first["op"], first["case"])]
        seconds = statistics.median(one["time"] for one in mine)
        ceilings = [one["ceiling_percent"] for one in mine if one["ceiling_percent"] is not None]
        peers = {}
        for peer in theirs[0]["times"].get(name, {}):
            times = [round["times"][name][peer] for round in theirs]
            ratios = [their / my["time"] for their, my in zip(times, mine)]
            peers[peer] = {"seconds": statistics.median(times), "ratio": statistics.median(ratios), "all": times}
        rows.append({
            "kernel": first["op"],
            "shape": first["case"],
            "seconds": seconds,
            "gb_per_second": (first["bytes_read"] + first["bytes_written"]) / seconds / 1e9,
            "gflop_per_second": first["operations"] / seconds / 1e9,
            "limit": first["limit"],
            "ceiling_percent": statistics.median(ceilings) if ceilings else None,
            "peers": peers,
            "all": [one["time"] for one in mine],
        })
    nameless = set(theirs[0]["times"]) - {f"{row['kernel']}/{row['shape']}" for row in rows}
    if nameless:
        sys.exit(f"sentei bench has no case {sorted(nameless)}: the catalogue of cases and this file have parted")
    devices = [round["backends"][0] for round in ours]
    ceilings = {key: statistics.median(device[key] for device in devices)
                for key in ("read_bandwidth", "copy_bandwidth", "operation_rate")}
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "command": "bench/peers/run.sh",
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load_average": os.getloadavg()[0]},
        "isa": devices[0]["isa"],
        "threads": ours[0]["threads"],
        "torch": theirs[0]["torch"],
        "rounds": len(ours),
        "ceilings": ceilings,
        "kernels": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernels.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [
        f"# Kernels on {processor()}, {record['threads']} threads",
        "",
        f"Measured ceilings: read {ceilings['read_bandwidth'] / 1e9:.1f} GB/s, copy {ceilings['copy_bandwidth'] / 1e9:.1f}"
        f" GB/s, fp32 {ceilings['operation_rate'] / 1e9:.0f} GFLOP/s. A ratio above 1 says how many times as long the peer"
        " takes.",
        "",
        "| kernel | shape | ms | GB/s | GFLOP/s | of ceiling | peers: ms, ratio |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        share = "" if row["ceiling_percent"] is None else f"{row['ceiling_percent']:.0f} % of {row['limit']}"
        peers = "; ".join(f"{name} {1e3 * peer['seconds']:.2f}, **{peer['ratio']:.2f}**" for name, peer in row["peers"].items())
        lines.append(
            f"| {row['kernel']} | {row['shape']} | {1e3 * row['seconds']:.3f} | {row['gb_per_second']:.1f}"
            f" | {row['gflop_per_second']:.1f} | {share} | {peers} |")
    lines += [
        "",
        f"Medians of {len(ours)} interleaved rounds, ratios of pairs; tier {record['isa']}, PyTorch {record['torch']};"
        f" {record['machine']['cores']} cores, load average {record['machine']['load_average']:.1f}; {record['date']},"
        f" commit {commit}; `{record['command']}`.",
    ]
    (folder / "kernels.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main():
    if sys.argv[1:2] == ["time"] and len(sys.argv) in (4, 5):
        measure(int(sys.argv[2]), pathlib.Path(sys.argv[3]), *sys.argv[4:])
    elif sys.argv[1:2] == ["ceilings"] and len(sys.argv) == 3:
        ceilings(sys.argv[2])
    elif sys.argv[1:2] == ["report"] and len(sys.argv) == 5:
        report(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(__doc__)


main()
