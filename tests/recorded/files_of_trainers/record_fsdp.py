"""Train a network on two processes with FSDP, write the state of its optimizer by name, and record how it goes on.

    python tests/recorded/files_of_trainers/record_fsdp.py

With PyTorch 2.13.0, on a CPU over gloo. It is written twice: nested, and flattened as for torch.distributed.checkpoint.
"""

import os

import going_on
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.fsdp import fully_shard


def run(rank, processes):
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29531"}
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (processes,)))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.ndim == 1]},
    ]
    optimizer = torch.optim.RMSprop(groups, lr=0.05, momentum=0.9)
    torch.manual_seed(rank)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    for name, flatten in (("fsdp", False), ("fsdp_flattened", True)):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=flatten)
        state_dict = get_optimizer_state_dict(model, optimizer, options=options)
        if rank == 0:
            torch.save(state_dict, going_on.HERE / f"{name}.pt")
    named = dict(model.named_parameters())

    def step(grads):
        for key, parameter in named.items():
            whole = torch.tensor(grads[key])
            parameter.grad = torch.distributed.tensor.distribute_tensor(
                whole, parameter.device_mesh, parameter.placements
            )
        optimizer.step()
        return weights()

    def weights():
        return {key: parameter.full_tensor().detach().numpy().copy() for key, parameter in named.items()}

    if rank == 0:
        going_on.write("fsdp", weights(), step)
    else:  # the same steps, without a file
        for grads in going_on.gradients(weights()):
            step(grads)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(run, (2,), 2)
