"""The code of docs/rewards.md runs as it stands."""

import asyncio
import re
from pathlib import Path

from gdpo_jax.rollouts import Completion, score

TEXT = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
RECORD = {"prompt": "2 + 2 =", "answer": "4"}


def completion(text, finished=True):
    return Completion(text=text, token_ids=(), spans=(), finished=finished)


def scored(functions, texts):
    batch = score(
        functions,
        [completion(text) for text in texts],
        [RECORD] * len(texts),
        num_prompts=1,
        num_samples=len(texts),
    )
    return batch.names, batch.values[0].tolist()


def test_the_examples_run(tmp_path, monkeypatch):
    first, by_hand, waiting, of_trl, files = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    space = {}
    exec(first, space)
    brevity = space["Brevity"]()
    assert brevity([completion("two words"), completion("cut", False)], [{}, {}]) == [-2.0, None]
    exec(by_hand, space)
    assert space["rewards"].values.tolist() == [[[1, -1], [0, -3]]]

    async def ask_judge(prompt, text):
        await asyncio.sleep(0)
        return len(text) / 2

    space["ask_judge"] = ask_judge
    exec(waiting, space)
    assert scored([space["judged"]], ["4", "44"]) == (("judged",), [[0.5], [1.0]])
    exec(of_trl, space)
    texts = ["<think>\n</think>4", "5"]
    assert scored(space["trl_rewards"], texts) == (("format", "right"), [[1, 1], [0, 0]])
    (tmp_path / "train.jsonl").write_text('{"prompt": "2 + 2 =", "answer": "4"}\n')
    monkeypatch.chdir(tmp_path)
    exec(files, space)
    assert space["records"] == [RECORD] and len(space["digest"]) == 16


def test_the_table_lists_every_field_of_a_completion():
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(Completion.__annotations__)
