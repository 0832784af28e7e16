"""Writes results.h5 and adapters.h5 as analysis/FORMAT.md describes them, with h5py alone, for the tests."""

import h5py
import numpy as np

PHASES = ["train", "move", "all_reduce", "evaluate", "spectra", "write"]
ROOT = {
    "last_round": 3, "program": "pf2lora", "program_version": "0.1.0", "git_commit": "0123456789abcdef",
    "command_line": "pf2lora --rounds 3", "start_utc": "2025-01-02T03:04:05Z", "end_utc": "2025-01-02T03:09:05Z",
    "hosts": ["alpha", "alpha", "beta"], "ranks": 3, "threads": 1, "libtorch_version": "2.13.0",
    "mpi_version": "Open MPI 4.1.4", "hdf5_version": "1.10.8", "cpu_model": "Some CPU",
    "backend": "native avx512 fp32",
}
INPUTS = {"data_name": "wordnet", "data_task": "classification", "data_source": "WordNet 3.0", "data_licence": "WordNet",
          "data_tokenizer": "minilm",
          "data_input_sha256": "c" * 64, "data_sha256": "d" * 64, "model_sha256": "e" * 64}
UNITS = {"train_loss": "nat", "common_loss": "nat", "personal_loss": "nat", "adapted_loss": "nat",
         "phase_seconds": "s", "bytes_up": "byte", "bytes_down": "byte"}
SEGMENTS = {"start_utc": [ROOT["start_utc"], "2025-01-02T03:06:05Z"], "end_utc": ["", ROOT["end_utc"]],
            "exit": ["unknown", "done"], "ranks": [3, 2], "threads": [1, 1], "hosts": ["alpha, beta", "beta"],
            "git_commit": ["0123456789abcdef"] * 2, "libtorch_version": ["2.13.0"] * 2, "cpu_model": ["Some CPU"] * 2,
            "backend": ["native avx512 fp32"] * 2,
            "command_line": ["pf2lora --rounds 3", "pf2lora --rounds 3 --resume"]}
SITES = [f"encoder.layer.{i}.attention.self.{t}" for i in range(3) for t in ("query", "value")]


def write_results(path, variables, options, coordinates, inputs=INPUTS):
    """variables: {name: (dimensions, values)}; coordinates: {dimension: values}, the rest numbered from 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes, rounds = {}, coordinates["round"]
    parts = SEGMENTS | {"first_round": [1, 2], "last_round": [1, rounds[-1]] if len(rounds) else [0, 0]}
    variables = variables | {f"segment_{name}": (("segment",), values) for name, values in parts.items()}
    for dimensions, values in variables.values():
        sizes |= dict(zip(dimensions, np.shape(values)))
    with h5py.File(path, "w") as file:
        root = {"format": "pf2lora-results", "format_version": 2, "algorithm": options["algorithm"], **ROOT, **inputs}
        for name, value in root.items():
            file.attrs[name] = _attribute(value)
        group = file.create_group("options")
        for name, value in options.items():
            group.attrs[name] = _attribute(value)
        for name, size in sizes.items():
            values = coordinates.get(name, np.arange(size))
            scale = _dataset(file, name, values)
            scale.make_scale(name)
        for name, (dimensions, values) in variables.items():
            dataset = _dataset(file, name, values)
            if name in UNITS:
                dataset.attrs["units"] = UNITS[name]
            for axis, dimension in enumerate(dimensions):
                dataset.dims[axis].attach_scale(file[dimension])
    return path


def _attribute(value):
    if isinstance(value, bool):
        return np.int8(value)
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, list):
        return np.array(value, dtype=h5py.string_dtype())
    return value if isinstance(value, str) else np.float64(value)


def _dataset(file, name, values):
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return file.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    wanted = np.int32 if name == "took_part" else np.int64 if values.dtype.kind in "iub" else np.float64
    return file.create_dataset(name, data=values.astype(wanted))


def spectra(rng, records, clients, sites, rank, own, growth):
    """Singular values, overlap, norm ratio and cosine of random pairs of 12 x 10, by numpy's dense SVD."""
    shape = (records, clients, sites)
    found = {"common_singular_values": np.zeros((records, sites, rank)), "client_singular_values": np.zeros((*shape, own)),
             "total_singular_values": np.zeros((*shape, rank + own)), "subspace_overlap": np.full(shape, np.nan),
             "norm_ratio": np.full(shape, np.nan), "cosine": np.full(shape, np.nan)}
    for t in range(records):
        for j in range(sites):
            common = (t + 1) * rng.normal(size=(12, rank)) @ rng.normal(size=(rank, 10))
            found["common_singular_values"][t, j] = np.linalg.svd(common, compute_uv=False)[:rank]
            for k in range(clients):
                mine = growth[k] * rng.normal(size=(12, own)) @ rng.normal(size=(own, 10))
                found["client_singular_values"][t, k, j] = np.linalg.svd(mine, compute_uv=False)[:own]
                found["total_singular_values"][t, k, j] = np.linalg.svd(common + mine, compute_uv=False)[: rank + own]
                found["norm_ratio"][t, k, j] = np.linalg.norm(mine) / np.linalg.norm(common)
                if own:
                    found["cosine"][t, k, j] = (common * mine).sum() / np.linalg.norm(common) / np.linalg.norm(mine)
                    u, v = np.linalg.svd(common)[0][:, :rank], np.linalg.svd(mine)[0][:, :own]
                    found["subspace_overlap"][t, k, j] = np.linalg.norm(u.T @ v) ** 2 / min(rank, own)
    return found


