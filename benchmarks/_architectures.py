"""Tiny random models of many architectures, built from configs of transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from titer.conformance import tiny_lm
from titer.core.lm import LM, quiet

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model of two blocks or three. ``model`` and ``config`` are names in transformers,
    ``traits`` what sets it apart, ``fields`` those of its config."""

    name: str
    traits: str
    model: str
    config: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])

    def build(self, seed: int = 0) -> LM:
        """A random model with gains and biases that are not at their start, so that nothing is
        right by chance. Equal seeds give equal weights."""
        import transformers as hf

        tokenizer = tiny_lm().tokenizer
        words = {
            "vocab_size": len(tokenizer),
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            if "text_config" in self.fields:
                text = {**self.fields["text_config"], **words}
                config = getattr(hf, self.config)(**{**self.fields, "text_config": text})
            else:
                config = getattr(hf, self.config)(**self.fields, **words)
            model: Any = getattr(hf, self.model)(config).float()
            for name, weight in model.named_parameters():
                if "norm" in name or "ln_" in name or name.endswith("bias"):
                    weight.detach().add_(0.3 * torch.randn(weight.shape))
        return LM(model, tokenizer, "the model")


_WIDE = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
_PLAIN = {**_WIDE, **_HEADS, "max_position_embeddings": 64}
_OWN_WIDTH = {**_PLAIN, "head_dim": 6}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {
    **_PLAIN,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 6,
    "n_group": 1,
    "topk_group": 1,
}
_DELTA = {
    **_PLAIN,
    "head_dim": 8,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
_STATE = {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 4}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _of(name: str, traits: str, stem: str, fields: dict[str, Any], **more: str) -> Architecture:
    return Architecture(
        name=name,
        traits=traits,
        model=more.get("model", f"{stem}ForCausalLM"),
        config=more.get("config", f"{stem}Config"),
        fields=fields,
    )


ARCHITECTURES: tuple[Architecture, ...] = (
    _of("llama", "dense", "Llama", _PLAIN),
    _of("mistral", "window", "Mistral", {**_PLAIN, "sliding_window": 16}),
    _of("qwen2", "tied, biases", "Qwen2", {**_PLAIN, "tie_word_embeddings": True}),
    _of("qwen3", "norms in heads", "Qwen3", _OWN_WIDTH),
    _of(
        "gpt2",
        "tied, turned matrices, learned places, dropout",
        "GPT2",
        {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64},
        model="GPT2LMHeadModel",
    ),
    _of("gpt_neox", "parallel", "GPTNeoX", _PLAIN),
    _of(
        "gptj",
        "parallel, biased head",
        "GPTJ",
        {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    ),
    _of(
        "opt",
        "learned places, dropout",
        "OPT",
        {
            "hidden_size": 24,
            "ffn_dim": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 24,
        },
    ),
    _of(
        "bloom",
        "ALiBi, norm after the embedding",
        "Bloom",
        {"hidden_size": 24, "n_layer": 2, "n_head": 4},
    ),
    _of(
        "mpt",
        "ALiBi",
        "Mpt",
        {"d_model": 24, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 2},
    ),
    _of(
        "falcon",
        "parallel, linear layers of its own",
        "Falcon",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    _of("phi", "parallel, biases", "Phi", {**_PLAIN, "hidden_size": 32}),
    _of("phi3", "fused projections", "Phi3", _PLAIN),
    _of("gemma", "scaled embedding, tied", "Gemma", _OWN_WIDTH),
    _of("gemma2", "norms after, soft caps", "Gemma2", _OWN_WIDTH),
    _of(
        "gemma3",
        "nested, sees images",
        "Gemma3",
        {"text_config": _OWN_WIDTH, "vision_config": _VISION, "mm_tokens_per_image": 4},
        model="Gemma3ForConditionalGeneration",
    ),
    _of("olmo2", "norms after", "Olmo2", _PLAIN),
    _of("cohere", "parallel, scaled logits, tied", "Cohere", _PLAIN),
    _of("granite", "multipliers", "Granite", _PLAIN),
    _of("glm4", "norms before and after", "Glm4", _OWN_WIDTH),
    _of("nemotron", "no gate", "Nemotron", _PLAIN),
    _of("granitemoe", "experts", "GraniteMoe", {**_PLAIN, **_LOCAL}),
    _of("mixtral", "experts", "Mixtral", {**_PLAIN, **_LOCAL}),
    _of(
        "qwen2_moe",
        "experts, a gated shared one",
        "Qwen2Moe",
        {**_PLAIN, **_ROUTED, "shared_expert_intermediate_size": 32},
    ),
    _of("qwen3_moe", "experts", "Qwen3Moe", {**_OWN_WIDTH, **_ROUTED}),
    _of("gpt_oss", "turned experts with biases, sinks", "GptOss", {**_OWN_WIDTH, **_LOCAL}),
    _of("deepseek_v3", "latent attention, experts and a shared one", "DeepseekV3", _LATENT),
    _of(
        "llama4",
        "turned experts, chunks",
        "Llama4",
        {
            **_OWN_WIDTH,
            **_LOCAL,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 40,
            "interleave_moe_layer_step": 1,
        },
        config="Llama4TextConfig",
    ),
    _of("mamba", "recurrent", "Mamba", _STATE),
    _of(
        "mamba2",
        "recurrent",
        "Mamba2",
        {**_STATE, "num_heads": 6, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    ),
    _of(
        "jamba",
        "hybrid, experts",
        "Jamba",
        {
            **_PLAIN,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 4,
        },
    ),
    _of(
        "recurrent_gemma",
        "hybrid, gates of three axes",
        "RecurrentGemma",
        {
            **_WIDE,
            **_HEADS,
            "num_hidden_layers": 3,
            "lru_width": 24,
            "attention_window_size": 32,
            "head_dim": 6,
        },
    ),
    _of(
        "lfm2",
        "hybrid, convolutions",
        "Lfm2",
        {**_PLAIN, "layer_types": ["conv", "full_attention"]},
    ),
    _of(
        "qwen3_next",
        "hybrid, experts, a gated shared one",
        "Qwen3Next",
        {**_DELTA, **_ROUTED, "shared_expert_intermediate_size": 16},
    ),
    _of("qwen3_5", "hybrid", "Qwen3_5", _DELTA, config="Qwen3_5TextConfig"),
)
"""Dense and with experts, hybrid and recurrent, ALiBi, norms after, soft caps, nested, tied."""
