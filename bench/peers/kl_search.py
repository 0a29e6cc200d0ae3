"""Times onnxruntime's search for the least divergence on the histograms of KlSearch.java: see kl_search.sh."""

import pathlib
import sys
import time

import numpy
from onnxruntime.quantization.calibrate import HistogramCollector

for bins in (1024, 2048, 4096):
    counts = numpy.array(pathlib.Path(sys.argv[1], f"histogram-{bins}.txt").read_text().split(), numpy.int64)
    both = numpy.concatenate([counts[::-1], counts])
    edges = numpy.linspace(-bins, bins, len(both) + 1, dtype=numpy.float32)
    collector = HistogramCollector("entropy", True, 2 * bins, 128, 99.99, "same")
    start = time.perf_counter()
    threshold = collector.get_entropy_threshold((both, edges, -bins, bins, bins), 128)
    print(f"onnxruntime: {bins} bins on a side, {1e3 * (time.perf_counter() - start):.0f} ms, {threshold[:2]}", flush=True)