def text_run(path, *, algorithm="pf2lora", seed=1, clients=8, rounds=3, own=2, lift=0.25, adapted=(), held_out=0,
             common=True, partition_seed=None, processes=2, permuted=(), task="classification", classes=4, names=None,
             adds=True, **options):
    """A text run whose accuracies grow by round; the partition depends on partition_seed (the seed) alone.

    Where a client's pair does not add to the common one, it is within the common one's subspace, but for rounding.

    The clients `permuted` read every label as the next class. A run of no rounds has been evaluated as it starts."""
    rng = np.random.default_rng([seed, len(algorithm), clients])
    split = np.random.default_rng([seed if partition_seed is None else partition_seed, clients, 77])
    evaluations = max(rounds, 1)
    records = min(evaluations, 3)
    shares = split.dirichlet(np.full(classes, 0.5), size=clients)
    train = np.array([split.multinomial(n, p) for n, p in zip(split.integers(40, 400, clients), shares)])
    test = np.array([split.multinomial(n, p) for n, p in zip(split.integers(20, 90, clients), shares)])
    n = test.sum(axis=1)
    skill = np.clip(0.35 + lift * (1 - np.exp(-np.arange(1, evaluations + 1) / (0.3 * evaluations)))[:, None]
                    + 0.08 * rng.normal(size=clients) + 0.01 * rng.normal(size=(evaluations, clients)), 0, 1)
    base = np.floor(np.clip(skill - 0.08, 0, 1) * n)
    took = (rng.random((rounds, clients)) < 0.9) & (np.arange(clients) < clients - held_out)
    variables = {
        "train_loss": (("round", "client"), np.where(took, 2 - skill[:rounds], np.nan)),
        "took_part": (("round", "client"), took.astype(int)),
        "gradient_evaluations": (("round", "client"), 30 * took),
        "bytes_up": (("round", "client"), 1024 * took),
        "bytes_down": (("round", "client"), 2048 * took),
        "client_rank": (("round", "client"), np.full((rounds, clients), own)),
        "parameters_trained": (("client",), np.full(clients, 5000)),
        "parameters_stored": (("client",), np.full(clients, 1000)),
        "phase_seconds": (("round", "phase", "process"), rng.random((rounds, 6, processes)) * np.array(
            [3, 0.02, 0.3, 0.7, 0.2, 0.05])[:, None]),
        "common_loss": (("evaluation", "client"), (1.5 - skill) * n if common else np.full(skill.shape, np.nan)),
        "personal_loss": (("evaluation", "client"), (1.2 - skill) * n),
        "common_correct": (("evaluation", "client"), base if common else np.full(skill.shape, np.nan)),
        "personal_correct": (("evaluation", "client"), np.floor(skill * n) if own or not common else base),
        "train_examples": (("client",), train.sum(axis=1)),
        "validation_examples": (("client",), np.zeros(clients, int)),
        "test_examples": (("client",), n),
        "train_class_counts": (("client", "class"), train),
        "test_class_counts": (("client", "class"), test),
        "site_name": (("site",), SITES),
        "site_target": (("site",), [name.rsplit(".", 1)[1] for name in SITES]),
        "site_rows": (("site",), np.full(len(SITES), 12)),
        "site_columns": (("site",), np.full(len(SITES), 10)),
        "class_name": (("class",), [f"class {c}" for c in range(classes)]),
    }
    start = 0
    for part, examples in (("train", train.sum(axis=1)), ("validation", np.zeros(clients, int)), ("test", n)):
        variables[f"{part}_index"] = ((f"{part}_row",), start + split.permutation(examples.sum()))
        variables[f"{part}_offsets"] = (("client_bound",), np.concatenate([[0], np.cumsum(examples)]))
        start += examples.sum()
    if names is not None:
        variables["client_name"] = (("client",), list(names))
    if permuted:
        maps = np.tile(np.arange(classes), (clients, 1))
        maps[list(permuted)] = np.roll(np.arange(classes), -1)
        variables["label_map"] = (("client", "class"), maps)
    if adapted:
        gain = np.array([0.02 + 0.01 * i for i in range(len(adapted))])[:, None]
        correct = np.floor(np.clip(skill[:, None] + gain, 0, 1) * n)
        dimensions = ("evaluation", "adaptation_step", "client")
        variables["adapted_correct"] = (dimensions, correct)
        variables["adapted_loss"] = (dimensions, (1.1 - skill[:, None] + gain) * n)
    _of_task(variables, task)
    dimensions = ("spectrum", "client", "site")
    learned = spectra(rng, records, clients, len(SITES), 4, own, 0.2 + rng.random(clients))
    if not adds:
        learned["total_singular_values"] = learned["client_singular_values"]
        learned["subspace_overlap"] = 1 - 1e-3 * rng.random(learned["subspace_overlap"].shape)
    for name, values in learned.items():
        last = {"common_singular_values": ("spectrum", "site", "common_index"),
                "client_singular_values": (*dimensions, "client_index"),
                "total_singular_values": (*dimensions, "total_index")}.get(name, dimensions)
        variables[name] = (last, values)
    settings = {"problem": "transformer", "algorithm": algorithm, "seed": seed, "held-out-clients": held_out,
                "output": str(path.parent.name), "data": "data/wordnet.h5", "model": "models/minilm", "client-rank": own,
                "rank": 4, "overwrite": False, "learning-rate": 2e-3, "targets": ["query", "value"], **options}
    every = np.arange(1, rounds + 1)
    evaluated = every if rounds else np.array([0])
    coordinates = {"round": every, "evaluation": evaluated, "spectrum": evaluated[-records:], "phase": PHASES}
    if adapted:
        coordinates["adaptation_step"] = np.array(adapted)
    return write_results(path, variables, settings, coordinates, INPUTS | {"data_task": task})


