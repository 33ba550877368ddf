"""Tiny random models built from configs, with a ragged, left-padded, multi-image batch for each.

A family is one file here and one row (for each kind of input) below.
"""

from __future__ import annotations

from functools import partial

from support.versions import needs
from support.zoo.aria import aria
from support.zoo.base import IMAGE, LAYERS, PAD, VIDEO, VOCAB, WORDS, Plan, Row, Zoo
from support.zoo.blip2 import blip2, instructblip, instructblipvideo
from support.zoo.chameleon import chameleon
from support.zoo.cohere2_vision import aya_vision, cohere2_vision
from support.zoo.cohere_compass import cohere_compass
from support.zoo.cosmos3 import cosmos3_edge, cosmos3_omni
from support.zoo.deepseek_ocr2 import deepseek_ocr2
from support.zoo.deepseek_vl import deepseek_vl, deepseek_vl_hybrid
from support.zoo.emu3 import emu3
from support.zoo.ernie4_5_vl import ernie4_5_vl_moe
from support.zoo.exaone4_5 import exaone4_5
from support.zoo.fuyu import fuyu
from support.zoo.gemma3 import gemma3
from support.zoo.gemma4 import gemma4, gemma4_moe, gemma4_unified
from support.zoo.glm4v import glm4v
from support.zoo.glm4v_moe import glm4v_moe, glm46v
from support.zoo.glm_ocr import glm_ocr, glmga
from support.zoo.got_ocr2 import got_ocr2, pp_chart2table
from support.zoo.granite4_vision import granite4_vision
from support.zoo.granite_docling import granite_docling
from support.zoo.hunyuan_vl import hunyuan_vl
from support.zoo.hyperclovax import hyperclovax_vision_v2
from support.zoo.idefics2 import idefics2
from support.zoo.idefics3 import idefics3, smolvlm
from support.zoo.internvl import internvl
from support.zoo.janus import janus
from support.zoo.kimi_k25 import kimi_k25
from support.zoo.kosmos2 import kosmos2, kosmos2_5
from support.zoo.lfm2_vl import lfm2_vl
from support.zoo.lfm3_vl import lfm3_vl
from support.zoo.lighton_ocr import lighton_ocr
from support.zoo.llama import llama
from support.zoo.llama4 import llama4
from support.zoo.llava import llava
from support.zoo.llava_next import llava_next
from support.zoo.llava_next_video import llava_next_video
from support.zoo.llava_onevision import llava_onevision
from support.zoo.minicpm import minicpm_ocr, minicpmv4_6, minicpmv4_7
from support.zoo.mistral3 import mistral3
from support.zoo.mistral4 import mistral4
from support.zoo.molmo2 import molmo2
from support.zoo.muse import muse_glimmer, muse_spark
from support.zoo.omni import qwen2_5_omni, qwen3_omni
from support.zoo.ovis2 import ovis2
from support.zoo.paddleocr_vl import paddleocr_vl
from support.zoo.paligemma import paligemma
from support.zoo.perception_lm import perception_lm
from support.zoo.qianfan_ocr import qianfan_ocr
from support.zoo.qwen2_5_vl import qwen2_5_vl
from support.zoo.qwen2_vl import qwen2_vl
from support.zoo.qwen3_5 import qwen3_5, qwen3_5_moe
from support.zoo.qwen3_vl import qwen3_vl
from support.zoo.qwen3_vl_moe import qwen3_vl_moe
from support.zoo.shieldgemma2 import shieldgemma2
from support.zoo.step3p7 import step3p7
from support.zoo.video_llama_3 import video_llama_3
from support.zoo.video_llava import video_llava
from support.zoo.vipllava import vipllava

