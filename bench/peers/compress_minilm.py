"""The PyTorch side of compress_minilm.sh: STADE on all-MiniLM-L6-v2 as a competent user of transformers writes it.

Loaded by AutoModel from a folder with model.safetensors, scaled dot-product attention, inference mode, batches of
4096 tokens, as many as ours, one forward pass. A hook on every linear layer merges count, mean and M2 of its input by Chan,
Golub and LeVeque's update, in fp32 within a batch and fp64 between batches (as ours; fp32 throughout is no faster); query,
key and value share theirs, as ours do, because they read the same input. var_mean along the tokens is slow on CPUs (see
ops.py), so the hook takes two plain passes: the mean, then the squares of what is left. Scores |w| * std, of
every row what does not exceed kthvalue, which is faster than the stable sort of the published code and than topk; the bias
takes up the pruned weights' mean, save_pretrained writes safetensors.

Pruned are the 36 linear layers of the encoder; the pooler, which reads 64 tokens only, is left out on both sides.
Included on both sides: loading the model, tokenizing the text, calibration, pruning, writing the model. Only on our side: the
output error of every layer, weight and quality figures of the report, syncing the files to disk.

  compress_minilm.py make MODEL.onnx TOKENIZER.json FOLDER     the model as a Hugging Face folder, once, not timed
  compress_minilm.py compress FOLDER TEXT OUT THREADS LENGTH TIMES
                       prints the seconds after the imports of the first and of the last time, into folders OUT0, OUT1, ...
  compress_minilm.py check MODEL.onnx OUT OUR.onnx             prints how many of the masks' bits agree
  compress_minilm.py report FOLDER RESULTS COMMIT LENGTH...    medians, as compress_minilm.json and .md in RESULTS
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

WINDOWS, TOKENS = 64, 4096


def onnx_weights(path):
    """Tensors under the names of transformers; what the export transposed stands outputs x inputs again."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    named = {name: array for name, array in tensors.items() if "MatMul_" not in name and "position_ids" not in name}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            named[name + ".weight"] = tensors[node.input[1]].T
    return named


def make(model, tokenizer, folder):
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    bert = BertModel(config)
    state = {name: torch.from_numpy(array.copy()) for name, array in onnx_weights(model).items()}
    bert.load_state_dict(state, strict=True)
    bert.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer)).save_pretrained(folder)


class Moments:
    """Of the columns of an input: count, mean and M2."""

    def __init__(self):
        self.count, self.mean, self.m2 = 0, 0, 0

    def add(self, x):
        mean = x.mean(0)
        m2 = (x - mean).square_().sum(0).double()
        mean, count = mean.double(), x.shape[0]
        difference, total = mean - self.mean, self.count + count
        self.m2 = self.m2 + m2 + difference * difference * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total


def compress(folder, text, out, threads, length, times):
    import torch
    from transformers import AutoModel, AutoTokenizer  # noqa: F401, loaded here, before the clock runs

    torch.set_num_threads(int(threads))
    seconds = []
    for i in range(int(times)):
        start = time.perf_counter()
        compress_once(folder, text, f"{out}{i}", int(length))
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"inside": seconds[0], "again": seconds[-1]}))