def _of_task(variables, task):
    """Makes what a classification's run measured that of another task: tokens of a generation, correlations."""
    n = variables["test_examples"][1]
    tokens = n * (7 + 5 * np.arange(len(n)) % 19)
    if task == "generation":
        variables["test_tokens"] = (("client",), tokens)
    for kind in ("common", "personal", "adapted"):
        if f"{kind}_correct" not in variables:
            continue
        (dimensions, right), (_, loss) = variables[f"{kind}_correct"], variables[f"{kind}_loss"]
        if task == "generation":
            variables[f"{kind}_correct"] = (dimensions, np.floor(right / n * tokens))
            variables[f"{kind}_loss"] = (dimensions, 3 * loss / n * tokens)
        elif task == "regression":
            del variables[f"{kind}_correct"]
            variables[f"{kind}_pearson"] = (dimensions, 2 * right / n - 0.6)
            variables[f"{kind}_spearman"] = (dimensions, 1.8 * right / n - 0.5)


def matrix_run(path, *, algorithm="pf2lora", seed=1, errors=(1e-8, 2e-7), rounds=40, **options):
    """A matrix run of two 10 x 10 targets of ranks 3 and 5 whose relative errors fall to `errors`."""
    rng, clients = np.random.default_rng(seed), len(errors)
    fall = np.array(errors)[None, :] ** (np.arange(1, rounds + 1)[:, None] / rounds)
    noise = 1e-7
    values = np.full((1, clients, 1, 5), noise)
    values[0, 0, 0, :3] = [3, 2.5, 2]
    values[0, 1:, 0] = [3, 2.5, 2.5, 2, 2]
    site = (("spectrum", "client", "site"))
    variables = {
        "train_loss": (("round", "client"), fall**2), "took_part": (("round", "client"), np.ones((rounds, clients), int)),
        "gradient_evaluations": (("round", "client"), np.full((rounds, clients), 30)),
        "bytes_up": (("round", "client"), np.full((rounds, clients), 640)),
        "bytes_down": (("round", "client"), np.full((rounds, clients), 640)),
        "client_rank": (("round", "client"), np.ones((rounds, clients), int)),
        "parameters_trained": (("client",), np.full(clients, 100)),
        "parameters_stored": (("client",), np.full(clients, 20)),
        "phase_seconds": (("round", "phase", "process"), rng.random((rounds, 6, 1)) * 0.01),
        "common_loss": (("evaluation", "client"), np.full((rounds, clients), 5.0)),
        "personal_loss": (("evaluation", "client"), 10 * fall**2),
        "relative_error": (("evaluation", "client"), fall),
        "common_singular_values": (("spectrum", "site", "common_index"), np.array([[[3, 2.5, 2.2, 2.0]]])),
        "client_singular_values": ((*site, "client_index"), np.full((1, clients, 1, 1), 2.0)),
        "total_singular_values": ((*site, "total_index"), values),
        "subspace_overlap": (site, np.full((1, clients, 1), 0.5)), "norm_ratio": (site, np.full((1, clients, 1), 0.4)),
        "cosine": (site, np.full((1, clients, 1), -0.1)),
        "site_name": (("site",), ["matrix"]), "site_target": (("site",), ["matrix"]),
        "site_rows": (("site",), [10]), "site_columns": (("site",), [10]),
    }
    settings = {"problem": "matrix", "algorithm": algorithm, "seed": seed, "held-out-clients": 0, "rank": 4,
                "output": path.parent.name, **options}
    every = np.arange(1, rounds + 1)
    coordinates = {"round": every, "evaluation": every, "spectrum": every[-1:], "phase": PHASES}
    return write_results(path, variables, settings, coordinates, inputs={})


