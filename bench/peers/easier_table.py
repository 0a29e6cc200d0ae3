"""Prints what bench/peers/easier.sh left in a folder: test accuracy after every round, for every order, as a Markdown table."""

import json
import pathlib
import re
import sys


def main():
    folder = pathlib.Path(sys.argv[1])
    print("| network | seed | activations | order | dense | after each round | lost | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*-*/rounds.json")):
        net, seed, order = re.fullmatch(r"(.+)-(\d+)-((?:lowest|highest|random).*)", path.parent.name).groups()
        rounds = json.loads(path.read_text())["rounds"]
        seconds = json.loads((path.parent / "report.json").read_text())["seconds"]
        tests = [f"{100 * r['test']:.2f}" for r in rounds]
        lost = 100 * (rounds[0]["test"] - rounds[-1]["test"])
        print(
            f"| {net} | {seed} | {rounds[0]['remaining']} -> {rounds[-1]['remaining']} | {order} | {tests[0]} "
            f"| {', '.join(tests[1:])} | {lost:.2f} | {seconds:.0f} |"
        )


if __name__ == "__main__":
    main()
