"""2,000 strings that are hard for tokenizers. Equal seeds give equal strings."""

import random

SCRIPTS = {
    "latin": "The quick brown fox didn't jump; it's they'LL we've I'M you'd can't. ÀÉÎÕÜ ß ſ ﬁ ĳ Ǆ ŉ İi ıI",
    "greek": "Ἐν ἀρχῇ ἦν ὁ λόγος, Σίσυφος ς Ω Ω µ μ",
    "cyrillic": "Съешь же ещё этих мягких французских булок, Ѳ ѳ ҈ їжак",
    "arabic": "السَّلامُ عَلَيْكُمْ ١٢٣٤ ـــ لا ﷺ ﻻ",
    "hebrew": "שָׁלוֹם עוֹלָם ־ ״ ׳",
    "devanagari": "नमस्ते दुनिया क्षत्रिय १२३ ज़ क़",
    "thai": "สวัสดีชาวโลก กำลัง ๑๒๓",
    "tamil": "வணக்கம் உலகம் க்ஷ",
    "han": "你好，世界！天地玄黄 宇宙洪荒 㐀 𠀀 𪚥 豈 ⼀ 一",
    "kana": "こんにちは カタカナ ﾊﾝｶｸ が か゛ ヷ ゟ ㌀",
    "hangul": "안녕하세요 세계 한 각 ㄱㅏ",
    "georgian": "გამარჯობა ᲒᲐᲛᲐᲠᲯᲝᲑᲐ",
    "ethiopic": "ሰላም ልዑል ፩፪፫",
    "tibetan": "བཀྲ་ཤིས་བདེ་ལེགས། ༠༡",
    "khmer": "សួស្តី ពិភពលោក ១២",
    "math": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ ½ ² ³ ¹ Ⅷ ① ⑳ ½ ㊿ ٠ 𝟘 𝟏",
}
EMOJI = [
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "1️⃣", "❤️", "🧑🏿‍🚀", "🫠", "☺︎", "👁️‍🗨️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "⚕", "©️", "‼️",
]
WHITESPACE = [
    " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\n\n\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u202f",
    "\u2028", "\u2029", "\u0085", "\u000b", "\u000c", "\u1680", "\u205f", "\ufeff", "\u200b", "\u180e", "\u001c", "\u001f",
    " " * 7, " " * 16, "\t\t\t", "\n" * 9, " \t \n ",
]
CONTROLS = [chr(c) for c in (0, 1, 2, 7, 8, 14, 27, 28, 31, 127, 128, 0x9B, 0x9F, 0xAD)]
FORMATS = ["\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u202e", "\u202c", "\u2066", "\u2069", "\u2060", "\ufe0f", "\ufffc", "\ufffd"]
EDGES = [
    "\ud7ff", "\ue000", "\uf8ff", "\uffff", "\ufffe", "\U00010000", "\U0010ffff", "\U000e0001", "\U0001f600", "\u0378",
    "\U00020000", "\U0002fa1d", "\U0001d15e", "\u0340", "\u0344", "\u212b", "\u2126", "\u1e9e", "\u0130", "\u1fbe",
]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u20dd", "\u0489", "\u093c", "\u3099", "\u05bc", "\u064b", "\u0e33", "\u1dc4", "\U0001d165"]
CODE = [
    "def f(x):\n    return x**2 + 1  # ²\n", "for (let i = 0; i < n; ++i) {\n\t\ta[i] ??= `${b}`;\n}", "<div class=\"a\">&nbsp;</div>",
    "SELECT * FROM t WHERE a='b' AND c<>1;", "#!/bin/sh\nset -euo pipefail\n", "\\frac{a}{b} \\\\ \\n", "{\"a\": [1, 2.5e-10, null]}",
    "https://example.com/a?b=c&d=%20#e", "user@example.com", "C:\\Users\\x", "if(a&&b||!c){return~d^e}", "a::b->c<d>e", "0xDEADBEEF 1_000",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'Ll", "’s ’t can’t", "it'ſ we'ſt 'ſ", "'K 'ß 'ﬆ 'İ","...---...", "!!!???", "__init__", "camelCaseHTTPServer2", "v1.2.3-rc.4+5",
]
NUMBERS = ["1", "12", "123", "1234", "12345678901", "3.14159", "1,000,000", "१२३४", "٣٤٥٦", "½¼¾", "²³", "ⅣⅤ", "−5", "1st", "a1b2", "𝟙𝟚𝟛𝟜"]
SPECIALS = [
    "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>", "<eos>", "<|begin_of_text|>", "<|end_of_text|>",
    "<left>", "<right>", "<both>", "<word>", "<Norm>", "<norm>", "<raw é>", "<think>", "</think>", "<0x0A>", "<0xFF>", "<0x", "▁", "▁▁", "▁a",
    "<|im_start|", "|im_end|>", "[INST]", "<table>", "Ġ", "Ċ", "<left", "word<word>word", "<word>.", "é<word>", "_<word>", "<<word>>",
]


def strings(count=2000, seed=20240229):
    r = random.Random(seed)
    found = {"": None}
    add = lambda text: found.setdefault(text)
    for pool in (SCRIPTS.values(), EMOJI, WHITESPACE, CONTROLS, FORMATS, EDGES, MARKS, CODE, NUMBERS, SPECIALS):
        for item in pool:
            add(item)
            add(item + "a")
            add(" " + item + " ")
    for c in ("a", " ", "\n", "é", "e\u0301", "世", "😀", "=", "0", "▁", "\t", "\u0301", "ab ", "<s>", " <left> ", "\u00a0", "\x00", "ß"):
        for n in (2, 3, 5, 8, 63, 200):
            add(c * n)
    everything = [w for t in SCRIPTS.values() for w in t.split(" ")] + EMOJI + CODE + NUMBERS
    glue = ["", " ", " ", " "] + WHITESPACE

    def anything():
        k = r.random()
        if k < 0.45:
            return r.choice(everything)
        if k < 0.60:
            return r.choice(WHITESPACE)
        if k < 0.68:
            return r.choice(SPECIALS)
        if k < 0.76:
            return r.choice(MARKS + FORMATS)
        if k < 0.82:
            return r.choice(CONTROLS + EDGES)
        if k < 0.9:
            return "".join(r.choice("abcdefghijklmnopqrstuvwxyz'ABCé.,-\n  ") for _ in range(r.randrange(1, 14)))
        c = r.randrange(0x110000)
        return chr(c) if not 0xD800 <= c < 0xE000 else "?"

    while len(found) < count:
        parts = [anything() for _ in range(r.randrange(1, 9))]
        add("".join(p + r.choice(glue) for p in parts)[: r.choice((12, 40, 120))])
    return list(found)[:count]
