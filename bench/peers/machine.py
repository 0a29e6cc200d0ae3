"""Prints the folder name of this machine's results, for example amd-epyc-2core."""

import os
import pathlib
import platform
import re

names = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
name = names[0] if names else platform.machine()
print(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + f"-{os.cpu_count()}core")