def compress_once(folder, text, out, length):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    ids = torch.tensor(tokenizer(pathlib.Path(text).read_text(), verbose=False)["input_ids"])
    windows = ids[: WINDOWS * length].view(WINDOWS, length)

    moments, hooks = {}, []

    def observed(layer, inputs):
        x = inputs[0]
        moments[layer].add(x.reshape(-1, x.shape[-1]))

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    layers = {name: layer for name, layer in layers.items() if name.startswith("encoder.")}
    for name, layer in layers.items():
        if not name.endswith((".key", ".value")):
            moments[layer] = Moments()
            hooks.append(layer.register_forward_pre_hook(observed))
    with torch.inference_mode():
        for batch in windows.split(TOKENS // length):
            model(input_ids=batch)
    for hook in hooks:
        hook.remove()

    with torch.no_grad():
        for name, layer in layers.items():
            found = moments[layers[re.sub(r"\.(key|value)$", ".query", name)]]
            std, mean = (found.m2 / (found.count - 1)).sqrt().float(), found.mean.float()
            scores = layer.weight.abs() * std
            mask = scores <= torch.kthvalue(scores, scores.shape[1] // 2, dim=1, keepdim=True).values
            pruned = layer.weight * mask
            layer.bias += pruned @ mean
            layer.weight -= pruned
    model.save_pretrained(out)


def check(model, theirs, ours):
    import numpy
    from safetensors.numpy import load_file

    dense, mine = onnx_weights(model), onnx_weights(ours)
    other = load_file(pathlib.Path(theirs) / "model.safetensors")
    agree = total = biases = shifted = 0
    for name in dense:
        if not name.startswith("encoder.") or not name.endswith(".weight") or dense[name].ndim != 2:
            continue
        total += dense[name].size
        agree += int(((mine[name] == 0) == (other[name] == 0)).sum())
        bias = name.removesuffix("weight") + "bias"
        biases = max(biases, float(numpy.abs(mine[bias] - other[bias]).max()))
        shifted = max(shifted, float(numpy.abs(dense[bias] - other[bias]).max()))
    print(json.dumps({"bits": total, "agree": agree / total, "largest_bias_difference": biases, "largest_shift": shifted}))


def processor():
    names = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0].strip() if names else platform.machine()


def measured(folder, length):
    """Medians of one length, the ratio of each round's pair, and how the masks agree."""
    lines = (folder / f"rounds.{length}").read_text().splitlines()
    rounds = [json.loads(line) for line in lines]
    kinds = ("process", "inside", "again")
    seconds = {side: {kind: [one[side][kind] for one in rounds] for kind in kinds} for side in ("sentei", "torch")}
    return {
        "windows": WINDOWS,
        "length": length,
        "median_seconds": {
            side: {kind: statistics.median(values) for kind, values in all_kinds.items()}
            for side, all_kinds in seconds.items()
        },
        "ratio": {kind: statistics.median(one["torch"][kind] / one["sentei"][kind] for one in rounds) for kind in kinds},
        "masks": json.loads((folder / f"check.{length}").read_text()),
        "all_seconds": seconds,
    }


def report(folder, results, commit, *lengths):
    cases = [measured(pathlib.Path(folder), int(length)) for length in lengths]
    record = {
        "case": {"model": "all-MiniLM-L6-v2", "method": "stade, bias update, 50 % a row"},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load_average": os.getloadavg()[0]},
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "command": "bench/peers/compress_minilm.sh",
        "cases": cases,
    }
    results = pathlib.Path(results)
    results.mkdir(parents=True, exist_ok=True)
    (results / "compress_minilm.json").write_text(json.dumps(record, indent=1) + "\n")
    text = [
        f"# compress: all-MiniLM-L6-v2, STADE with bias update, {WINDOWS} windows",
        "",
        "| what | tokens a window | Sentei s | PyTorch s | ratio of pairs |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {label} | {case['length']} | {case['median_seconds']['sentei'][kind]:.2f}"
            f" | {case['median_seconds']['torch'][kind]:.2f} | {case['ratio'][kind]:.2f} |"
            for kind, label in (
                ("process", "whole process: start, load, calibrate, prune, save"),
                ("inside", "the same after JVM start, or after the imports"),
                ("again", "the sixth in one process, as a service does it"),
            )
            for case in cases
        ),
        "",
        *(
            f"{case['length']} tokens: {100 * case['masks']['agree']:.4f} % of the masks' {case['masks']['bits']} bits agree;"
            f" largest difference of a new bias {case['masks']['largest_bias_difference']:.1e}, of a shift up to"
            f" {case['masks']['largest_shift']:.2g}.\n"
            for case in cases
        ),
        f"{processor()}, {os.cpu_count()} cores, load average {record['machine']['load_average']:.1f}; medians of"
        f" {len(cases[0]['all_seconds']['torch']['process'])} interleaved rounds; {record['date']}, commit {commit};"
        f" `{record['command']}`.",
    ]
    (results / "compress_minilm.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def main():
    commands = {"make": make, "compress": compress, "check": check, "report": report}
    if len(sys.argv) < 5 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


main()