def adapters_file(path, clients=3, rank=4, own=2, sites=SITES[:2]):
    """adapters.h5 with random pairs and a common head; returns its arrays by path."""
    rng, arrays = np.random.default_rng(5), {}
    for site in sites:
        arrays |= {f"common/{site}/A": rng.normal(size=(rank, 10)), f"common/{site}/B": rng.normal(size=(12, rank)),
                   f"client/{site}/C": rng.normal(size=(clients, own, 10)),
                   f"client/{site}/D": rng.normal(size=(clients, 12, own))}
    arrays |= {"common/head/weight": rng.normal(size=(3, 12)), "common/head/bias": rng.normal(size=3)}
    with h5py.File(path, "w") as file:
        for name, value in {"format": "pf2lora-adapters", "format_version": 2, "round": 3}.items():
            file.attrs[name] = _attribute(value)
        for name, array in arrays.items():
            file.create_dataset(name, data=array.astype(np.float32))
        for site in sites:
            file[f"common/{site}"].attrs["scale"] = np.float64(4)
            file[f"client/{site}"].attrs["scale"] = np.float64(8)
            for owner in ("common", "client"):
                file[f"{owner}/{site}"].attrs["combines"] = "adds"
    return {name: array.astype(np.float32) for name, array in arrays.items()}
