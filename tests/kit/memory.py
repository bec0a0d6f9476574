"""Where arrays are that wait in the host's memory."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding


def pinned_host(mesh):
    """Return a sharding in the host's memory, on a mesh or on one device; skip the test where there is none."""
    device = jax.devices()[0]
    if "pinned_host" not in {memory.kind for memory in device.addressable_memories()}:
        pytest.skip("this backend has one kind of memory")
    if not mesh:
        return SingleDeviceSharding(device, memory_kind="pinned_host")
    two = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    return NamedSharding(two, PartitionSpec(), memory_kind="pinned_host")
