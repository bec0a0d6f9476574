"""Train a small network with timm's create_optimizer_v2("rmsproptf"), save it with timm's own saver, and go on.

    python tests/recorded/files_of_trainers/record_timm.py

With timm 1.0.31 and PyTorch 2.14.1. The optimizer has two groups: parameters of one dimension, which do not decay, come
first.
"""

import going_on
import torch
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver


def main():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(27, 3)
    )
    optimizer = create_optimizer_v2(model, "rmsproptf", lr=0.05, weight_decay=0.01, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 2, 4, 4)).square().mean().backward()
        optimizer.step()
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(going_on.HERE), recovery_dir=str(going_on.HERE))
    saver.save_recovery(epoch=0)
    (going_on.HERE / "recovery-0-0.pth.tar").rename(going_on.HERE / "timm.pth.tar")
    named = dict(model.named_parameters())
    going_on.write("timm", going_on.of_torch(named), going_on.torch_step(optimizer, named))


if __name__ == "__main__":
    main()
