"""Train a small network with Lightning, save its checkpoint, and record how its optimizer goes on.

    python tests/recorded/files_of_trainers/record_lightning.py

With lightning 2.6.6 and PyTorch 2.14.1.
"""

import going_on
import lightning
import torch


class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))

    def training_step(self, batch, _):
        return self.layers(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=0.05, momentum=0.9, centered=True)


def main():
    lightning.seed_everything(0)
    network = Network()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 4)), batch_size=8)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(network, data)
    trainer.save_checkpoint(going_on.HERE / "lightning.ckpt")
    named = dict(network.named_parameters())
    going_on.write("lightning", going_on.of_torch(named), going_on.torch_step(trainer.optimizers[0], named))


if __name__ == "__main__":
    main()
