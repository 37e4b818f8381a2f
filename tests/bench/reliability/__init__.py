"""What is killed, failed, fuzzed, crowded and forged, and what was lost: `python -m tests.bench.reliability`."""
