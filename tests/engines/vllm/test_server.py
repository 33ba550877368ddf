"""vLLM's server of the OpenAI API under a schedule: requests at once, and one that is refused beside them."""

from __future__ import annotations

import base64
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.vllm_runs import DIGITS, digit_samples, environment, transformers_side

from autoprune.data.rows import Sample
from autoprune.schedule import Schedule

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: .ci/run engines"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # several engines start, one after the other
]
MODEL = str(DIGITS / "model")
AT_ONCE = 8
START_S = 240


@contextmanager
def serving(folder: Path, *options: str):
    """A server on a port of the loopback; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", *options]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(START_S * 2):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def asked(address: str, sample: Sample, **more: Any) -> tuple[int, ...]:
    assert sample.images[0].path is not None
    image = base64.b64encode(Path(sample.images[0].path).read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{image}"}},
        {"type": "text", "text": sample.prompt},
    ]
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0,
        "add_special_tokens": True, "return_token_ids": True,
        **more,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return tuple(json.load(answer)["choices"][0]["token_ids"])


def test_requests_at_once_after_one_that_is_refused(tmp_path) -> None:
    path, samples = DIGITS / "schedule.json", digit_samples(3 * AT_ONCE)
    with transformers_side(MODEL) as ask:
        wanted = ask("answers", Schedule.load(path), samples, 8)
    named = ["--hf-overrides", json.dumps({"autoprune_schedule": str(path)})]
    options = ["--no-enable-prefix-caching", "--no-enable-chunked-prefill", "--trust-request-chat-template"]
    with serving(tmp_path, *named, *options) as (server, address):
        wait_for(server, address, tmp_path / "server.log")
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(address, samples[0], chat_template="USER: what is it <image>", add_special_tokens=False)
        assert refused.value.code == 400
        assert "must end with text" in refused.value.read().decode()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            got = list(pool.map(lambda sample: asked(address, sample), samples))
    assert got == [answer.ids for answer in wanted]


def test_a_server_that_would_not_be_exact_does_not_start(tmp_path) -> None:
    named = ["--hf-overrides", json.dumps({"autoprune_schedule": str(DIGITS / "schedule.json")})]
    with serving(tmp_path, *named) as (server, _):
        assert server.wait(START_S) != 0
    assert "--enable-prefix-caching: " in (tmp_path / "server.log").read_text()
