#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/option_values.h"
#include "core/options.h"

namespace pf2lora {
namespace {

std::string number(int64_t value) {
  return std::to_string(value);
}

void check_clients(const Options& options) {
  if (options.held_out_clients >= options.clients) {
    throw OptionError("option held-out-clients: " + number(options.held_out_clients) + " of clients = " +
                      number(options.clients) + " leaves nobody to train; hold out fewer or raise clients");
  }
  const int64_t training = options.clients - options.held_out_clients;
  if (options.clients_per_round > training) {
    throw OptionError("option clients-per-round: " + number(options.clients_per_round) + " of only " +
                      number(training) +
                      " clients that train (clients less held-out-clients); draw fewer, or 0 for all");
  }
}

void check_distinct(const std::string& option, std::vector<std::string> entries) {
  std::ranges::sort(entries);
  const auto twice = std::ranges::adjacent_find(entries);
  if (twice != entries.end()) {
    throw OptionError("option " + option + ": '" + *twice + "' is given twice; name it once");
  }
}

void require_positive(const std::string& option, const std::vector<double>& values) {
  const auto bad = std::ranges::find_if(values, [](double value) { return !(value > 0); });
  if (bad != values.end()) {
    throw OptionError("option " + option + ": " + std::to_string(*bad) +
                      " is no singular value; give numbers above 0");
  }
}

// Each client's target has the common singular values and its own on orthonormal directions.
void check_matrix(const Options& options) {
  const auto common = parse_number_list("matrix-common-values", options.matrix_common_values);
  const auto clients = parse_client_values("matrix-client-values", options.matrix_client_values);
  require_positive("matrix-common-values", common);
  for (const auto& own : clients) require_positive("matrix-client-values", own);
  if (options.problem != "matrix") return;
  const int64_t room = std::min(options.matrix_rows, options.matrix_columns);
  const auto used = std::min<int64_t>(options.clients, static_cast<int64_t>(clients.size()));
  for (int64_t client = 0; client < used; ++client) {
    const auto rank = static_cast<int64_t>(common.size() + clients[static_cast<std::size_t>(client)].size());
    if (rank == 0) {
      throw OptionError("option matrix-client-values: the target of client " + number(client) +
                        " has no singular value at all; give some to it or to matrix-common-values");
    }
    if (rank > room) {
      throw OptionError("option matrix-client-values: the target of client " + number(client) + " has " +
                        number(rank) + " singular values, but a matrix of " + number(options.matrix_rows) +
                        " x " + number(options.matrix_columns) + " holds " + number(room) +
                        "; give fewer or raise matrix-rows and matrix-columns");
    }
  }
}

void require_text(const std::string& option, const std::string& value) {
  if (value.empty()) throw OptionError("option " + option + ": the value is empty; give a path");
}

}  // namespace

void check(const Options& options) {
  require_text("output", options.output);
  if (options.resume && options.overwrite) {
    throw OptionError("options resume and overwrite exclude each other: the first goes on with the run in '" +
                      options.output + "', the second discards it; give one of them");
  }
  if (options.problem == "transformer") {
    require_text("model", options.model);
    require_text("data", options.data);
  }
  check_clients(options);
  if (options.targets.empty()) throw OptionError("option targets: no matrix is named; name at least one");
  check_distinct("targets", options.targets);
  check_adapted_layers(options.adapted_layers);
  parse_adaptation_steps(options.adaptation_steps);
  check_matrix(options);
}

}  // namespace pf2lora
