"""The PyTorch side of score_select.sh, on one thread.

Timed for the stable sort: torch.sort(scores, dim=-1, stable=True) alone, on scores that are ready; a user of Wanda or STADE
would also pay for computing them and for scattering the indices into a mask. Timed for kthvalue: torch.kthvalue alone; a
user would also pay for the scores and for the comparison, and ties would not be broken. Our side includes all of that, so
the ratios are lower bounds.

  score_select.py make FOLDER ROWS COLS       random weights and scales (normal; uniform 0.1 to 1.1), seed 1
  score_select.py time FOLDER ROWS COLS PRUNE REPETITIONS
  score_select.py check FOLDER ROWS COLS PRUNE   fails unless mask.i32 is the stable sort's mask, bit for bit
  score_select.py report FOLDER ROWS COLS PRUNE RESULTS COMMIT   medians of all rounds, as JSON and Markdown
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

import numpy
import torch


def scores(folder, rows, cols):
    weights = torch.from_numpy(numpy.fromfile(folder / "weights.f32", dtype=numpy.float32)).view(rows, cols)
    scale = torch.from_numpy(numpy.fromfile(folder / "scale.f32", dtype=numpy.float32))
    return weights.abs() * scale


def make(folder, rows, cols):
    generator = torch.Generator().manual_seed(1)
    torch.randn(rows, cols, generator=generator).numpy().tofile(folder / "weights.f32")
    (torch.rand(cols, generator=generator) + 0.1).numpy().tofile(folder / "scale.f32")


def timed(call, repetitions):
    milliseconds = []
    for _ in range(repetitions):
        start = time.perf_counter_ns()
        call()
        milliseconds.append((time.perf_counter_ns() - start) / 1e6)
    return milliseconds


def measure(folder, rows, cols, prune, repetitions):
    torch.set_num_threads(1)
    matrix = scores(folder, rows, cols)
    print(json.dumps({
        "sort": timed(lambda: torch.sort(matrix, dim=-1, stable=True), repetitions),
        "kthvalue": timed(lambda: torch.kthvalue(matrix, prune, dim=-1), repetitions),
    }))


def check(folder, rows, cols, prune):
    indices = torch.sort(scores(folder, rows, cols), dim=-1, stable=True).indices[:, :prune]
    expected = torch.zeros(rows, cols, dtype=torch.bool).scatter_(1, indices, True).numpy()
    words = numpy.fromfile(folder / "mask.i32", dtype=numpy.uint8).reshape(rows, -1)
    actual = numpy.unpackbits(words, axis=1, bitorder="little")[:, :cols].astype(bool)
    wrong = int((expected != actual).sum())
    if wrong != 0:
        sys.exit(f"{wrong} bits of our mask differ from the stable sort's")


def processor():
    names = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0].strip() if names else platform.machine()


def report(folder, rows, cols, prune, results, commit):
    ours = [json.loads(line) for line in (folder / "sentei.jsonl").read_text().splitlines()]
    theirs = [json.loads(line) for line in (folder / "torch.jsonl").read_text().splitlines()]
    cores = os.cpu_count()
    sentei = [value for round in ours for value in round["milliseconds"]]
    peers = {name: [value for round in theirs for value in round[name]] for name in ("sort", "kthvalue")}
    median = statistics.median(sentei)
    record = {
        "case": {"rows": rows, "cols": cols, "prune": prune, "dtype": "fp32", "threads": 1},
        "machine": {"processor": processor(), "cores": cores, "load_average": os.getloadavg()[0]},
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "command": "bench/peers/score_select.sh",
        "rounds": len(ours),
        "isa": ours[0]["isa"],
        "torch": torch.__version__,
        "median_ms": {"sentei": median, **{name: statistics.median(values) for name, values in peers.items()}},
        "ratio": {name: statistics.median(values) / median for name, values in peers.items()},
        "all_ms": {"sentei": sentei, **peers},
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "score_select.json").write_text(json.dumps(record, indent=1) + "\n")
    described = {
        "sentei": f"Sentei cpu, {record['isa']}: scores, selection and bit mask",
        "sort": "torch.sort, stable, scores ready",
        "kthvalue": "torch.kthvalue, scores ready",
    }
    lines = [
        f"# Row selection: {prune} of {cols} columns, {rows} rows, fp32, one thread",
        "",
        "| what | median ms | fastest ms | ratio of medians | of fastest |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {text} | {record['median_ms'][name]:.1f} | {min(record['all_ms'][name]):.1f}"
            f" | {record['median_ms'][name] / median:.1f} | {min(record['all_ms'][name]) / min(sentei):.1f} |"
            for name, text in described.items()
        ),
        "",
        f"The masks agree bit for bit. {processor()}, {cores} cores, load average {os.getloadavg()[0]:.1f};"
        f" PyTorch {torch.__version__}; {len(ours)} interleaved rounds; {record['date']}, commit {commit};"
        " `bench/peers/score_select.sh`.",
    ]
    (results / "score_select.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main():
    command, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    rows, cols = int(sys.argv[3]), int(sys.argv[4])
    if command == "make":
        make(folder, rows, cols)
    elif command == "time":
        measure(folder, rows, cols, int(sys.argv[5]), int(sys.argv[6]))
    elif command == "check":
        check(folder, rows, cols, int(sys.argv[5]))
    elif command == "report":
        report(folder, rows, cols, int(sys.argv[5]), pathlib.Path(sys.argv[6]), sys.argv[7])
    else:
        sys.exit(__doc__)


main()
