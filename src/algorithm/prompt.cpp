// Soft prompts in place of low-rank pairs: vectors before the tokens (prompt), or before the keys and values
// of every layer (prefix), averaged as HOMLoRA averages adapters. With --client-prompts each client has
// further vectors of its own, learned as PF2LoRA learns its second level. Prompts: Lester et al., The Power
// of Scale for Parameter-Efficient Prompt Tuning, EMNLP 2021; federated by Guo et al., PromptFL, 2022 (arXiv
// 2208.11625). Prefixes: Liu et al., P-Tuning v2, 2022 (arXiv 2110.07602).
#include "algorithm/pf2lora.h"
#include "algorithm/registry.h"
#include "core/error.h"

namespace pf2lora {
namespace {

struct PromptOptions final : Pf2LoraOptions {
  int64_t prompts = 10;
  int64_t client_prompts = 0;

  void visit(OptionVisitor& v) override {
    v.option("prompts", prompts, "vectors of the common prompt, or of each layer's common prefix",
             at_least(1));
    v.option("client-prompts", client_prompts, "further vectors of each client's own; 0: one level alone",
             at_least(0));
    Pf2LoraOptions::visit(v);
  }
};

enum class Place { tokens, layers };

std::unique_ptr<Algorithm> make(const Options& options, const OptionSet* set, const Problem& problem,
                                Place place) {
  const auto& own = dynamic_cast<const PromptOptions&>(*set);
  const auto room = problem.model().prompt_room();
  if (!room)
    throw OptionError("--algorithm " + options.algorithm + " needs tokens, which --problem " +
                      options.problem + " has not; choose another method or --problem transformer");
  const auto level = [&](int64_t vectors, std::array<std::string, 2> names, Owner owner) {
    return Level({}, 0, 1, names, head_of(owner, options, problem),
                 PromptShape{vectors, room->width, place == Place::layers ? room->layers : 0});
  };
  return std::make_unique<Pf2Lora>(options, own, problem, level(own.prompts, {"A", "B"}, Owner::common),
                                   level(own.client_prompts, {"C", "D"}, Owner::client));
}

std::unique_ptr<OptionSet> prompt_options() {
  return std::make_unique<PromptOptions>();
}

}  // namespace

AlgorithmRow prompt() {
  return {"prompt",
          "common soft prompts before the tokens, and each client's own",
          [](const Options& options, const OptionSet* own, const Problem& problem) {
            return make(options, own, problem, Place::tokens);
          },
          prompt_options,
          {.prompts = true}};
}

AlgorithmRow prefix() {
  return {"prefix",
          "common prefixes of every layer's keys and values, and each client's own",
          [](const Options& options, const OptionSet* own, const Problem& problem) {
            return make(options, own, problem, Place::layers);
          },
          prompt_options,
          {.prompts = true}};
}

}  // namespace pf2lora
