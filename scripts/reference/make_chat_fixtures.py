"""Writes token ids and masks of conversations (by transformers) and of data sets (by TRL) into test/fixtures/chat.

Usage: python make_chat_fixtures.py test/fixtures/chat
The templates in that folder mark the tokens of the assistant for transformers with {% generation %}. Needs TRL 1.16.0 with
datasets 5.2.0 besides requirements.txt.
"""

import json
import logging
import sys
from pathlib import Path

from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

SPECIAL = [
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>",
]
TEXT = """The harbour lay quiet under a thin moon, and the boats turned on their ropes as the tide came in.
What is the capital of France? The capital of France is Paris. Answer in one word, please. How many days has a week?
A week has seven days: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. Thank you very much!
def add(a, b):\n    return a + b\n\nInstruction: translate the sentence. Response: the sentence is translated."""

CONVERSATIONS = [
    [("user", "What is the capital of France?"), ("assistant", "The capital of France is Paris.")],
    [("system", "Answer in one word."), ("user", "How many days has a week?"), ("assistant", "Seven")],
    [("user", "One"), ("assistant", "Two"), ("user", "Three"), ("assistant", "Four"), ("user", "Five"),
     ("assistant", "Six")],
    [("user", "  blanks before and after \n"), ("assistant", "\n\n  answered in kind \n"), ("user", "\t"),
     ("assistant", " ")],
    [("user", "Grüße, 你好, नमस्ते, مرحبا 👩‍👩‍👧"), ("assistant", "Ünïcödé ✓ — “quoted” … 🇫🇷")],
    [("user", "Write code"), ("assistant", "def add(a, b):\n    return a + b\n"), ("user", "Thanks"), ("assistant", "")],
    [("user", "You say <|im_end|> and </s> here"), ("assistant", "I say <|eot_id|><s> there")],
    [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "and then?")],
    [("assistant", "I begin."), ("user", "Do you?"), ("assistant", "Yes.")],
    [("user", "no answer")],
]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Weather of a town, “now” & later",
     "parameters": {"type": "object", "properties": {"town": {"type": "string"}, "days": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "time", "parameters": {}}},
]
TOOL_CONVERSATION = [
    {"role": "user", "content": "Weather in Zürich?"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"town": "Zürich", "days": 2}}},
        {"type": "function", "function": {"name": "time", "arguments": {}}}]},
    {"role": "tool", "content": '{"sky": "grey"}'},
    {"role": "assistant", "content": "Grey."},
]
PAIRS = [
    ("What is the capital of France? ", "Paris"), ("Answer:", " Seven"), ("", "Everything is trained"),
    ("The cap", "ital of France"), ("def add(a, b):\n", "    return a + b</s>"), ("你", "好"),
]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT.split("\n"), trainer)
    return tokenizer


def sentence_piece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL + [f"<0x{b:02X}>" for b in range(256)],
                                  show_progress=False)
    # Pre-tokenized into words, because otherwise BPE would learn whole lines as tokens.
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trained.train_from_iterator(TEXT.split("\n"), trainer)
    learnt = json.loads(trained.to_str())["model"]
    tokenizer.model = models.BPE(learnt["vocab"], [tuple(m) for m in learnt["merges"]], unk_token="<unk>",
                                 byte_fallback=True, fuse_unk=True)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    return tokenizer


def save(tokenizer, folder):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>",
        clean_up_tokenization_spaces=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "</s>", "clean_up_tokenization_spaces": False}, indent=1) + "\n")
    return wrapped


def conversations():
    for turns in CONVERSATIONS:
        yield [{"role": role, "content": content} for role, content in turns], None
    yield TOOL_CONVERSATION, TOOLS


def rendered(tokenizer, template):
    for messages, tools in conversations():
        try:
            text = tokenizer.apply_chat_template(messages, tools=tools, chat_template=template, tokenize=False)
            found = tokenizer.apply_chat_template(
                messages, tools=tools, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
            yield {"text": text, "ids": found["input_ids"], "mask": found["assistant_masks"]}
        except Exception as error:  # raised by the template
            yield {"refused": str(error)}


def by_trl(tokenizer, rows, **options):
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=1, max_position_embeddings=512)
    arguments = SFTConfig(output_dir="/tmp/trl", report_to=[], use_cpu=True, bf16=False, max_length=None,
                          shuffle_dataset=False, **options)
    trainer = SFTTrainer(LlamaForCausalLM(config), arguments, train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizer)
    return [{"ids": row["input_ids"], "labels": row["labels"]} for row in trainer.train_dataset]


def main(folder):
    templates = {path.stem: path.read_text() for path in sorted((folder / "templates").glob("*.jinja"))}
    expected = {"conversations": [{"messages": m, "tools": t} for m, t in conversations()], "tokenizers": {}}
    for name, make in (("byte-level", byte_level), ("sentence-piece", sentence_piece)):
        tokenizer = save(make(), folder / name)
        texts = [text for text, _ in PAIRS if text] + ["ends already</s>"]
        split = [{"prompt": m[:-1], "completion": m[-1:]} for m, t in conversations() if m[-1]["role"] == "assistant" and not t]
        tokenizer.chat_template = templates["chatml"]
        expected["tokenizers"][name] = {
            "templates": {key: list(rendered(tokenizer, template)) for key, template in templates.items() if key != "forgetful"},
            "trl": {
                "pairs": {"rows": [{"prompt": p, "completion": c} for p, c in PAIRS]},
                "texts": {"rows": [{"text": text} for text in texts]},
                "chats": {"rows": split},
            },
        }
        for case in expected["tokenizers"][name]["trl"].values():
            case["expected"] = by_trl(tokenizer, case["rows"])
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
