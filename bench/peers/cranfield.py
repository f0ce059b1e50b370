"""The Cranfield collection: `pairs` for `hearth finetune embed`, and `score` of vectors by its judgements.

`pairs` writes rows of query, positive and negatives to learn from: two thirds of the queries with each abstract that is
judged relevant, and abstracts of other queries' judgements of 'not relevant' as negatives; and `docs.txt`, `queries.txt`,
texts a line, for `hearth embed`. `score` takes both sets of vectors and prints nDCG@10, recall@10 and MRR over the
third of the queries that nothing was learnt from, among all abstracts.
"""

import argparse
import json
import math
import re
import xml.etree.ElementTree as tree
from pathlib import Path

HELD_OUT = 3


def read(folder: Path) -> tuple[dict[str, str], dict[int, str], dict[int, dict[str, int]]]:
    """Abstracts by number, queries by their place in the file (which is what the judgements name), judgements."""
    text = folder.joinpath("cran.all.1400.xml").read_text(encoding="utf-8")
    docs = {}
    for doc in re.findall(r"<doc>(.*?)</doc>", text, re.DOTALL):
        number = re.search(r"<docno>\s*(\d+)", doc)[1]
        body = re.search(r"<text>(.*?)</text>", doc, re.DOTALL)[1]
        docs[number] = " ".join(body.split())
    topics = tree.parse(folder / "cran.qry.xml").getroot().iter("top")
    queries = {place: " ".join(topic.findtext("title").split()) for place, topic in enumerate(topics, 1)}
    judged: dict[int, dict[str, int]] = {}
    for line in folder.joinpath("cranqrel.trec.txt").read_text().splitlines():
        query, _, doc, grade = line.split()
        judged.setdefault(int(query), {})[doc] = int(grade)
    return docs, queries, judged


def pairs(args: argparse.Namespace) -> None:
    """Writes what is learnt from, and what is embedded."""
    docs, queries, judged = read(args.folder)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, query in queries.items():
        if place % HELD_OUT == 0:
            continue
        good = [doc for doc, grade in judged.get(place, {}).items() if grade > 0 and docs.get(doc)]
        bad = [docs[doc] for doc, grade in judged.get(place, {}).items() if grade <= 0 and docs.get(doc)]
        rows += [{"query": query, "positive": docs[doc], "negatives": bad[:1]} for doc in good]
    args.out.joinpath("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    args.out.joinpath("docs.txt").write_text("".join((text or "-") + "\n" for text in docs.values()))
    args.out.joinpath("queries.txt").write_text("".join(query + "\n" for query in queries.values()))
    print(f"{len(rows)} pairs, {len(docs)} abstracts, {len(queries)} queries")


def vectors(path: Path) -> list[list[float]]:
    """A vector a line."""
    return [[float(x) for x in line.replace(",", " ").strip("[] \n").split()] for line in path.open()]


def score(args: argparse.Namespace) -> None:
    """Measures a search by vectors."""
    docs, queries, judged = read(args.folder)
    names = list(docs)
    texts, asked = vectors(args.docs), vectors(args.queries)
    totals = {"ndcg@10": 0.0, "recall@10": 0.0, "mrr": 0.0}
    count = 0
    for place, query in zip(queries, asked):
        grades = {doc: max(grade, 0) for doc, grade in judged.get(place, {}).items()}
        relevant = sum(grade > 0 for grade in grades.values())
        if place % HELD_OUT != 0 or relevant == 0:
            continue
        count += 1
        near = sorted(range(len(texts)), key=lambda i: -sum(a * b for a, b in zip(query, texts[i])))
        found = [grades.get(names[i], 0) for i in near]
        gain = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(found[:10]))
        best = sorted(grades.values(), reverse=True)[:10]
        totals["ndcg@10"] += gain / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
        totals["recall@10"] += sum(grade > 0 for grade in found[:10]) / relevant
        totals["mrr"] += next((1 / rank for rank, grade in enumerate(found, 1) if grade > 0), 0.0)
    print(json.dumps({"queries": count} | {name: total / count for name, total in totals.items()}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of cran.all.1400.xml, cran.qry.xml and cranqrel.trec.txt")
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("pairs")
    making.add_argument("--out", type=Path, required=True)
    making.set_defaults(run=pairs)
    scoring = commands.add_parser("score")
    scoring.add_argument("--docs", type=Path, required=True)
    scoring.add_argument("--queries", type=Path, required=True)
    scoring.set_defaults(run=score)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
