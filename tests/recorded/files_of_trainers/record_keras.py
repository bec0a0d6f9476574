"""Train a small network with Keras and tf_keras, save it in each of their formats, and record how it goes on.

    python tests/recorded/files_of_trainers/record_keras.py

With keras 3.15.1, tf_keras 2.21.0 and tensorflow 2.21.0. Each gradient is applied twice where two make a step.
"""

import os

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import going_on
import keras
import numpy as np
import tensorflow as tf
import tf_keras

NUMBERS = {"momentum": 0.9, "centered": True}


def schedule(library):
    return library.optimizers.schedules.ExponentialDecay(0.05, 10, 0.5)


def scaled(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer)


FILES = {
    "keras_plain.keras": (keras, lambda: keras.optimizers.RMSprop(0.05, **NUMBERS)),
    "keras_schedule.weights.h5": (keras, lambda: keras.optimizers.RMSprop(schedule(keras), **NUMBERS)),
    "keras_schedule_legacy.h5": (keras, lambda: keras.optimizers.RMSprop(schedule(keras), momentum=0.9)),
    "keras_averaged.keras": (keras, lambda: keras.optimizers.RMSprop(0.05, use_ema=True, **NUMBERS)),
    "keras_accumulating.keras": (
        keras,
        lambda: keras.optimizers.RMSprop(0.05, momentum=0.9, gradient_accumulation_steps=2),
    ),
    "keras_scaled.keras": (keras, lambda: scaled(keras.optimizers.RMSprop(schedule(keras), use_ema=True, **NUMBERS))),
    "keras_scaled_legacy.h5": (keras, lambda: scaled(keras.optimizers.RMSprop(0.05, use_ema=True, momentum=0.9))),
    "tf_keras_plain.keras": (tf_keras, lambda: tf_keras.optimizers.RMSprop(0.05, **NUMBERS)),
    "tf_keras_legacy.h5": (tf_keras, lambda: tf_keras.optimizers.RMSprop(schedule(tf_keras), use_ema=True)),
}


def short(name):
    return "/".join(name.removesuffix(":0").split("/")[-2:])


def main():
    for file, (library, make) in FILES.items():
        library.utils.set_random_seed(0)
        library.backend.clear_session()
        model = library.Sequential([library.layers.Dense(4, name="first"), library.layers.Dense(2, name="last")])
        model.build((None, 3))
        model.compile(make(), "mse")
        rng = np.random.default_rng(0)
        model.fit(rng.normal(size=(48, 3)).astype("f"), np.zeros((48, 2), "f"), batch_size=8, verbose=0)
        save = model.save_weights if file.endswith(".weights.h5") else model.save
        save(going_on.HERE / file)
        weights = {short(getattr(v, "path", v.name)): v for v in model.trainable_variables}
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        times = getattr(optimizer, "gradient_accumulation_steps", None) or 1

        def step(grads, optimizer=optimizer, weights=weights, times=times):
            for _ in range(times):
                pairs = [(tf.constant(grads[name]), v) for name, v in weights.items()]
                optimizer.apply_gradients(pairs)
            return {name: v.numpy() for name, v in weights.items()}

        going_on.write(file.partition(".")[0], {name: v.numpy() for name, v in weights.items()}, step)


if __name__ == "__main__":
    main()
