"""The verifier's side of remote drafts: asks a draft pod for tokens, within a deadline, and never fails a step.

`vllm_adapter` holds all contact with vLLM; the other modules are plain Python and import neither vLLM nor torch.
"""
