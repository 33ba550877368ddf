"""Rules by which an answer is compared with the accepted ones; each is a pure function with its source.

All give 1.0 for the best of the accepted answers, and what both sides are brought to first is a part of the rule.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

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
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PERIOD = re.compile(r"\.(?!\d)")
_PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-<>@`,?!|]")
_ANLS_THRESHOLD = 0.5
_RELAXED = 0.05


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


def vqa_accuracy(text: str, answers: Sequence[str]) -> float:
    """Accuracy of VQA (Antol et al., ICCV 2015; VQA v2, Goyal et al., CVPR 2017): share of the people who agree.

    The answers are votes, ten of them in VQA: leaving out each in turn, an answer that three of the others gave counts
    1, one that fewer gave a third for each; the mean of that. With fewer than four votes, all of the others must agree;
    a single answer must be matched. Both sides under `normalize_answer`.
    """
    normal = normalize_answer(text)
    same = [normalize_answer(answer) == normal for answer in answers]
    if len(same) < 2:
        return float(any(same))
    needed = min(3, len(same) - 1)
    return sum(min(1.0, (sum(same) - own) / needed) for own in same) / len(same)


def anls(text: str, answers: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one answer (ST-VQA, Biten et al., ICCV 2019).

    1 minus the edit distance over the length of the longer text, or 0 where that distance is half or more; the best of
    the accepted answers. Both sides in lower case, with one space between words.
    """
    said = " ".join(text.lower().split())
    return max((_similarity(said, " ".join(answer.lower().split())) for answer in answers), default=0.0)


def relaxed_accuracy(text: str, answers: Sequence[str]) -> float:
    """Relaxed accuracy of charts (ChartQA, Masry et al., Findings of ACL 2022): numbers within 5 % of the accepted one.

    What is no number must be the same but for case and the white space around it. A percent sign divides by 100, and
    commas between digits are dropped; a number that should be 0 must be 0.
    """
    return float(any(_nearly(text, answer) for answer in answers))


def token_f1(text: str, answers: Sequence[str]) -> float:
    """F1 of the words that two answers share (SQuAD, Rajpurkar et al., EMNLP 2016), the best of the accepted answers.

    Both sides in lower case, without punctuation and articles.
    """
    said = _squad_words(text)
    return max((_f1(said, _squad_words(answer)) for answer in answers), default=0.0)


def _similarity(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    distance = _edits(one, other) / longest if longest else 0.0
    return 1.0 - distance if distance < _ANLS_THRESHOLD else 0.0


def _edits(one: str, other: str) -> int:
    """Levenshtein distance: characters put in, left out or changed."""
    before = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
        before = row
    return before[-1]


def _nearly(text: str, answer: str) -> bool:
    said, right = _number(text), _number(answer)
    if said is None or right is None:
        return text.strip().lower() == answer.strip().lower()
    return abs(said - right) <= _RELAXED * abs(right) * (1 + 1e-9)  # 5 % itself is within 5 %, however it is rounded


def _number(text: str) -> float | None:
    plain = _THOUSANDS.sub("", text.strip())
    share = plain.endswith("%")
    if not _NUMBER.fullmatch(plain := plain.rstrip("%").rstrip()):
        return None
    return float(plain) / 100 if share else float(plain)


def _squad_words(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in plain.split() if word not in _ARTICLES]


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    if not said or not right:
        return float(said == right)
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right))
