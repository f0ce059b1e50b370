"""Golden numbers of the classical models: `python classical.py` writes classical.json.

Packages: scikit-learn 1.9.1, sklearn-crfsuite 0.5.0 (python-crfsuite 0.9.12).
"""

import json
from pathlib import Path

from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

WORDS = dict(ngram_range=(1, 2), token_pattern=r"\b\w+\b")
TRAINING = [
    ("The plot is thin and the acting is worse", 0),
    ("I want my two hours back, a dull film", 0),
    ("Dull, dull, dull, and far too long", 0),
    ("The worst film of the year", 0),
    ("A film that is neither good nor bad", 1),
    ("It is fine, and then it is over", 1),
    ("The acting is good but the plot is not", 1),
    ("Good for an evening, not for two", 1),
    ("A good plot, great acting, a great film", 2),
    ("I loved it, the best film of the year", 2),
    ("Great, great, great, and never too long", 2),
    ("The acting is the best I have seen", 2),
    ("Two hours of great fun", 2),
]
OTHERS = ["a great plot and a dull end", "the film is good", "worst acting", "nothing of this is known", ""]


def classifiers():
    texts, labels = [list(column) for column in zip(*TRAINING)]
    out = dict(texts=texts, labels=labels, others=OTHERS)
    tfidf = TfidfVectorizer(min_df=2, **WORDS).fit(texts)
    out["ngrams"] = tfidf.get_feature_names_out().tolist()
    out["tfidf"] = tfidf.transform(OTHERS).toarray().tolist()

    counts = CountVectorizer(**WORDS).fit(texts)
    for name, alpha in [("laplace", 1.0), ("tenth", 0.1)]:
        bayes = MultinomialNB(alpha=alpha).fit(counts.transform(texts), labels)
        out[f"naive_bayes_{name}"] = bayes.predict_log_proba(counts.transform(OTHERS)).tolist()

    rows = tfidf.transform(texts)
    exact = dict(tol=1e-10, max_iter=1_000_000, dual=True, random_state=0)
    for c in (1.0, 10.0):
        machine = LinearSVC(C=c, **exact).fit(rows, labels)
        out[f"svm_{c:g}"] = machine.decision_function(tfidf.transform(OTHERS)).tolist()
    machine = LinearSVC(**exact).fit(rows, [label > 0 for label in labels])
    out["svm_two_classes"] = machine.decision_function(tfidf.transform(OTHERS)).tolist()
    return out


if __name__ == "__main__":
    numbers = dict(classifiers=classifiers())
    Path(__file__).with_suffix(".json").write_text(json.dumps(numbers, ensure_ascii=False, indent=1) + "\n")
