"""Two metrics that judge by shared words."""


def word_share(text, answers):
    """Share of the words of an accepted answer that the text has; the best of the answers."""
    said = set(text.lower().split())
    wanted = [set(answer.lower().split()) for answer in answers]
    return max((len(said & words) / len(words) for words in wanted if words), default=0.0)


def word_error(text, answers):
    """Share of the words that are missing."""
    return 1.0 - word_share(text, answers)


word_share.name, word_share.version, word_share.direction = "acme/word_share", 3, "maximize"
word_error.name, word_error.version, word_error.direction = "acme/word_error", 1, "minimize"
