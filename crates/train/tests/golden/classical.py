"""Golden numbers of the classical models: `python classical.py` writes classical.json.

Packages: scikit-learn 1.9.1, sklearn-crfsuite 0.5.0 (python-crfsuite 0.9.12).
"""

import json
from pathlib import Path

import sklearn_crfsuite
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


# Tokens with their tags: 0 for none, 1 and 2 for the first and the further tokens of a name.
SENTENCES = [
    "Anna/1 Schmidt/2 met/0 Bob/1 in/0 Paris/1",
    "in/0 May/0 Bob/1 left/0 New/1 York/2 City/2",
    "the/0 city/0 met/0 the/0 mayor/0",
    "May/1 lives/0 in/0 the/0 city/0 of/0 York/1",
    "Paris/1",
    "Bob/1 May/2 left/0 the/0 New/1 Paris/2 Cafe/2 in/0 May/0",
]
STRANGERS = ["Bob met Carla in New Paris", "the May of York", "mayor"]


def attributes(words):
    def of(i):
        near = lambda j: words[j].lower() if 0 <= j < len(words) else "<>"
        return ["bias", "w=" + words[i], "cap=" + str(words[i][0].isupper()), "suffix=" + words[i][-2:],
                "before=" + near(i - 1), "after=" + near(i + 1)]

    return [of(i) for i in range(len(words))]


def crfs():
    pairs = [[token.split("/") for token in sentence.split()] for sentence in SENTENCES]
    training = [attributes([word for word, _ in sentence]) for sentence in pairs]
    tags = [[tag for _, tag in sentence] for sentence in pairs]
    strangers = [attributes(sentence.split()) for sentence in STRANGERS]
    out = dict(training=training, tags=[[int(tag) for tag in row] for row in tags], strangers=strangers, fits=[])
    for c1, c2, every in [(0.0, 0.5, True), (0.0, 0.05, False), (0.2, 0.1, True)]:
        crf = sklearn_crfsuite.CRF(
            c1=c1, c2=c2, all_possible_transitions=every, max_iterations=10000, epsilon=1e-10, delta=1e-13, period=50
        )
        crf.fit(training, tags)
        out["fits"].append(dict(
            c1=c1, c2=c2, all_transitions=every,
            objective=crf.training_log_.last_iteration["loss"],
            weights=[(name, int(tag), weight) for (name, tag), weight in sorted(crf.state_features_.items())],
            transitions=[(int(a), int(b), weight) for (a, b), weight in sorted(crf.transition_features_.items())],
            tags=[[int(tag) for tag in row] for row in crf.predict(strangers)],
            marginals=[[[token[tag] for tag in "012"] for token in row] for row in crf.predict_marginals(strangers)],
        ))
    return out


if __name__ == "__main__":
    numbers = dict(classifiers=classifiers(), crfs=crfs())
    Path(__file__).with_suffix(".json").write_text(json.dumps(numbers, ensure_ascii=False, separators=(",", ":")) + "\n")
