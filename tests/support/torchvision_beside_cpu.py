"""PyPI's torchvision beside a torch for the CPU: declares the operators that its import asks for.

vLLM imports torchvision, whose wheel on PyPI is built for CUDA. A ``.pth`` file with ``import torchvision_beside_cpu``
lets it be imported; nothing here calls its operators.
"""

import sys


class _BeforeTorchvision:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if "+cpu" in torch.__version__:
                global _library
                _library = torch.library.Library("torchvision", "DEF")
                for operator in (
                    "nms(Tensor dets, Tensor scores, float iou_threshold)",
                    "qnms(Tensor dets, Tensor scores, float iou_threshold)",
                ):
                    _library.define(f"{operator} -> Tensor")
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
