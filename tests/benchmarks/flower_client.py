"""The client of flower_rounds.py: peft_step's loop on the batches that the plan names.

A careful user's client: an actor loads the model and the data once and keeps them, and only adapters and head travel.
Whatever is heavy is imported in the actor alone.
"""

import functools
import json

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@functools.lru_cache(maxsize=1)
def load(path):
    import peft_step

    with open(path) as file:
        plan = json.load(file)
    sentences = peft_step.Sentences(plan["data"])
    return plan, sentences, peft_step.make_model(plan["model"], sentences.classes)


@app.train()
def train(message, _):
    import peft_step

    config = message.content["config"]
    plan, sentences, model = load(config["plan"])
    batches = plan["rounds"][config["server-round"] - 1][config["client"]]
    peft_step.set_values(model, message.content["arrays"].to_torch_state_dict())
    optimizer = peft_step.make_optimizer(model, plan["learning_rate"])
    taken = peft_step.take_steps(model, optimizer, sentences, batches)
    values = {name: value.detach() for name, value in peft_step.trained_values(model).items()}
    # The average is uniform: every client counts as one example.
    metrics = {"num-examples": 1, "client": int(config["client"]), "in-steps": sum(taken["seconds"])}
    metrics["loss"] = sum(taken["loss"]) / len(batches)
    content = RecordDict({"arrays": ArrayRecord(values), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)
