"""Makes the fixtures *-variant: tiny random models that use the rarer settings, with the outputs of transformers.

Usage: python variants.py DIR    (needs torch, transformers, safetensors)
"""

import json
import pathlib
import sys

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

IDS = [[5, 17, 3, 28, 9, 14, 22, 1, 30, 11, 8], [7, 2, 19, 25, 6, 13, 4, 20, 2, 2, 2]]
MASK = [[1] * 11, [1] * 8 + [0] * 3]
SMALL = dict(hidden_size=16, num_hidden_layers=2, vocab_size=31, max_position_embeddings=32)
LLAMA = dict(SMALL, num_attention_heads=4, num_key_value_heads=2, head_dim=6, intermediate_size=20)


def variants():
    yield "opt-variant", hf.OPTForCausalLM, hf.OPTConfig(
        **SMALL, num_attention_heads=4, ffn_dim=20, word_embed_proj_dim=8, do_layer_norm_before=False,
        activation_function="gelu"), torch.float16
    yield "llama-variant", hf.LlamaForCausalLM, hf.LlamaConfig(
        **LLAMA, attention_bias=True, mlp_bias=True,
        rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=5000.0)), torch.bfloat16
    yield "qwen3-variant", hf.Qwen3ForCausalLM, hf.Qwen3Config(
        **LLAMA, attention_bias=True, use_sliding_window=True, sliding_window=3, max_window_layers=1,
        tie_word_embeddings=True), torch.float32
    yield "gpt2-variant", hf.GPT2LMHeadModel, hf.GPT2Config(
        n_embd=16, n_layer=2, n_head=4, n_positions=32, vocab_size=31, n_inner=20, tie_word_embeddings=False,
        scale_attn_by_inverse_layer_idx=True, activation_function="relu", bos_token_id=0, eos_token_id=0), torch.float32
    yield "bert-variant", hf.BertForMaskedLM, hf.BertConfig(
        **SMALL, num_attention_heads=2, intermediate_size=20, hidden_act="gelu_new"), torch.bfloat16


def old_names(folder):
    """Norms as the first BERT files call them."""
    file = folder / "model.safetensors"
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.clone()
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})


def main(root):
    for seed, (name, kind, config, dtype) in enumerate(variants()):
        torch.manual_seed(seed)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((parameter + 0.3 * torch.randn_like(parameter)).to(dtype))
        folder = pathlib.Path(root) / name
        encoder = hasattr(model, "bert")
        with torch.no_grad():
            output = (model.bert if encoder else model)(
                input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK))
        values = output.last_hidden_state if encoder else output.logits
        # Only now: to() also rounds the rotary frequencies, which transformers keeps in fp32 when it loads a model.
        model.to(dtype).save_pretrained(folder)
        if encoder:
            old_names(folder)
        expected = dict(
            output="last_hidden_state" if encoder else "logits", input_ids=IDS, attention_mask=MASK,
            shape=list(values.shape), values=[float(f"{v:.7g}") for v in values.flatten().tolist()])
        (folder / "expected.json").write_text(json.dumps(expected))
        (folder / "generation_config.json").unlink(missing_ok=True)


main(sys.argv[1])
