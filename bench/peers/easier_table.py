"""Prints what bench/peers/easier.sh left in a folder, as Markdown: test accuracy in percent round by round, and after one round
that took the activation of lowest entropy, of highest, or any."""

import json
import pathlib
import statistics
import sys

ORDERS = ["lowest", "highest", "random-1", "random-2", "random-3"]


def percent(one_round):
    return f"{100 * one_round['test']:.2f}"


def taken(rounds):
    names = {measured["name"]: measured["entropy"] for measured in rounds[1]["entropies"]}
    name = rounds[1]["linearised"][0]
    return f"{percent(rounds[1])} ({name.rsplit('.', 1)[0]}, {names[name]:.3f})"


def main():
    folder = pathlib.Path(sys.argv[1])
    networks = {}
    for path in sorted(folder.glob("*-*/rounds.json")):
        net, seed, order = next(
            path.parent.name.removesuffix(f"-{order}").rsplit("-", 1) + [order]
            for order in ORDERS
            if path.parent.name.endswith(f"-{order}")
        )
        report = json.loads((path.parent / "report.json").read_text())
        networks.setdefault((net, seed), {})[order] = json.loads(path.read_text())["rounds"], report["seconds"]
    print("| network | seed | activations | dense | after each round | lost | seconds |")
    print("|---|---|---|---|---|---|---|")
    for (net, seed), orders in networks.items():
        rounds, seconds = orders["lowest"]
        lost = 100 * (rounds[0]["test"] - rounds[-1]["test"])
        print(
            f"| {net} | {seed} | {rounds[0]['remaining']} -> {rounds[-1]['remaining']} | {percent(rounds[0])} "
            f"| {', '.join(map(percent, rounds[1:]))} | {lost:.2f} | {seconds:.0f} |"
        )
    print()
    print("| network | seed | lowest | highest | any | mean of any |")
    print("|---|---|---|---|---|---|")
    for (net, seed), orders in networks.items():
        draws = [orders[order][0] for order in ORDERS if order.startswith("random") and order in orders]
        if "highest" in orders and draws:
            mean = statistics.mean(100 * rounds[1]["test"] for rounds in draws)
            print(
                f"| {net} | {seed} | {taken(orders['lowest'][0])} | {taken(orders['highest'][0])} "
                f"| {', '.join(map(taken, draws))} | {mean:.2f} |"
            )


if __name__ == "__main__":
    main()
