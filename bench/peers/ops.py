"""PyTorch, Triton and ONNX Runtime beside `sentei bench`: the same op on the same shapes, in the same run.

Which cases there are, `sentei bench --list` says; what a case's twin does is found here by the case's name. The same is included
on both sides: operands lie ready in memory, results go to memory that is there already where the API allows it (torch: out=,
copy_, in-place forms; ONNX Runtime: bound outputs), and every call takes the next of several sets of operands, together 256 MiB
at least, so that caches help nobody. Times are means over the calls of a round, as JMH's are. On a GPU, calls that take less
than 2 ms are captured in a graph and replayed, where the peer can be captured, so that the time Python takes does not count.

Why these APIs are the fastest plain ones of their tool (on a processor each was timed against the alternatives named):

column_moments   torch.var_mean(x, 0) is the one call for it; x.sum(0) and (x * x).sum(0) is faster and what is written by
                 hand, though its variance is lost to cancellation when the mean is large, as is the Triton kernel's, which
                 reads x once. vector_norm(dim=0) and einsum are slower. Ours gives mean, M2 and sum of squares, shifted, merged
                 in fp64.
score_select     |w| * s, then kthvalue and a comparison (ties pruned in surplus), topk and scatter_, or the stable sort of
                 Wanda's code and scatter_: all end in a mask of one byte a weight, ours and the Triton kernel's in one of one
                 bit. Groups: topk over all groups at once, and Wanda's loop over them.
write_back       the same, and the weights that remain written to another matrix.
apply_mask       w.mul_(mask) with a mask as floats is faster than with booleans, than masked_fill_ and than where. With a bias,
                 what the pruned weights gave on average is added to it.
attention        scaled_dot_product_attention on views of the token-major matrices, no copies: its flash kernel on a processor and,
                 in bf16, on a GPU; in fp32 a GPU has another.
gram             addmm_ into fp32; ours adds up in fp64.
obs_sweep        SparseGPT's loop of rank-1 updates.
inverse_cholesky cholesky, cholesky_inverse, cholesky, in fp32 as SparseGPT; ours computes in fp64.
layer_norm,      torch.nn.functional.layer_norm and rms_norm, which allocate their results; ONNX Runtime's
rms_norm         LayerNormalization.
gemm             torch.mm and addmm with out=, torch.mv for one row (oneMKL, oneDNN or cuBLAS below); ONNX Runtime's Gemm. On a GPU
                 TF32 is off, as PyTorch has it.
cast             out.copy_(x), which is x.to(dtype) without the allocation.
activate         torch.nn.functional.gelu and silu; the product of the gated form in place. ONNX Runtime's Gelu.
embedding        torch.index_select with out=; functional.embedding allocates.
rotary           the expression of transformers' apply_rotary_pos_emb.

torch.compile stands beside moments, norms, activations and rotary positions, at one shape each, on a GPU.

  ops.py time THREADS OUT DEVICE CASES   one round of the cases in a file, a name a line, to a JSON file; on another device than
                                         the cpu, for example cuda, without ONNX Runtime, and a twin that fails there is noted
                                         with its reason
  ops.py ceilings DEVICE                 what a GPU does at best by PyTorch's operations, as JSON on stdout
  ops.py report OUT FOLDER COMMIT        medians of all rounds as kernels.json and kernels.md in FOLDER
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
SECONDS = {"cpu": 0.3, "cuda": 0.1}
MAX_CALLS = 200
CAPTURED_SECONDS = 2e-3
TWINS = []


def twin(pattern):
    """The twins of cases whose names match: by peer, what makes one set of operands and returns the call and its bytes."""

    def register(make):
        TWINS.append((re.compile(pattern), make))
        return make

    return register


def twins(name, device):
    """Yields peer and maker for one case."""
    for pattern, make in TWINS:
        match = pattern.fullmatch(name)
        if match:
            numbers = (int(group) if group and group.isdigit() else group for group in match.groups())
            peers = make(device, *numbers)
            yield from ((peer, make) for peer, make in peers.items() if peer != "Triton" or device != "cpu")


def normal(*shape, std=1.0):
    import torch

    return torch.randn(*shape) * std if std != 1 else torch.randn(*shape)


def size(*tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


@twin(r"column_moments/(\d+)x(\d+)")
def column_moments(device, rows, cols):
    import torch

    def var_mean():
        x = normal(rows, cols)
        return lambda: torch.var_mean(x, 0, correction=0), size(x)

    def sums():
        x = normal(rows, cols)
        return lambda: (x.sum(0), (x * x).sum(0)), size(x)

    def fused():
        import triton_ops

        x = normal(rows, cols)
        return triton_ops.moments(x), size(x)

    return {"torch.var_mean": var_mean, "torch sum, sum of x * x": sums, "Triton": fused}


def pruning(rows, cols, prune, std=0.02):
    """Weights, the scale of their columns, and where what is kept of them may be written."""
    import torch

    weights = normal(rows, cols, std=std)
    return weights, torch.randn(cols).exp(), torch.empty_like(weights), prune


def kthvalue(weights, scale, kept, prune):
    import torch

    scores = weights.abs() * scale
    pruned = scores <= torch.kthvalue(scores, prune, dim=1, keepdim=True).values
    return pruned if kept is None else torch.mul(weights, ~pruned, out=kept)


def topk(weights, scale, kept, prune):
    import torch

    scores = weights.abs() * scale
    indices = torch.topk(scores, prune, dim=1, largest=False, sorted=False).indices
    return scattered(weights, kept, indices)


def sort(weights, scale, kept, prune):
    import torch

    scores = weights.abs() * scale
    return scattered(weights, kept, torch.sort(scores, dim=1, stable=True).indices[:, :prune])


def scattered(weights, kept, indices):
    import torch

    if kept is None:
        return torch.zeros(weights.shape, dtype=torch.bool).scatter_(1, indices, True)
    return kept.copy_(weights).scatter_(1, indices, 0)


def selections(rows, cols, prune, writes, peers):
    def made(peer):
        def make():
            weights, scale, kept, count = pruning(rows, cols, prune)
            return lambda: peer(weights, scale, kept if writes else None, count), size(weights) * (2 if writes else 1)

        return make

    return {name: made(peer) for name, peer in peers.items()}


@twin(r"score_select/row half of (4096)x(4096)")
def row_half(device, rows, cols):
    return selections(rows, cols, cols // 2, False, {"torch.kthvalue": kthvalue, "torch.topk": topk, "torch.sort": sort})


@twin(r"(score_select|write_back)/(\d+) % of (\d+)x(\d+)")
def row_selection(device, op, percent, rows, cols):
    def fused(*operands):
        import triton_ops

        return triton_ops.select_rows(*operands)

    peers = {"torch.sort": sort, "torch.kthvalue": kthvalue}
    return selections(rows, cols, cols * percent // 100, op == "write_back", {"Triton": fused} | peers)


@twin(r"(score_select|write_back)/(\d+):(\d+) of (\d+)x(\d+) lognormal")
def group_selection(device, op, prune, of, rows, cols):
    def fused(weights, scale, kept, prune):
        import triton_ops

        return triton_ops.select_2_of_4(weights, scale, kept)

    def groups(weights, scale, kept, prune):
        import torch

        scores = (weights.abs() * scale).view(-1, of)
        indices = torch.topk(scores, prune, dim=1, largest=False, sorted=False).indices
        return scattered(weights.view(-1, of), None if kept is None else kept.view(-1, of), indices)

    def loop(weights, scale, kept, prune):
        import torch

        scores = weights.abs() * scale
        mask = torch.zeros(weights.shape, dtype=torch.bool) if kept is None else kept.copy_(weights)
        for first in range(0, cols, of):
            lowest = torch.topk(scores[:, first : first + of], prune, dim=1, largest=False).indices
            mask.scatter_(1, first + lowest, kept is None)
        return mask

    peers = {"torch.topk of all groups": groups, "torch loop of topk": loop}
    return selections(rows, cols, prune, op == "write_back", ({"Triton": fused} if (prune, of) == (2, 4) else {}) | peers)


@twin(r"apply_mask/(\d+)x(\d+)( bias)?")
def apply_mask(device, rows, cols, biased):
    import torch

    def mask():
        weights, keep = normal(rows, cols), (torch.rand(rows, cols) < 0.5).float()
        if not biased:
            return lambda: weights.mul_(keep), size(weights, keep)
        mean, bias, drop = normal(cols), normal(rows), 1 - keep

        def corrected():
            bias.addmv_(weights * drop, mean)
            weights.mul_(keep)

        return corrected, size(weights, keep)

    return {"torch addmv_, mul_" if biased else "torch mul_": mask} if device != "cpu" or not biased else {}


@twin(r"attention/(causal )?(?:(\d+) times )?(\d+) tokens, (\d+)(?: over (\d+))? heads of (\d+)")
def attention(device, causal, batch, length, heads, key_heads, width):
    import torch
    import torch.nn.functional as functional

    batch, key_heads = batch or 1, key_heads or heads
    grouped = {"enable_gqa": True} if key_heads != heads else {}

    def made(dtype):
        def make():
            q, k, v = (
                normal(batch, length, count * width).to(dtype).view(batch, length, count, width).transpose(1, 2)
                for count in (heads, key_heads, key_heads)
            )
            return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=bool(causal), **grouped), size(q, q, k, v)

        return make

    peers = {"torch sdpa": made(torch.float32)}
    return peers if device == "cpu" else peers | {"torch sdpa bf16": made(torch.bfloat16)}


def compiled(device, shape, wanted, function):
    """torch.compile's peer, at the one shape at which it is timed."""
    import torch

    return {"torch.compile": torch.compile(function, dynamic=False)} if device != "cpu" and shape == wanted else {}


