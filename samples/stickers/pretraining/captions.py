"""Captions as people write them, and the tokenizer that knows their words."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES, caption

MAX_TOKENS = 32
VOCABULARY = 2048
# How CLIP's tokenizer cuts a text into words.
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
START, END = "<|startoftext|>", "<|endoftext|>"


def variant(sticker: Sticker, rng: random.Random) -> str:
    """One of the ways to ask for a picture; six in ten are the plain caption, one in ten is empty (for guidance)."""
    words, chance = STYLES[sticker.style].words, rng.random()
    if chance < 0.1:
        return ""
    if chance < 0.7:
        return sticker.text
    if chance < 0.8:
        return f"{sticker.subject}, {words}"
    if chance < 0.9 and sticker.tags:
        tags = rng.sample(sticker.tags, k=min(2, len(sticker.tags)))
        return f"{sticker.text}, {', '.join(tags)}"
    return f"a {words}: {sticker.subject}"


def train_tokenizer(stickers: list[Sticker], folder: Path) -> CLIPTokenizer:
    """A CLIPTokenizer (byte-level BPE, lower case) whose vocabulary is learned from the captions and tags.

    A tokenizer already in `folder` is kept: the text encoder's rows mean its tokens.
    """
    if (folder / "vocab.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    corpus = [sticker.text for sticker in stickers for _ in range(3)]
    corpus += [" ".join(sticker.tags) for sticker in stickers]
    corpus += [caption(style, sticker.subject) for style in STYLES.values() for sticker in stickers[::20]]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # CLIP's vocabulary holds every byte twice: inside a word and at its end.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(alphabet) - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    return _write_clip_files(folder, alphabet)


def _write_clip_files(folder: Path, alphabet: list[str]) -> CLIPTokenizer:
    """Give the learned vocabulary the order and the special tokens that CLIPTokenizer expects."""
    learned = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = (folder / "merges.txt").read_text("utf-8")
    if not merges.startswith("#version"):
        merges = "#version: 0.2\n" + merges
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [t for t, _ in sorted(learned.items(), key=lambda item: item[1]) if t not in set(tokens)]
    tokens += [START, END]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text(merges, "utf-8")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_TOKENS,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