EAGER = {"all": needs("5.23", "eager attention goes past the registry of kernels, and cannot be scored")}
QFORMER = {"all": needs("5.23", "the Q-Former has no sdpa attention, and so the kernel cannot be chosen")}
FAMILIES = {
    "aria": Row(aria),
    "aya_vision": Row(aya_vision),
    "blip-2": Row(blip2, without=QFORMER),
    "chameleon": Row(chameleon),
    "cohere2_vision": Row(cohere2_vision),
    "cohere_compass": Row(cohere_compass),
    "cosmos3_edge": Row(cosmos3_edge),
    "cosmos3_omni": Row(cosmos3_omni),
    "deepseek_ocr2": Row(deepseek_ocr2),
    "deepseek_vl": Row(deepseek_vl),
    "deepseek_vl_hybrid": Row(deepseek_vl_hybrid),
    "emu3": Row(emu3, without={"all": needs("5.23", "the random codebook gives all patches the same word")}),
    "ernie4_5_vl_moe": Row(ernie4_5_vl_moe),
    "exaone4_5": Row(exaone4_5),
    "fuyu": Row(fuyu, without={"all": needs("5.23", "Fuyu takes its patches under another name")}),
    "gemma3": Row(gemma3, core=True, modes=True),
    "gemma4": Row(gemma4, without=EAGER),
    "gemma4_moe": Row(gemma4_moe, without=EAGER),
    "gemma4_unified": Row(gemma4_unified),
    "gemma4_video": Row(partial(gemma4, video=True), inputs="video", without=EAGER),
    "glm46v": Row(glm46v),
    "glm4v": Row(glm4v, modes=True),
    "glm4v_moe": Row(glm4v_moe),
    "glm_ocr": Row(glm_ocr),
    "glmga": Row(glmga),
    "got_ocr2": Row(got_ocr2),
    "granite4_vision": Row(granite4_vision),
    "granite_docling": Row(granite_docling),
    "hunyuan_vl": Row(hunyuan_vl),
    "hyperclovax_vision_v2": Row(hyperclovax_vision_v2),
    "idefics2": Row(idefics2),
    "idefics3": Row(idefics3, modes=True),
    "internvl": Row(internvl, core=True, modes=True),
    "instructblip": Row(instructblip, without=QFORMER),
    "instructblipvideo": Row(instructblipvideo, inputs="video", without=QFORMER),
    "janus": Row(janus),
    "kimi_k25": Row(kimi_k25, modes=True),
    "kosmos-2": Row(kosmos2, without={"all": needs("5.23", "both kernels answer differently, pruned or not")}),
    "kosmos-2.5": Row(kosmos2_5),
    "lighton_ocr": Row(lighton_ocr),
    "llama4": Row(llama4),
    "llava": Row(llava, core=True, modes=True),
    "llava_next": Row(llava_next, modes=True),
    "llava_next_video": Row(llava_next_video, inputs="video", modes=True),
    "llava_onevision": Row(llava_onevision, modes=True),
    "llava_onevision_video": Row(partial(llava_onevision, video=True), inputs="video", modes=True),
    "mistral3": Row(mistral3, modes=True),
    "mistral4": Row(mistral4),
    "molmo2": Row(molmo2),
    "molmo2_olmo": Row(partial(molmo2, olmo=True)),
    "muse_glimmer": Row(muse_glimmer),
    "muse_spark": Row(muse_spark),
    "ovis2": Row(ovis2),
    "paddleocr_vl": Row(paddleocr_vl),
    "paligemma": Row(
        paligemma,
        modes=True,
        without={"no cache": needs("5.23", "without a cache PaliGemma takes what it generates for prompt")},
    ),
    "perception_lm": Row(perception_lm),
    "perception_lm_video": Row(partial(perception_lm, video=True), inputs="video"),
    "pp_chart2table": Row(pp_chart2table),
    "qianfan_ocr": Row(qianfan_ocr),
    "qwen2_5_omni_thinker": Row(qwen2_5_omni),
    "qwen2_5_vl": Row(qwen2_5_vl, core=True, modes=True),
    "qwen2_5_vl_video": Row(partial(qwen2_5_vl, video=True), inputs="video", modes=True),
    "qwen2_vl": Row(qwen2_vl, modes=True),
    "qwen2_vl_video": Row(partial(qwen2_vl, video=True), inputs="video", modes=True),
    "qwen3_omni_moe_thinker": Row(qwen3_omni),
    "qwen3_vl": Row(qwen3_vl, core=True, modes=True),
    "qwen3_vl_moe": Row(qwen3_vl_moe),
    "qwen3_vl_video": Row(partial(qwen3_vl, video=True), inputs="video", modes=True),
    "shieldgemma2": Row(shieldgemma2),
    "smolvlm": Row(smolvlm, modes=True),
    "step3p7": Row(step3p7),
    "video_llama_3": Row(video_llama_3),
    "video_llava": Row(video_llava, inputs="video", modes=True),
    "vipllava": Row(vipllava, modes=True),
}
HYBRIDS = {
    "lfm2_vl": Row(lfm2_vl),
    "lfm3_vl": Row(lfm3_vl),
    "minicpm_ocr": Row(minicpm_ocr),
    "minicpmv4_6": Row(minicpmv4_6),
    "minicpmv4_7": Row(minicpmv4_7),
    "qwen3_5": Row(qwen3_5),
    "qwen3_5_moe": Row(qwen3_5_moe),
}
"""Decoders with recurrent layers: what the other suites compare with does not hold there, see test_hybrid.py."""
CORE = {name: row for name, row in FAMILIES.items() if row.core}

__all__ = [
    "CORE",
    "FAMILIES",
    "HYBRIDS",
    "IMAGE",
    "LAYERS",
    "PAD",
    "VIDEO",
    "VOCAB",
    "WORDS",
    "Plan",
    "Row",
    "Zoo",
    "gemma3",
    "internvl",
    "llama",
    "llava",
    "qwen2_5_vl",
]