@twin(r"column_moments/(\d+)x(\d+)")
def compiled_moments(device, rows, cols):
    def made(call):
        def make():
            x = normal(rows, cols)
            return lambda: call(x), size(x)

        return make

    peers = compiled(device, (rows, cols), (32768, 4096), lambda x: (x.sum(0), (x * x).sum(0)))
    return {name: made(call) for name, call in peers.items()}


@twin(r"(layer_norm|rms_norm)/(\d+)x(\d+)")
def norm(device, kind, rows, cols):
    import torch.nn.functional as functional

    def layer_norm(x, gain, bias):
        return functional.layer_norm(x, (cols,), gain, bias, 1e-5)

    def rms_norm(x, gain, bias):
        return functional.rms_norm(x, (cols,), gain, 1e-6)

    def made(call):
        def make():
            x, gain, bias = normal(rows, cols), normal(cols), normal(cols)
            return lambda: call(x, gain, bias), 2 * size(x)

        return make

    eager = layer_norm if kind == "layer_norm" else rms_norm
    peers = {f"torch {kind}": eager} | compiled(device, (rows, cols), (8192, 4096), eager)
    return {name: made(call) for name, call in peers.items()}


@twin(r"gram/(\d+)x(\d+)")
def gram(device, rows, cols):
    import torch

    def addmm():
        x, total = normal(rows, cols), torch.zeros(cols, cols)
        return lambda: total.addmm_(x.T, x), size(x, total, total)

    return {"torch addmm_": addmm} if device != "cpu" else {}


