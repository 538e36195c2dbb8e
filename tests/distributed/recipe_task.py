"""The task that tests of the front door run in processes of their own, and in one."""

from gdpo_jax import answer, gdpo, open_model, optimize
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.recipe import sampler_config
from gdpo_jax.training import Evaluation, MeshConfig, OptimizerConfig, PolicyOptimizationConfig

RECORDS = [{"prompt": f"List {n} films", "letter": "aeiou"[n % 5]} for n in range(16)]


def letters(completions, records):
    return [c.text.count(r["letter"]) / 8 for c, r in zip(completions, records)]


def brief(completions, records):
    return [-float(len(c.text)) for c in completions]


def run(folder, workdir):
    """Two steps over all devices with an evaluation, and four answers of the trained policy."""
    model = open_model(folder, MeshConfig(data=4, fsdp=2))
    sampler = sampler_config(model, max_new_tokens=6)
    state = optimize(
        model,
        RECORDS,
        rewards=[letters, brief],
        estimator=gdpo({"letters": 1.0, "brief": 0.5}),
        objective=ObjectiveConfig(kl="k3", kl_coef=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        config=PolicyOptimizationConfig(steps=2, prompts_per_step=8, num_samples=2),
        sampler=sampler,
        evaluation=Evaluation(records=RECORDS[:5], every=2, batch_size=8),
        workdir=workdir,
    )
    greedy = sampler_config(model, max_new_tokens=6, temperature=0.0)
    prompts = [record["prompt"] for record in RECORDS[:4]]
    return state, answer(model, prompts, state=state, sampler=greedy)
