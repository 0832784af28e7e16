// pf2lora: a simulator of personalised federated fine-tuning.
#include "app/program.h"

int main(int argc, char** argv) {
  pf2lora::run_process({argv + 1, size_t(argc - 1)});
}
