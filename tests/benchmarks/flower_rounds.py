"""Rounds of federated LoRA with Flower's simulation engine on one core; runs in Flower's own environment.

usage: flower_rounds.py PLAN OUTPUT: PLAN is written by rounds.py; OUTPUT gets, for every round, the time of its end,
the seconds that its clients spent in local steps, and the mean loss of each.
"""

import json
import sys
import tempfile
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

import flower_client


class PlannedFedAvg(FedAvg):
    """FedAvg with the cohorts of a plan; the node with the k-th lowest number plays client k."""

    def __init__(self, path, plan):
        super().__init__(fraction_evaluate=0.0)
        self.path, self.plan, self.record = path, plan, []

    def configure_train(self, server_round, arrays, config, grid):
        while len(nodes := sorted(grid.get_node_ids())) < self.plan["clients"]:
            time.sleep(0.01)
        messages = []
        for client in self.plan["rounds"][server_round - 1]:
            config = ConfigRecord({"plan": self.path, "server-round": server_round, "client": client})
            content = RecordDict({"arrays": arrays, "config": config})
            messages.append(
                Message(content=content, message_type=MessageType.TRAIN, dst_node_id=nodes[int(client)])
            )
        return messages

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        metrics = [dict(reply.content["metrics"]) for reply in replies if not reply.has_error()]
        cohort = self.plan["rounds"][server_round - 1]
        if len(metrics) != len(cohort):
            raise RuntimeError(f"{len(metrics)} of {len(cohort)} clients answered in round {server_round}")
        losses = {str(row["client"]): row["loss"] for row in metrics}
        in_steps = sum(row["in-steps"] for row in metrics)
        self.record.append({"ended": time.time(), "in_steps": in_steps, "loss": losses})
        return result


def main():
    path, output = sys.argv[1:]
    with open(path) as file:
        plan = json.load(file)
    start = {name: Array(np.array(values, dtype=np.float32)) for name, values in plan["start"].items()}
    strategy = PlannedFedAvg(path, plan)
    server = ServerApp()

    @server.main()
    def serve(grid, _):
        # Answers of clients have the shapes of the parameters; these are flat.
        strategy.start(grid, ArrayRecord(start), num_rounds=len(plan["rounds"]))

    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # short: sockets lie in it
        run_simulation(
            server_app=server,
            client_app=flower_client.app,
            num_supernodes=plan["clients"],
            backend_config={
                "init_args": {"num_cpus": 1, "num_gpus": 0, "log_to_driver": False, "_temp_dir": scratch},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    with open(output, "w") as file:
        json.dump(strategy.record, file)


if __name__ == "__main__":
    main()
