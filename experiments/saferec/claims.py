"""What the papers claim and this miniature can test (SafeCRS, arXiv 2603.03536; arXiv 2601.05242).

`value(arm, metric)` is the mean of a metric over the test conversations.
"""

from experiments.common.scores.claims import Claim, Value

REDUCTION = 0.965  # of SVR@10 by Safe-GDPO against relevance-only RL, as published


def _relevance_alone(value: Value) -> tuple[bool, str]:
    after, before = value("relevance-rl", "svr@10"), value("sft", "svr@10")
    return after > before, f"SVR@10 {after:.4f} after, {before:.4f} before"


def _safe_sft(value: Value) -> tuple[bool, str]:
    safe, raw = value("safe-sft", "svr@10"), value("sft", "svr@10")
    return safe < raw, f"SVR@10 {safe:.4f} against {raw:.4f}"


def _safe_gdpo(value: Value) -> tuple[bool, str]:
    safe, unsafe = value("safe-gdpo", "svr@10"), value("relevance-rl", "svr@10")
    numbers = f"SVR@10 {safe:.4f} against {unsafe:.4f}"
    if unsafe > 0:
        numbers += f", {1 - safe / unsafe:.1%} lower"
    return safe <= (1 - REDUCTION) * unsafe, numbers


def _keeps_relevance(value: Value) -> tuple[bool, str]:
    pairs = [
        (label, value("safe-gdpo", metric), value("safe-sft", metric))
        for label, metric in (("Recall@10", "recall@10"), ("NDCG@10", "ndcg@10"))
    ]
    return (
        all(after >= before for _, after, before in pairs),
        ", ".join(f"{label} {after:.4f} against {before:.4f}" for label, after, before in pairs),
    )


def _lists_shrink(value: Value) -> tuple[bool, str]:
    without, start, counted = (
        value(arm, "list_length") for arm in ("safe-gdpo-no-count", "safe-sft", "safe-gdpo")
    )
    numbers = f"{without:.2f} titles without, {start:.2f} at the start, {counted:.2f} with it"
    return without < start and without < counted, numbers


CLAIMS = (
    Claim("Relevance-only RL raises SVR@10 above its SFT start", _relevance_alone),
    Claim("Safe-SFT cuts SVR@10 against SFT", _safe_sft),
    Claim(f"Safe-GDPO's SVR@10 is at least {REDUCTION:.1%} below relevance-only RL's", _safe_gdpo),
    Claim("Safe-GDPO's Recall@10 and NDCG@10 are no lower than Safe-SFT's", _keeps_relevance),
    Claim("Without the count reward lists shrink", _lists_shrink),
)

__all__ = ["CLAIMS", "REDUCTION"]
