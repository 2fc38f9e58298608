"""Makes test/fixtures/lm-eval/parts.json: values of CPython 3.11, Jinja and lm-evaluation-harness 0.4.13 that the
evaluation must reproduce. Made with lm_eval==0.4.13, sacrebleu==2.6.0, rouge-score==0.1.2, scikit-learn==1.9.1.

    python scripts/reference/lm-eval-parts.py
"""

import ast
import json
import os
import random
import re
from pathlib import Path

os.environ["DISABLE_MULTIPROC"] = "1"

from lm_eval.api import metrics
from lm_eval.utils import apply_template
from rouge_score.rouge_scorer import RougeScorer

OUT = Path(__file__).parents[2] / "test/fixtures/lm-eval/parts.json"

SEEDS = [0, 1, 7, 99, 1234, 2**31, 2**40 + 5]


def random_cases():
    cases = []
    for seed in SEEDS:
        r = random.Random(seed)
        numbers = [r.random() for _ in range(3)]
        many = [r.random() for _ in range(700)][-2:]
        samples = [r.sample(range(n), k) for n, k in [(3, 2), (21, 5), (22, 5), (30, 6), (85, 6), (86, 6), (1000, 20), (7, 7)]]
        cases.append({"seed": seed, "numbers": numbers + many, "samples": samples, "choices": r.choices(range(12), k=10)})
    return cases


DOC = {
    "text": " A b\u00e9c \U0001f600. ", "label": 1, "half": 0.5, "big": 1e20, "tiny": 0.00001, "none": None, "flag": True,
    "choices": {"text": ["it's", 'say "hi"', "both ' and \"", "line\nbreak", "\u200b\ttab"], "label": ["A", "B", "C", "D", "E"]},
    "list": [1, 2.5, None, True, "x"], "dict": {"a": 1, "b": ["c"]}, "empty": "", "answer": "work #### 1,234", "words": "one two  three",
    "rows": [{"q": "a", "n": 1}, {"q": "b", "n": 2}],
}

TEMPLATES = [
    "{{text}}", "{{text.strip()}}|", "{{ label }}{{half}}{{big}}{{tiny}}{{none}}{{flag}}", "{{choices.text}}", "{{choices}}",
    "{{list}} {{dict}}", "{{choices.label.index('C')}}", "{{['no', 'yes'][label]}}", "{{text|trim}}-", "{{text|length}} {{choices.text|length}}",
    "{{answer.split('#### ')[-1]}}", "{{answer.split('#### ')[-1].replace(',', '')}}", "{% for c in choices.text %}{{loop.index}}. {{c}}\n{% endfor %}",
    "{% if label == 1 %}one{% elif label == 2 %}two{% else %}many{% endif %}\n", "end\n", "a\n\n", "{%- if flag -%}  x  {%- endif -%}  y",
    "{{words.split()}} {{words.split(' ')}} {{words.split(' ', 1)}}", "{{words|replace('o', '0')}} {{words|upper}} {{words|capitalize}}",
    "{{choices.label|join(', ')}}", "{{rows|map(attribute='q')|join('+')}}", "{{label + 1}} {{7 / 2}} {{4 / 2}} {{7 // 2}} {{-7 // 2}} {{-7 % 3}} {{2 ** 3}}",
    "{{'a' in choices.label}} {{'A' in choices.label}} {{'b' in text}} {{1 in list}}", "{{text[1:4]}} {{words[::-1]}} {{words[-5:]}} {{choices.label[1:3]}}",
    "{{'x' ~ label ~ half}} {{'ab' * 2}} {{[1] + [2]}}", "{{empty or 'fallback'}} {{none or 0}} {{'a' and 'b'}} {{not empty}}",
    "{{missing is defined}} {{text is defined}} {{none is none}} {{label is number}} {{missing|default('d')}} {{empty|default('e', true)}}",
    "{{'q' if flag else 'r'}} {{1 == 1.0}} {{true == 1}} {{'1' == 1}} {{[1, 2] == [1, 2.0]}}", "{% set x = label * 10 %}{{x}} {{x|string|length}}",
    "{{choices.text[0]}} {{choices['text'][1]}} {{dict.b[0]}} {{dict.get('z', 'none')}}", "{% for k, v in dict.items() %}{{k}}={{v}};{% endfor %}",
    "{{words.find('two')}} {{words.count('e')}} {{words.startswith('one')}} {{words.endswith(('e', 'x'))}} {{'-'.join(choices.label)}}",
    "{{'%s'}} {# comment #}{{ '{}-{}'.format(1, 'b') }} {{'3'|int + 1}} {{'2.5'|float}} {{half|int}} {{'x'|int(7)}}",
    "{{words|regex_replace('t\\\\w+', 'T')}} {{words|regex_replace('(o)(n)', '\\\\2\\\\1')}}", "{{range(3)|list}} {% for i in range(1, 4) %}{{i}}{% endfor %}",
    "{{text.upper()}} {{text.lower()}} {{'hello wORLD'.capitalize()}} {{'hello wORLD'.title()}} {{'a.b.c'.rsplit('.', 1)}} {{'xxaxx'.strip('x')}}",
    "{% for r in rows if r.n > 1 %}{{r.q}}{{loop.last}}{% else %}nothing{% endfor %}", "{{rows|length}} {{rows[0]}} {{'7'.zfill(3)}} {{words|first}} {{choices.label|last}}",
]