@twin(r"obs_sweep/(given mask|\d+:\d+ of) (\d+)x(\d+)")
def obs_sweep(device, selection, rows, cols):
    import torch

    prune, of = (int(number) for number in selection.split()[0].split(":")) if ":" in selection else (0, cols)

    def loop():
        weights, factor, errors = normal(rows, cols), torch.eye(cols) + normal(cols, cols).triu(1) / cols, torch.empty(rows, cols)
        drop = torch.rand(rows, cols) < 0.5
        scale = 1 / factor.diagonal()

        def sweep():
            for j in range(cols):
                if prune and j % of == 0:
                    scores = (weights[:, j : j + of] * scale[j : j + of]).abs()
                    drop[:, j : j + of] = False
                    drop[:, j : j + of].scatter_(1, torch.topk(scores, prune, dim=1, largest=False).indices, True)
                error = weights[:, j] * drop[:, j] / factor[j, j]
                weights[:, j:].addmm_(error.unsqueeze(1), factor[j, j:].unsqueeze(0), alpha=-1)
                errors[:, j] = -error

        return sweep, size(weights, weights, errors, factor)

    return {"torch loop": loop} if device != "cpu" else {}


@twin(r"inverse_cholesky/(\d+)")
def inverse_cholesky(device, cols):
    import torch

    def factors():
        x = normal(2 * cols, cols)
        gram = x.T @ x
        gram.diagonal().add_(0.01 * gram.diagonal().mean())
        return (
            lambda: torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True),
            2 * size(gram),
        )

    return {"torch cholesky": factors} if device != "cpu" else {}


@twin(r"gemm/(\d+)x(\d+)x(\d+)( transposed)?( bias)?")
def gemm(device, m, k, n, transposed, biased):
    import torch

    def mm():
        a, b = normal(m, k), normal(n, k).T if transposed else normal(k, n)
        bias, c = normal(n), torch.empty(m, n)
        if m == 1:
            row, out = a[0], c[0]
            return lambda: torch.mv(b.T, row, out=out), size(a, b, c)
        if biased:
            return lambda: torch.addmm(bias, a, b, out=c), size(a, b, c)
        return lambda: torch.mm(a, b, out=c), size(a, b, c)

    return {"torch mm, addmm, mv": mm}


