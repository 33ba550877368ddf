"""vLLM beside transformers and dense beside pruned, on the user's machine: are answers the same, and is it faster."""
