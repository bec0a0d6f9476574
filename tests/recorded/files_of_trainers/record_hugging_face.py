"""Train a small network with the Trainer of Hugging Face and optim="rmsprop", and record how its optimizer goes on.

    python tests/recorded/files_of_trainers/record_hugging_face.py

With transformers 5.24.0 and PyTorch 2.14.1. The optimizer has two groups: biases and norms, which do not decay, come
second.
"""

import shutil
import tempfile

import going_on
import torch
import transformers


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = torch.nn.Linear(4, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2)

    def forward(self, x, labels=None):
        logits = self.last(self.norm(self.first(x)))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def main():
    transformers.set_seed(0)
    folder = tempfile.mkdtemp()
    data = [{"x": torch.randn(4), "labels": torch.tensor(i % 2)} for i in range(32)]
    options = transformers.TrainingArguments(
        folder, optim="rmsprop", optim_args="momentum=0.9, centered=True", learning_rate=0.05, weight_decay=0.01,
        num_train_epochs=2, per_device_train_batch_size=8, lr_scheduler_type="constant", save_strategy="epoch",
        report_to=[], use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(Network(), options, train_dataset=data)
    trainer.train()
    shutil.copy(f"{folder}/checkpoint-8/optimizer.pt", going_on.HERE / "hugging_face.pt")
    optimizer = trainer.optimizer.optimizer
    named = dict(trainer.model.named_parameters())
    decay, rest = optimizer.param_groups
    ids = {id(parameter): name for name, parameter in named.items()}
    print([[ids[id(parameter)] for parameter in group["params"]] for group in (decay, rest)])
    going_on.write("hugging_face", going_on.of_torch(named), going_on.torch_step(optimizer, named))


if __name__ == "__main__":
    main()