LITERALS = [
    "['a', \"b's\"]", "[1, -2, 3.5, None, True]", "('x', 'y')", "'a' 'b'", "{'a': 1}", "[]", "  [1]", "'\\n\\x41\\u00e9\\\\'", "1_000", "0x1f", "[['a'], ('b',)]", "r'\\d'",
]

PATTERNS = [
    [r"#### (\-?[0-9\.\,]+)", "so #### -1,234.5 and #### 7"], [r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "cost $12.50, 7 or 3,000."],
    [r"((?<=The answer is )(.*)(?=.)|(?<=the answer is )(.*)(?=.))", "The answer is (B).\nok"], [r"(\([A-Z]\))", "first (A) then (B)"],
    [r"\b(Yes|No)\b", "Yes, Nope, No"], [r"^\s*([A-D])", "\n  C. it"], [r"([.,])\s*$", "end. \n"], [r"\w+", "na\u00efve caf\u00e9_1 \u0e01\u0e33"],
    [r"(?i)ANSWER: (\w)", "answer: b Answer: C"], [r"(?P<a>\d)(?P=a)", "11 23 44"], [r"[^\W\d]+", "ab1 c_d"], [r"\d+", "12 \u0661\u0662"], [r"a{,2}b", "b ab aab aaab"],
    [r"x{a}", "x{a}"], [r"[]a-c\-]+", "]b-d"], [r"(?m)^(.)$", "a\nb\ncc"], [r".", "a\rb\nc"], [r"(?s)a.b", "a\nb"], [r"\s", "a\x1cb\x85c\ufeffd"], [r"\.|/|&|%|@|~", "a/b&c~d.%@"],
]

PAIRS = [
    ["the cat sat on the mat", "the cat sat on a mat"], ["A quick, brown fox!", "the quick brown fox"], ["", "something"], ["same text here now", "same text here now"],
    ["It costs $3.50, or 7-8 (maybe).", "It cost $3.50 or 7-8, maybe."], ["first line\nsecond line", "second line\nfirst  line"], ["\u00c9t\u00e9 &quot;chaud&quot; \U0001f600", "\u00e9t\u00e9 \"chaud\" \U0001f600"],
]


def metric_cases():
    r = random.Random(5)
    logs = [-10 * r.random() for _ in range(40)]
    weighted = [(-100 * r.random(), r.randrange(1, 50)) for _ in range(20)]
    binary = [(r.randrange(2), r.randrange(2)) for _ in range(60)]
    classes = [(r.randrange(4), r.randrange(4)) for _ in range(60)]
    hits = [float(r.random() < 0.3) for _ in range(50)]
    texts = [(b, a) for a, b in PAIRS]
    cases = []
    for name, items in [("mean", hits), ("median", logs), ("perplexity", logs), ("weighted_perplexity", weighted), ("bits_per_byte", weighted),
                        ("f1", binary), ("matthews_corrcoef", classes), ("bleu", texts), ("chrf", texts), ("chrf++", texts)]:
        function = metrics.get_aggregation(name) if hasattr(metrics, "get_aggregation") else None
        from lm_eval.api.registry import get_aggregation
        function = get_aggregation(name)
        slow = name in ("bleu", "chrf", "chrf++")
        stderr = metrics.stderr_for_metric(function, 100 if slow else 100000)
        # scikit-learn takes minutes for 100,000 bootstrap samples, so the two metrics that use it get 2,000.
        iters = 2000 if name in ("f1", "matthews_corrcoef") else None
        error = metrics.bootstrap_stderr(function, items, iters) if iters else (stderr(items) if stderr else None)
        cases.append({"aggregation": name, "items": items, "value": float(function(items)), "stderr": None if error is None else float(error), "iters": iters})
    return cases


def group_cases():
    cases = []
    for sizes, weigh in [([100, 40], True), ([100, 40], False), ([10, 20, 30], True)]:
        values, errors = [0.86, 0.25, 0.5][: len(sizes)], [0.0349, 0.0693, 0.02][: len(sizes)]
        error = metrics.pooled_sample_stderr(errors, sizes) if weigh else metrics.unweighted_mean_stderr(errors)
        value = metrics.aggregate_subtask_metrics(values, sizes, weigh)
        cases.append({"sizes": sizes, "weigh": weigh, "values": values, "errors": errors, "value": value, "stderr": float(error)})
    return cases


def main():
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    exact = [
        {"prediction": p, "reference": r, "options": o, "value": float(metrics.exact_match_hf_evaluate(predictions=[p], references=[r], **o)["exact_match"])}
        for p, r in [("$1,234.", "1234"), ("Yes", "yes"), ("a-b", "ab"), ("x1", "x2"), ("so #### 5", "5")]
        for o in [{}, {"regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"]}, {"ignore_case": True}, {"ignore_punctuation": True}, {"ignore_numbers": True}]
    ]
    value = {
        "random": random_cases(),
        "doc": DOC,
        "templates": [{"template": t, "text": apply_template(t, DOC)} for t in TEMPLATES],
        "literals": [{"source": s, "value": ast.literal_eval(s)} for s in LITERALS],
        "patterns": [{"pattern": p, "text": t, "found": re.findall(p, t), "without": re.sub(p, "", t)} for p, t in PATTERNS],
        "rouge": [{"prediction": p, "reference": r, "scores": {k: v.fmeasure for k, v in rouge.score(r, p).items()}} for p, r in PAIRS],
        "exact": exact,
        "metrics": metric_cases(),
        "groups": group_cases(),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
