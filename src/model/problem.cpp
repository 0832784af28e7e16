#include "model/problem.h"

#include "core/error.h"
#include "model/matrix_problem.h"
#include "model/text_problem.h"

namespace pf2lora {

std::unique_ptr<Problem> make_problem(const Options& options, const Demands& demands, int64_t local_rank) {
  if (options.problem == "transformer") return std::make_unique<TextProblem>(options, demands, local_rank);
  if (demands.pool == TrainingPool::all_as_one)
    throw OptionError("--algorithm " + options.algorithm +
                      " pools examples, and the matrix problem has none; choose another algorithm or "
                      "--problem transformer");
  if (options.backend == "native")
    throw OptionError("--backend native is not offered for --problem matrix; leave it at auto or reference");
  if (options.device != "cpu")
    throw OptionError("--device " + options.device +
                      " is not offered for --problem matrix, which is too small for it; give --device cpu");
  if (options.precision != "auto" && options.precision != "fp64")
    throw OptionError("--precision " + options.precision +
                      " is not offered for --problem matrix; leave it at auto or fp64");
  return std::make_unique<MatrixProblem>(options);
}

}  // namespace pf2lora
