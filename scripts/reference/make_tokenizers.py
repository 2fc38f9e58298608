"""Tiny tokenizers of every kind that model families use, with the results of transformers for 2,000 hard strings.

Usage: make_tokenizers.py DIR

Writes strings.json.gz, and NAME.json.gz for each tokenizer. NAME.json.gz holds tokenizer.json and tokenizer_config.json,
the full ids of some strings, and for every string the first four bytes of two SHA-256 digests. One is the digest of the
ids, as text with commas. The ids include the special tokens. The other is the digest of two decoded texts, joined by NUL:
the first has the special tokens, and the second does not.
"""

import base64
import gzip
import hashlib
import json
import os
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hard_strings import CODE, EMOJI, SCRIPTS, strings

WHOLE = 60
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [*SCRIPTS.values(), *CODE, *EMOJI] * 4 + ["the of and to in is it was he for on are as with his they at be this " * 8]


def flagged():
    """Returns added tokens with every flag. `normalized` tokens are matched after normalization, the others before it."""
    return [
        AddedToken("<left>", lstrip=True, normalized=False, special=True),
        AddedToken("<right>", rstrip=True, normalized=False, special=True),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False, special=False),
        AddedToken("<word>", single_word=True, normalized=False, special=False),
        AddedToken("<Norm>", normalized=True, special=False),
        AddedToken("<raw é>", normalized=True, special=False),
        AddedToken("<think>", normalized=False, special=False),
        AddedToken("</think>", normalized=False, special=False),
    ]


def byte_level(normalizer, pre_tokenizer, specials, vocab=700, **model):
    t = Tokenizer(models.BPE(**model))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return t


def sentence_piece(normalizer, pre_tokenizer, decoder, vocab=700):
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    specials = ["<unk>", "<s>", "</s>"]
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    # A small alphabet, so that other characters fall back to bytes.
    t.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=specials + bytes_, limit_alphabet=180, show_progress=False),
    )
    # In such models the bytes are ordinary tokens of the vocabulary, not added tokens.
    raw = json.loads(t.to_str())
    raw["added_tokens"] = [a for a in raw["added_tokens"] if a["content"] in specials]
    t = Tokenizer.from_str(json.dumps(raw))
    t.decoder = decoder
    return t


def llama_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def bos(t, token):
    t.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, t.token_to_id(token))]
    )
    return t


def build():
    gpt2 = byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "gpt2", gpt2, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}

    prefixed = byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=True), ["<|endoftext|>"], vocab=500)
    prefixed.add_tokens(flagged())
    yield "gpt2-prefixed-flags", prefixed, {"eos_token": "<|endoftext|>"}

    split = lambda regex: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    qwen = byte_level(normalizers.NFC(), split(QWEN), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.add_tokens(flagged())
    yield "qwen", qwen, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}

    llama3 = byte_level(None, split(LLAMA3), ["<|begin_of_text|>", "<|end_of_text|>"], ignore_merges=True)
    yield "llama3", bos(llama3, "<|begin_of_text|>"), {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}

    smol = byte_level(
        None,
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        vocab=600,
    )
    # Added tokens in the config override tokenizer.json. The other fields have no effect.
    added = {
        str(smol.token_to_id("<|im_start|>")): {
            "content": "<|im_start|>", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False, "special": True,
        },
        str(smol.get_vocab_size()): {
            "content": "<table>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False,
        },
    }
    yield "smollm", smol, {
        "eos_token": "<|im_end|>",
        "bos_token": "<|im_start|>",
        "add_bos_token": True,
        "add_eos_token": True,
        "clean_up_tokenization_spaces": True,
        "added_tokens_decoder": added,
    }

    behaviors = byte_level(
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s{3,}"), "   ")]),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("x", "merged_with_previous"),
                pre_tokenizers.Split(Regex(r"\d"), "merged_with_next"),
                pre_tokenizers.Split(Regex(r"[\p{L}\p{M}]+"), "contiguous", invert=True),
                pre_tokenizers.Split(Regex("[.!?]"), "contiguous"),
                pre_tokenizers.Split("\t", "removed"),
                pre_tokenizers.Digits(False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
        ["<|endoftext|>"],
        vocab=500,
    )
    yield "behaviors", behaviors, {"eos_token": "<|endoftext|>"}

    legacy = sentence_piece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, llama_decoder()
    )
    yield "llama2", bos(legacy, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    legacy_flags = sentence_piece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, llama_decoder(), vocab=600
    )
    legacy_flags.add_tokens(flagged())
    yield "llama2-flags", bos(legacy_flags, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    first = sentence_piece(
        None, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False), llama_decoder(), vocab=650
    )
    first.add_tokens(flagged())
    yield "mistral", bos(first, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    words = sentence_piece(
        None, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True), decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)]
        ), vocab=600
    )
    yield "metaspace-split", bos(words, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    gemma = sentence_piece(
        normalizers.Replace(" ", "▁"),
        pre_tokenizers.Split(" ", "merged_with_previous"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        vocab=650,
    )
    gemma.add_special_tokens(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"])
    gemma.add_tokens([AddedToken(a, normalized=False) for a in ("\n\n", "\n\n\n", "\t\t", "▁▁", "▁▁▁", "<table>")])
    gemma.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", gemma.token_to_id("<bos>"))]
    )
    yield "gemma", gemma, {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


def short(text):
    return hashlib.sha256(text.encode()).digest()[:4]


def packed(path, value):
    data = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
    with open(path, "wb") as f:
        f.write(gzip.compress(data, 9, mtime=0))


def expected(folder, texts):
    t = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = [t(text)["input_ids"] for text in texts]
    decoded = [t.decode(i, skip_special_tokens=False) + "\0" + t.decode(i, skip_special_tokens=True) for i in ids]
    join = lambda digests: base64.b64encode(b"".join(digests)).decode()
    return {
        "whole": [[i, d] for i, d in list(zip(ids, decoded))[:: len(texts) // WHOLE]],
        "ids": join(short(",".join(map(str, i))) for i in ids),
        "decoded": join(short(d) for d in decoded),
    }


def main(out):
    os.makedirs(out, exist_ok=True)
    texts = strings()
    packed(os.path.join(out, "strings.json.gz"), texts)
    nano = os.path.join(os.path.dirname(__file__), "../../models/nano")
    packed(os.path.join(out, "nano.json.gz"), expected(nano, texts))
    for name, tokenizer, config in build():
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(os.path.join(folder, "tokenizer.json"))
            config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
            with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
                json.dump(config, f)
            value = expected(folder, texts)
        packed(
            os.path.join(out, f"{name}.json.gz"),
            {"tokenizer": json.loads(tokenizer.to_str()), "config": config, **value},
        )


main(sys.argv[1])
