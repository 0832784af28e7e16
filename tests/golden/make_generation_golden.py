"""Texts that transformers generates, which the C++ generator is compared with (tests/model/generator_test.cpp).

usage: make_generation_golden.py OUTPUT_DIR

Writes, for small random decoders, OUTPUT_DIR/generation_NAME.h5 beside generation_NAME/ (config.json and
model.safetensors as transformers saves them). Every file:

    tokens, offsets                     prompts
    client                              [prompts] whose adapters each is continued with: 0, 1 or 2
    adapters/<client>/<site>/A, B       LoRA pairs of PEFT, with the attribute scale on adapters; of one module that
                                        holds query, key and value, a site each
    generated/<rule>/prompts            the numbers of those that are continued: all, or about a quarter
    generated/<rule>/tokens, offsets    what follows each of them, without the end token; attributes most_tokens, beams,
                                        no_repeat_ngram and length_penalty
    attribute end_token

Each prompt is continued alone, without padding, with adapters merged, in double (transformers rounds scores to single
precision before it compares them). No text grows beyond the model's positions.

Files that this script has written with the same versions of everything are kept.
"""

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from golden_files import make_stale, new_file, recipe

PROMPTS, POSITIONS, VOCABULARY, CLIENTS, RANK, ALPHA = 24, 48, 120, 3, 3, 6
RULES = {  # most_tokens, beams, no_repeat_ngram, length_penalty
    "greedy": (20, 1, 0, 1.0),
    "beams_4": (20, 4, 0, 1.0),
    "greedy_ngram_4": (20, 1, 4, 1.0),
    "greedy_ngram_1": (20, 1, 1, 1.0),
    "beams_4_penalty": (20, 4, 0, 0.9),
    "beams_4_ngram_4": (20, 4, 4, 1.0),
    "beams_4_penalty_ngram_4": (20, 4, 4, 0.9),
    "beams_10_penalty_ngram_4": (12, 10, 4, 0.9),
    "beams_4_longer_ngram_2": (12, 4, 2, 2.0),
}
OF_ALL_PROMPTS = ("greedy", "beams_4")
FUSED = {"attn.c_attn": ("query", "key", "value")}  # in equal parts


def configuration(name: str):
    if name == "gpt2":
        return transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=4, n_inner=48
        )
    shape = dict(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, rms_norm_eps=1e-5,
    )
    if name == "llama":
        return transformers.LlamaConfig(**shape, num_key_value_heads=4, tie_word_embeddings=False)
    return transformers.Qwen2Config(**shape, num_key_value_heads=2, tie_word_embeddings=True)


def save_model(directory: Path, name: str, random) -> None:
    model = transformers.AutoModelForCausalLM.from_config(configuration(name))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            one = parameter.dim() == 1 and parameter_name.endswith("weight")
            parameter.normal_(1.0 if one else 0.0, 0.25, generator=random)
    model.save_pretrained(directory, safe_serialization=True)


def load(directory: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").double().eval()


def adapted(directory: Path, random):
    """The model with random adapters merged, and their pairs by <site>/A and <site>/B."""
    model = load(directory)
    linear = [name for name, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv1D")]
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", target_modules=[n for n in linear if n != "lm_head"],
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    model = peft.get_peft_model(model, config).double()
    pairs = {}
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            continue
        with torch.no_grad():
            parameter.normal_(0.0, 0.2, generator=random)
        site, _, letter = name.removeprefix("base_model.model.").partition(".lora_")
        site = site.split(".", 1)[1]  # without the name of the base model
        module = next((module for module in FUSED if site.endswith(module)), None)
        if module is None:
            pairs[f"{site}/{letter[0]}"] = parameter.detach().numpy().copy()
            continue
        parts = parameter.detach().chunk(3) if letter[0] == "B" else [parameter.detach()] * 3
        for target, part in zip(FUSED[module], parts):
            pairs[f"{site}.{target}/{letter[0]}"] = part.numpy().copy()
    return model.merge_and_unload().eval(), pairs


def generate(model, ids, rule, end_token):
    most_tokens, beams, ngram, penalty = rule
    settings = transformers.GenerationConfig(
        max_new_tokens=min(most_tokens, POSITIONS - len(ids)), do_sample=False, num_beams=beams,
        no_repeat_ngram_size=ngram, length_penalty=penalty, early_stopping=False,
        eos_token_id=end_token, pad_token_id=end_token if end_token is not None else 0,
    )
    prompt = torch.tensor([ids])
    with torch.no_grad():
        text = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
    new = text[0, len(ids) :].tolist()
    return new[: new.index(end_token)] if end_token in new else new


def flat(lists) -> dict:
    return {
        "tokens": np.array([token for tokens in lists for token in tokens], dtype=np.int32),
        "offsets": np.cumsum([0] + [len(tokens) for tokens in lists], dtype=np.int64),
    }


def make(path: Path, made_by: str, name: str) -> None:
    random = torch.Generator().manual_seed(11)
    directory = path.with_suffix("")
    save_model(directory, name, random)
    models, pairs = zip(*(adapted(directory, random) for _ in range(CLIENTS)))
    lengths = [1, 46, 2, 47] + torch.randint(1, POSITIONS - 12, (PROMPTS - 4,), generator=random).tolist()
    prompts = [torch.randint(0, VOCABULARY, (length,), generator=random).tolist() for length in lengths]
    client = sorted(i % CLIENTS for i in range(PROMPTS))

    def continued(rule, end_token, chosen=range(PROMPTS)):
        return [generate(models[client[i]], prompts[i], rule, end_token) for i in chosen]

    # The token that ends texts is one that would stand in a good part of them.
    found = Counter(token for text in continued(RULES["greedy"], None) for token in set(text))
    end_token = min(found, key=lambda token: (abs(found[token] - PROMPTS // 4), token))
    some = [i for i in range(PROMPTS) if i < 4 or i % 4 == 0]  # the shortest and the longest among them
    with new_file(path, made_by) as file:
        for key, values in flat(prompts).items():
            file[key] = values
        file["client"] = np.array(client, dtype=np.int32)
        file.create_group("adapters").attrs["scale"] = ALPHA / RANK
        for c, values in enumerate(pairs):
            for key, value in values.items():
                file[f"adapters/{c}/{key}"] = value
        file.attrs["end_token"] = end_token
        for rule_name, rule in RULES.items():
            chosen = list(range(PROMPTS)) if rule_name in OF_ALL_PROMPTS else some
            texts = continued(rule, end_token, chosen)
            group = file.create_group(f"generated/{rule_name}")
            group.attrs.update(zip(("most_tokens", "beams", "no_repeat_ngram", "length_penalty"), rule))
            group["prompts"] = np.array(chosen, dtype=np.int64)
            for key, values in flat(texts).items():
                group[key] = values
            room = [min(rule[0], POSITIONS - lengths[i]) for i in chosen]
            ended = sum(len(text) < most for text, most in zip(texts, room))
            print(f"{name} {rule_name}: {ended} of {len(chosen)} texts end, {len(set(map(tuple, texts)))} differ")


def load_packages() -> None:
    """Slow, and not needed where nothing is to be made."""
    global peft, torch, transformers
    import peft
    import torch
    import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    made_by = recipe(Path(__file__), ("torch", "transformers", "peft"))
    makers = {f"generation_{name}": partial(make, made_by=made_by, name=name) for name in ("gpt2", "llama", "qwen2")}
    make_stale(given.output, made_by, makers, load_packages)


if __name__ == "__main__":
    main()
