"""Captions as people write them, and the tokenizer that knows their words.

Some captions name no style, and some an unknown one; their pictures may be in any style. So the model learns that
unknown words say nothing about the subject, and a device's own word for its style does not change the subject.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from samples.stickers.base_styles import BASE_STYLES, wording
from samples.stickers.pretraining.corpus import Drawn
from samples.stickers.styles import STYLES, plain_caption

MAX_TOKENS = 32
VOCABULARY = 2048
# CLIP's pattern for cutting a text into words.
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
START, END = "<|startoftext|>", "<|endoftext|>"
# Words for styles of no picture. None of them is in a wording of a base style or of a device's style.
_UNKNOWN = """
    antique baroque marbled rustic frosted velvet lacquered woven origami felt batik porcelain copper bronze silver
    satin tinted dreamy grim cosy gothic cubist fauvist minimal ornate folk tribal arctic tropical desert misty smoky
    rainy frozen fiery electric cosmic lunar solar toy plush wooden bamboo denim leather linen silk lace ribbon tin
    enamel ceramic terracotta jelly candy gummy waxen rubber plastic chrome holographic iridescent opal jade ruby amber
    pearl marble granite sandy muddy mossy leafy feathered scaly furry fuzzy hazy blurry crisp sharp jagged wavy curly
    spiral checkered tartan paisley floral leopard camouflage graffiti stencil collage scrapbook doodle scribble
    gouache tempera fresco charcoal lithograph linocut etched burnt cracked peeling weathered glittering sparkling
    matte dull vivid muted warm cool cold quiet noisy hand made machine laser printed risograph polaroid vintage
    modern futuristic medieval victorian japanese nordic mexican egyptian storybook manga anime logo emblem token
    coin medal postcard tapestry quilt
"""
UNKNOWN = tuple(_UNKNOWN.split())
_SYLLABLES = tuple(a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "ar", "el", "im", "on", "us"))


class Captions:
    """Captions for the rows of a corpus.

    Some words stand for an unknown style: names of materials and fashions, made-up words, and words of other subjects,
    so that "paper of a fox" is still a fox.
    """

    def __init__(self, rows: list[Drawn]) -> None:
        taken = {word for style in STYLES.values() if not style.base for word in style.words.split()}
        words = {word for row in rows for text in (row.subject, *row.tags) for word in text.lower().split()}
        self._others = sorted(word for word in words - taken if word.isalpha() and len(word) > 2)

    def unknown_words(self, rng: random.Random) -> str:
        """One to three words that stand for an unknown style."""
        count, kind = rng.choice((1, 2, 2, 3)), rng.randrange(3)
        if kind < 2:
            return " ".join(rng.sample((UNKNOWN, self._others)[kind], count))
        return " ".join("".join(rng.choices(_SYLLABLES, k=rng.choice((2, 2, 3)))) for _ in range(count))

    def variant(self, row: Drawn, rng: random.Random) -> str:
        """One of the ways to ask for a picture.

        Of a hundred captions, 10 are empty (for guidance), 10 name no style, 15 an unknown one; the others its styles.
        """
        chance = rng.random()
        if chance < 0.10:
            return ""
        if chance < 0.20:
            return subject_words(row, rng) if rng.random() < 0.8 else row.subject
        words = self.unknown_words(rng) if chance < 0.35 else self._known_words(row, rng)
        subject, form = subject_words(row, rng), rng.random()
        if form < 0.75:
            return f"{words} of {subject}"
        return f"{subject}, {words}" if form < 0.9 else f"{words}: {row.subject}"

    def _known_words(self, row: Drawn, rng: random.Random) -> str:
        """Words for the row's style; two styles come in either order, and one may be replaced by an unknown one."""
        named = [wording(style, rng) for style in row.styles]
        if len(named) == 2:
            rng.shuffle(named)
            if rng.random() < 0.15:
                named[rng.randrange(2)] = self.unknown_words(rng)
        return " and ".join(named)


def subject_words(row: Drawn, rng: random.Random) -> str:
    """ "a fox", sometimes with its tags."""
    if row.tags and rng.random() < 0.15:
        return f"{plain_caption(row.subject)}, {', '.join(rng.sample(row.tags, k=min(2, len(row.tags))))}"
    return plain_caption(row.subject)


def train_tokenizer(rows: list[Drawn], folder: Path) -> CLIPTokenizer:
    """A CLIPTokenizer (byte-level BPE, lower case) whose vocabulary is learned from the captions and tags.

    A tokenizer already in `folder` is kept: the rows of the text encoder's embedding belong to its tokens.
    """
    if (folder / "vocab.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    subjects = {row.subject: row for row in rows}.values()
    corpus = [plain_caption(row.subject) for row in subjects for _ in range(6)]
    corpus += [" ".join(row.tags) for row in subjects]
    corpus += [f"{words} of a" for style in BASE_STYLES.values() for words in style.wordings for _ in range(20)]
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