@twin(r"cast/(f32|bf16) to (f32|bf16) (\d+)x(\d+)")
def cast(device, source, target, rows, cols):
    import torch

    types = {"f32": torch.float32, "bf16": torch.bfloat16}

    def copy():
        x, out = normal(rows, cols).to(types[source]), torch.empty(rows, cols, dtype=types[target])
        return lambda: out.copy_(x), size(x, out)

    return {"torch copy_": copy}


@twin(r"activate/GELU (\d+)x(\d+)")
def gelu(device, rows, cols):
    import torch.nn.functional as functional

    def made(call):
        def make():
            x = normal(rows, cols)
            return lambda: call(x), 2 * size(x)

        return make

    peers = {"torch gelu": functional.gelu} | compiled(device, (rows, cols), (16384, 1536), functional.gelu)
    return {name: made(call) for name, call in peers.items()}


@twin(r"activate/SILU (\d+)x(\d+) gated")
def silu(device, rows, cols):
    import torch.nn.functional as functional

    def made(call):
        def make():
            x, up = normal(rows, cols), normal(rows, cols)
            return lambda: call(x, up), 3 * size(x)

        return make

    def gated(x, up):
        return functional.silu(x) * up

    peers = {"torch silu, mul_": lambda x, up: functional.silu(x).mul_(up)}
    return {name: made(call) for name, call in (peers | compiled(device, (rows, cols), (2048, 11008), gated)).items()}


@twin(r"activate/RELU (\d+)x(\d+)")
def relu(device, rows, cols):
    import torch

    def clamp():
        x, out = normal(rows, cols), torch.empty(rows, cols)
        return lambda: torch.clamp(x, min=0, out=out), size(x, out)

    return {"torch clamp": clamp}


@twin(r"embedding/(\d+) tokens of (384)")
def embedding(device, tokens, width):
    import torch

    def index_select():
        table, ids = normal(30522, width), torch.randint(30522, (tokens,))
        out = torch.empty(tokens, width)
        return lambda: torch.index_select(table, 0, ids, out=out), size(table, out)

    return {"torch index_select": index_select}


@twin(r"rotary/(\d+) tokens, (\d+) heads of (\d+)(?: .*)?")
def rotary(device, tokens, heads, width):
    import torch

    half = width // 2

    def expression(x, cosine, sine):
        return x * cosine + torch.cat((-x[..., half:], x[..., :half]), -1) * sine

    def made(call):
        def make():
            x = normal(tokens, heads, width)
            angles = torch.rand(tokens, 1, half)
            cosine, sine = torch.cat((angles.cos(),) * 2, -1), torch.cat((angles.sin(),) * 2, -1)
            return lambda: call(x, cosine, sine), 2 * size(x)

        return make

    peers = {"torch expression": expression} | compiled(device, (tokens, heads, width), (2048, 32, 128), expression)
    return {name: made(call) for name, call in peers.items()}


def session(node, inputs, shape):
    """ONNX Runtime's session of one node over fp32, and its bytes."""
    import numpy
    import onnxruntime
    import torch
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = run.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    result = numpy.empty(shape, numpy.float32)
    binding.bind_output("y", "cpu", 0, numpy.float32, shape, result.ctypes.data)
    keep = (inputs, result)
    return lambda: (run.run_with_iobinding(binding), keep), sum(a.nbytes for a in inputs.values()) + result.nbytes


def onnx_twin(pattern):
    """As twin, of one maker, for processors only."""

    def register(make):
        TWINS.append((re.compile(pattern), lambda device, *args: {"ONNX Runtime": lambda: make(*args)} if device == "cpu" else {}))
        return make

    return register


@onnx_twin(r"layer_norm/(\d+)x(\d+)")
def onnx_layer_norm(rows, cols):
    from onnx import helper

    inputs = {"x": normal(rows, cols).numpy(), "g": normal(cols).numpy(), "b": normal(cols).numpy()}
    return session(helper.make_node("LayerNormalization", list(inputs), ["y"], epsilon=1e-5), inputs, (rows, cols))


