"""Why no member of the RMSprop family wins: a sentence for each family of tasks, with what was measured in braces.

Numbers are medians over the last 256 steps of `member` at its chosen `rate` on `difficulty`, the first that it failed.
"""

REASONS = {
    "quadratic_flip": (
        "Half of the squares are negative more often than not, so that their gradients lead away from 0: at every "
        "rate the runs end further away than they began."
    ),
    "quadratic_quantization_aware_training": (
        "The objective rounds the weights, which has no derivative: gradients have size {gradient_rms}, and "
        "nothing moves."
    ),
    "vanishing_gradient": (
        "The objective is largest at 0, where a win is: {reversed} of the steps turn back, and the weights have "
        "gone to {weight_rms}."
    ),
    "minimax": (
        "Both halves of the parameters have equal gradients, so that their difference, most of the {score} that "
        "remains, never changes: updates are {update_rms} in size."
    ),
    "wide_linear": (
        "A win is measured from minus the solution (LightBench adds where it should subtract): the distance of "
        "{score} cannot shrink while the loss does."
    ),
    "plateau_navigation": (
        "At the start the gradient is {gradient_rms}, far below the root of eps, 1e-4: steps are {update_rms} long "
        "at this rate, and in proportion at the others."
    ),
    "quadratic_varying_scale": (
        "eps exceeds nu in a share {eps_dominates} of the elements, so that all have the same effective rate, "
        "{effective_learning_rate}, and the smallest of 131,072 scales lags: {score} is left."
    ),
    "quadratic_outliers": (
        "Gradients jump by the outliers' factor, which nu follows within ten steps: a step is {update_to_weight} "
        "of the weights, and {reversed} of the elements turn back in each step."
    ),
    "quadratic_sparse": (
        "Only the largest element has a gradient, and nu forgets the others' between their turns: a step of "
        "{update_rms} beside a distance of {score}."
    ),
    "absolute_varying_scale": (
        "The gradient does not shrink near 0, so that steps do not either: {update_rms}, about the distance left, "
        "{score}; a distance of 1e-7 needs a rate as small, which needs more steps."
    ),
    "ill_conditioned_mismatched": (
        "Scales from 1e-6 to 1e6: eps exceeds nu in a share {eps_dominates} of the elements, which need a large "
        "rate, while the others turn back ({reversed} of all elements in each step)."
    ),
    "scale_invariant": (
        "Gradients fall as 1/x, so that a start of 1,000 needs a large rate, at which elements near 0 turn back: "
        "{reversed} of them in each step, by {update_rms}."
    ),
    "layer_wise_scale": (
        "eps exceeds nu in a share {eps_dominates} of the elements: the layers with small gradients move as with "
        "SGD, {update_rms} in a step, and keep a size of {weight_rms}."
    ),
    "gradient_noise_scale_white": (
        "Noise makes steps of {update_rms} around the minimum, {reversed} of them turning back: {score} is left, "
        "and a smaller rate does not arrive within {steps} steps."
    ),
    "gradient_noise_scale_heavy_tailed": (
        "The noise is Cauchy's, without a variance: nu rises with each outlier (its root is {root_nu}, the "
        "gradient's size {gradient_rms}) and forgets it, so that {score} is left."
    ),
    "gradient_noise_scale_instantaneous_brown": (
        "The noise is correlated over the elements: steps of {update_rms}, {reversed} of them turning back, leave "
        "{score}."
    ),
    "gradient_noise_scale_temporal_brown": (
        "The noise is a random walk, which the weights follow: only {reversed} of the steps turn back, and the "
        "distance, {score}, is the noise's, 1/32."
    ),
}
