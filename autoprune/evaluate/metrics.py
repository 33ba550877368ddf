"""What an answer is worth: exact match under the VQA normalisation, and distances between distributions."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

VERSION = 1
"""Raised whenever a metric gives another number for the same answer, so that stored results are not mixed."""

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})
# Only forms that are no words of their own without the apostrophe ("well" and "were" stay what they are).
_APOSTROPHES = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how's i'd've
    i'm i've isn't it'd it'll ma'am might've mightn't must've mustn't needn't o'clock oughtn't shan't she's
    should've shouldn't somebody's someone's something's that's there'd there're there's they'd they'll they're
    they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
    who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_CONTRACTIONS = {form.replace("'", ""): form for form in _APOSTROPHES.split()}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-<>@`,?!|]")


def normalize_answer(text: str) -> str:
    """Brings an answer to the form in which VQA answers are compared (VQA challenge evaluation, Antol et al. 2015).

    Lower case, one space between words; punctuation removed (a decimal point, an apostrophe and a colon stay); number
    words up to ten as digits; articles dropped; lost apostrophes of contractions put back.
    """
    text = _THOUSANDS.sub("", text.lower())
    text = _PERIOD.sub("", text)
    # Inside a word a mark separates two words, at its edge it is only removed; both end as the same words here.
    words = _PUNCTUATION.sub(" ", text).split()
    words = [_NUMBERS.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def exact_match(text: str, answers: Iterable[str]) -> float:
    """1.0 if the normalised text is one of the normalised accepted answers, else 0.0."""
    normal = normalize_answer(text)
    return float(any(normal == normalize_answer(answer) for answer in answers))


def kl_divergence(dense: Tensor, pruned: Tensor) -> Tensor:
    """KL(dense ‖ pruned) over the whole vocabulary, in fp32.

    Args:
        dense: Logits [..., vocabulary].
        pruned: Logits of the same shape.

    Returns:
        Nats [...]; rounding below zero is cut off.
    """
    p, q = dense.float().log_softmax(-1), pruned.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)


def token_log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token under the logits before it, in fp32.

    Args:
        logits: [..., vocabulary].
        tokens: Token ids [...].

    Returns:
        Nats [...].
    """
    chosen = logits.gather(-1, tokens[..., None])[..., 0].float()
    return chosen - torch.logsumexp(logits.float(), -1)