@onnx_twin(r"gemm/(\d+)x(\d+)x(\d+)( transposed)?( bias)?")
def onnx_gemm(m, k, n, transposed, biased):
    from onnx import helper

    inputs = {"a": normal(m, k).numpy(), "b": (normal(n, k) if transposed else normal(k, n)).numpy()}
    if biased:
        inputs["c"] = normal(n).numpy()
    return session(helper.make_node("Gemm", list(inputs), ["y"], transB=int(bool(transposed))), inputs, (m, n))


@onnx_twin(r"activate/GELU (\d+)x(\d+)")
def onnx_gelu(rows, cols):
    from onnx import helper

    return session(helper.make_node("Gelu", ["x"], ["y"]), {"x": normal(rows, cols).numpy()}, (rows, cols))


def waiting(device):
    """What returns when the device has done all that it was given."""
    import torch

    return (lambda: None) if device == "cpu" else torch.cuda.synchronize


def captured(calls):
    """One call that replays all of these on a GPU, without Python between them; None where they cannot be captured."""
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            # What they return must live as long as they run.
            results = [call() for call in calls]
    except Exception as error:
        print(f"  not captured: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
        torch.cuda.synchronize()
        return None
    return lambda: (graph.replay(), results)


def mean_time(calls, device, capture=True):
    wait, seconds = waiting(device), SECONDS["cpu" if device == "cpu" else "cuda"]
    calls[-1]()  # warm up
    wait()
    start = time.perf_counter()
    calls[-1]()
    wait()
    once = time.perf_counter() - start
    if once < seconds:
        for call in calls:
            call()
    wait()
    replay = captured(calls) if capture and device != "cpu" and once < CAPTURED_SECONDS else None
    if replay is not None:
        replay()
        wait()
        replays = max(3, min(MAX_CALLS, int(seconds / once / len(calls))))
        start = time.perf_counter()
        for _ in range(replays):
            replay()
        wait()
        return (time.perf_counter() - start) / replays / len(calls)
    count, start = 0, time.perf_counter()
    while count < 1 or (time.perf_counter() - start < seconds and count < MAX_CALLS):
        calls[count % len(calls)]()
        count += 1
    wait()
    return (time.perf_counter() - start) / count


def measure(threads, out, device, names):
    import torch

    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.manual_seed(1)
    times, failed = {}, {}
    # A selection's twins, and those of the selection with the weights written.
    names = [one for name in names for one in dict.fromkeys((name, name.replace("score_select", "write_back", 1)))]
    todo = [(name, peer, make) for name in names for peer, make in twins(name, device)]
    # Compiling takes seconds each: last, for the time may be over before.
    todo.sort(key=lambda one: one[1] == "torch.compile")
    with torch.inference_mode():
        for case, peer, make in todo:
            try:
                call, bytes_of_one = make()
                calls = [call] + [make()[0] for _ in range(max(0, -(-ROTATED_BYTES // bytes_of_one) - 1))]
                time_of_one = mean_time(calls, device)
            except Exception as error:
                if device == "cpu":
                    raise
                failed.setdefault(case, {})[peer] = (str(error).splitlines() or [repr(error)])[0][:200]
                print(f"{case}  {peer}  failed: {error}", file=sys.stderr, flush=True)
            else:
                times.setdefault(case, {})[peer] = time_of_one
                print(f"{case}  {peer}  {1e3 * time_of_one:.3f} ms", file=sys.stderr, flush=True)
            call = calls = None
            # After every case, so that a run that is stopped leaves what it has.
            record = {"torch": torch.__version__, "threads": threads, "times": times} | ({"failed": failed} if failed else {})
            pending = out.with_name(out.name + ".partial")
            pending.write_text(json.dumps(record, indent=1))
            pending.replace(out)


def ceilings(device):
    """Prints the ceilings of a GPU: bytes read and written count, a multiply-add is two operations."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU: " + ("it was built without CUDA" if torch.version.cuda is None else "no device"))
    size = 1 << 30
    found = []

    def ceiling(name, unit, how, work, make, capture=True):
        try:
            value = work / mean_time([make()], device, capture)
            found.append({"name": name, "unit": unit, "value": value, "how": how})
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
    ceiling("PyTorch launches", "a second", "add_ on one element, many in flight", 1, launch, capture=False)
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
    if sys.argv[1:2] == ["time"] and len(sys.argv) == 6:
        names = pathlib.Path(sys.argv[5]).read_text().splitlines()
        measure(int(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4], names)
    elif sys.argv[1:2] == ["ceilings"] and len(sys.argv) == 3:
        ceilings(sys.argv[2])
    elif sys.argv[1:2] == ["report"] and len(sys.argv) == 5:
        report(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(__doc__)


main()
