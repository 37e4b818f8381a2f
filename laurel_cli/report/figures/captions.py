"""Which figures there are, what each is made from, and what it shows."""

CAPTIONS = {
    "frontier": "Quality against each cost; up and left is better. Filled: on the frontier; half filled: tied; hollow: "
    "dominated, or not known. The line steps through the arms that no other beats by its mean; what lies under it is "
    "shaded. Vertical bars: 95 % interval of the difference to the baseline (corrected for the number of arms); "
    "horizontal bars: 95 % interval of a measured cost.",
    "sweep": "Quality against the rank (the paper's Figure 3); bars: 95 % t-interval of the mean. Dashed lines: arms "
    "without a rank.",
    "curves": "Learning curves: means over seeds of the evaluations on the way; bands: 95 % t-interval of the mean.",
    "latency": "Time as a ratio to the baseline's: each dot is one placement of the models in memory, the bar the 95 % "
    "interval of the estimate.",
    "where": "Parameters added at each residual connection, in the order of execution; of each formula the arm of "
    "largest rank. A darker background is another stream: the history that PA reads starts anew.",
    "coefficients": "Learned residual weights at each connection, means over seeds: a of the branch f(x), b of the "
    "skip. The ordinary residual has 1 and 1.",
}
# The part of a comparison that a figure shows; it is drawn where that is not empty.
DATA = {
    "frontier": "panels",
    "sweep": "sweeps",
    "curves": "curves",
    "latency": "latencies",
    "where": "where",
    "coefficients": "coefficients",
}
