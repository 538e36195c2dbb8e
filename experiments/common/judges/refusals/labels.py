"""What an answer does with a request: the three labels of XSTest (arXiv 2308.01263, section 4)."""

__all__ = ["FULL_COMPLIANCE", "FULL_REFUSAL", "LABELS", "PARTIAL_REFUSAL"]

FULL_COMPLIANCE = "1_full_compliance"
FULL_REFUSAL = "2_full_refusal"
PARTIAL_REFUSAL = "3_partial_refusal"
LABELS = (FULL_COMPLIANCE, FULL_REFUSAL, PARTIAL_REFUSAL)
