"""Chat templates in the families' formats: turns, roles, and where the image stands."""

from __future__ import annotations

_EACH = "{% for message in messages %}"
_END = "{% endfor %}"


def _content(image: str, video: str = "") -> str:
    each = "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image
    return each + "{% elif part['type'] == 'video' %}" + video + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"


def _prompted(text: str) -> str:
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


def chatml(image: str, video: str = "") -> str:
    """Turns between ``<|im_start|>`` and ``<|im_end|>``."""
    turn = "<|im_start|>{{ message['role'] }}\n" + _content(image, video) + "<|im_end|>\n"
    return _EACH + turn + _END + _prompted("<|im_start|>assistant\n")


def upper(image: str) -> str:
    """``USER: … ASSISTANT:``, the image on a line of its own."""
    turn = "{{ message['role'] | upper }}: " + _content(image + "\n") + " "
    return _EACH + turn + _END + _prompted("ASSISTANT:")


def instructed(image: str) -> str:
    """Questions between ``[INST]`` and ``[/INST]``."""
    return "{{ bos_token }}" + _EACH + "[INST]" + _content(image) + "[/INST]" + _END


def capital(image: str) -> str:
    """``User:… Assistant:`` with ``<end_of_utterance>`` after each turn."""
    turn = "{{ message['role'] | capitalize }}:" + _content(image) + "<end_of_utterance>\n"
    return "<|im_start|>" + _EACH + turn + _END + _prompted("Assistant:")


def turns(image: str) -> str:
    """Turns between ``<start_of_turn>`` and ``<end_of_turn>``."""
    turn = "<start_of_turn>{{ message['role'] }}\n" + _content(image) + "<end_of_turn>\n"
    return "{{ bos_token }}" + _EACH + turn + _END + _prompted("<start_of_turn>model\n")


def tagged(image: str) -> str:
    """A role's tag on a line of its own before each turn."""
    turn = "<|{{ message['role'] }}|>\n" + _content(image)
    return "[gMASK]<sop>" + _EACH + turn + _END + _prompted("<|assistant|>\n")
