"""The lines of the accelerator table that Tandem ships: data with its sources, no logic. Pure.

Prices are list prices in US dollars of one unit for an hour on demand; each comment says whose and when. An empty one
is not sold by the hour, or no list price was found. Spot twins have none: their price moves. All of it is for the
administrator to overwrite: `config.accelerators` of the chart.

Without a line: GPUs that cannot compute in bf16 (V100, T4), and machines with Arm processors (GH200, GB200), for
which Tandem builds no image yet.
"""

from __future__ import annotations

from dataclasses import replace

from tandem_contracts.launch import Speculation
from tandem_operator.accelerator_class import CPU, AcceleratorClass
from tandem_operator.config import Capacity
from tandem_operator.shipped_schemes import kernels_of

_WITHOUT_REMOTE = tuple(method for method in Speculation if method is not Speculation.REMOTE)
_OWN_RUNNER = "its engine replaces vLLM's own runner, of which remote drafting is a part"


def _nvidia(name: str, product: str, memory: float, bandwidth: float, teraflops: float, price: str) -> AcceleratorClass:
    """`product` as the driver calls it; the node label has dashes for its spaces."""
    return AcceleratorClass(
        name=name,
        vendor="NVIDIA",
        resource="nvidia.com/gpu",
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        price_per_hour=price,
        node_labels={"nvidia.com/gpu.product": (product.replace(" ", "-"),)},
        tolerated_taints=("nvidia.com/gpu",),
        capacity=Capacity.ON_DEMAND,
        device_class="gpu.nvidia.com",
        device_selectors=(f"device.attributes['gpu.nvidia.com'].productName == '{product}'",),
    )


# Names: the label nvidia.com/gpu.product of GPU feature discovery and the attribute productName of NVIDIA's DRA driver
# (kubernetes-sigs/dra-driver-nvidia-gpu, cmd/gpu-kubelet-plugin/deviceinfo.go). Memory: what nvidia-smi reports.
# Bandwidth and dense bf16 (half of what is printed "with sparsity"): NVIDIA's data sheets. Prices: AWS EC2, us-east,
# Linux, 2026, a GPU's share of p6-b200, p5en, p5, p4de, p4d.24xlarge, g7e.24xlarge, and g6e, g6, g5.xlarge.
_NVIDIA = (
    _nvidia("nvidia-b300-288gb", "NVIDIA B300 SXM6 AC", 267.7, 8000, 2250, ""),
    _nvidia("nvidia-b200-180gb", "NVIDIA B200", 179.1, 8000, 2250, "14.24"),
    _nvidia("nvidia-h200-141gb", "NVIDIA H200", 140.4, 4800, 989, "7.91"),
    _nvidia("nvidia-h100-80gb", "NVIDIA H100 80GB HBM3", 79.6, 3350, 989, "6.88"),
    _nvidia("nvidia-h100-nvl-94gb", "NVIDIA H100 NVL", 93.6, 3900, 835, ""),
    _nvidia("nvidia-h100-pcie-80gb", "NVIDIA H100 PCIe", 79.6, 2000, 756, ""),
    _nvidia("nvidia-a100-80gb", "NVIDIA A100-SXM4-80GB", 80.0, 2039, 312, "3.43"),
    _nvidia("nvidia-a100-pcie-80gb", "NVIDIA A100 80GB PCIe", 80.0, 1935, 312, ""),
    _nvidia("nvidia-a100-40gb", "NVIDIA A100-SXM4-40GB", 40.0, 1555, 312, "2.74"),
    _nvidia("nvidia-rtx-pro-6000-96gb", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 95.6, 1597, 500, "4.14"),
    _nvidia("nvidia-l40s-48gb", "NVIDIA L40S", 45.0, 864, 362, "1.86"),
    _nvidia("nvidia-l40-48gb", "NVIDIA L40", 45.0, 864, 181, ""),
    _nvidia("nvidia-a40-48gb", "NVIDIA A40", 45.0, 696, 149.7, ""),
    _nvidia("nvidia-l4-24gb", "NVIDIA L4", 22.5, 300, 121, "0.80"),
    _nvidia("nvidia-a10g-24gb", "NVIDIA A10G", 22.5, 600, 70, "1.01"),
    _nvidia("nvidia-a10-24gb", "NVIDIA A10", 22.5, 600, 125, ""),
    _nvidia("nvidia-a30-24gb", "NVIDIA A30", 24.0, 933, 165, ""),
)
_BY_NAME = {line.name: line for line in _NVIDIA}


def _mig(parent: str, profile: str, *, memory: float, slices: int) -> AcceleratorClass:
    """A MIG slice under the device plugin's strategy `mixed`, where each profile is a resource of its own.

    The first number of `profile` is the sevenths of the compute, `slices` the eighths of the memory's bandwidth. Under
    strategy `single` override resource (nvidia.com/gpu) and nodeLabels (…gpu.product: NVIDIA-…-MIG-<profile>).
    """
    whole = _BY_NAME[parent]
    sevenths = int(profile.partition("g.")[0])
    return AcceleratorClass(
        name=f"{parent}-mig-{profile.replace('.', '-')}",
        vendor="NVIDIA",
        resource=f"nvidia.com/mig-{profile}",
        max_count=1,  # slices have no path to one another: no tensor parallelism
        memory_gib=memory,
        bandwidth_gb_per_second=whole.bandwidth_gb_per_second * slices / 8,
        teraflops=round(whole.teraflops * sevenths / 7, 1),
        price_per_hour=f"{float(whole.price_per_hour) * slices / 8:.2f}",
        node_labels=whole.node_labels,
        tolerated_taints=whole.tolerated_taints,
        capacity=whole.capacity,
        device_class="mig.nvidia.com",
        device_selectors=(
            *whole.device_selectors,
            f"device.attributes['gpu.nvidia.com'].profile == '{profile}'",
        ),
    )


# Profiles and memory: NVIDIA MIG user guide and `nvidia-smi mig -lgip`, rounded down. Price: the share of the memory.
_MIG = (
    _mig("nvidia-h200-141gb", "1g.18gb", memory=16.0, slices=1),
    _mig("nvidia-h200-141gb", "2g.35gb", memory=32.0, slices=2),
    _mig("nvidia-h200-141gb", "3g.71gb", memory=64.0, slices=4),
    _mig("nvidia-h100-80gb", "1g.10gb", memory=9.5, slices=1),
    _mig("nvidia-h100-80gb", "1g.20gb", memory=19.5, slices=2),
    _mig("nvidia-h100-80gb", "2g.20gb", memory=19.5, slices=2),
    _mig("nvidia-h100-80gb", "3g.40gb", memory=39.2, slices=4),
    _mig("nvidia-h100-80gb", "4g.40gb", memory=39.2, slices=4),
    _mig("nvidia-a100-80gb", "1g.10gb", memory=9.5, slices=1),
    _mig("nvidia-a100-80gb", "2g.20gb", memory=19.5, slices=2),
    _mig("nvidia-a100-80gb", "3g.40gb", memory=39.2, slices=4),
    _mig("nvidia-a100-40gb", "1g.5gb", memory=4.7, slices=1),
    _mig("nvidia-a100-40gb", "2g.10gb", memory=9.7, slices=2),
    _mig("nvidia-a100-40gb", "3g.20gb", memory=19.6, slices=4),
)


def _amd(
    name: str, device_ids: tuple[str, ...], memory: float, bandwidth: float, teraflops: float, price: str = ""
) -> AcceleratorClass:
    listed = ", ".join(f"'0x{device_id}'" for device_id in device_ids)
    return AcceleratorClass(
        name=name,
        vendor="AMD",
        resource="amd.com/gpu",
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        price_per_hour=price,
        node_labels={"amd.com/gpu.device-id": device_ids},
        tolerated_taints=("amd.com/gpu",),
        capacity=Capacity.ON_DEMAND,
        device_class="gpu.amd.com",
        device_selectors=(
            "device.attributes['gpu.amd.com'].type == 'amdgpu'",
            f"device.attributes['gpu.amd.com'].deviceID in [{listed}]",
        ),
        engine_image="rocm",
    )


# Labels: AMD's node labeller, device-id (the second one is the virtual function of the same card). DRA:
# ROCm/k8s-gpu-dra-driver, docs/driver-attributes.md. Figures: AMD's data sheets, bf16 without sparsity.
# Price: Azure ND96isr MI300X v5 and Oracle BM.GPU.MI300X.8, May 2026, a GPU's share.
_AMD = (
    _amd("amd-mi300x-192gb", ("74a1", "74b5"), 192.0, 5300, 1307, "6.00"),
    _amd("amd-mi325x-256gb", ("74a5", "74b9"), 256.0, 6000, 1307),
    _amd("amd-mi350x-288gb", ("75a0", "75b0"), 288.0, 8000, 2300),
    _amd("amd-mi355x-288gb", ("75a3", "75b3"), 288.0, 8000, 2500),
    _amd("amd-mi210-64gb", ("740f",), 64.0, 1638, 181),
)


def _gaudi(name: str, model: str, memory: float, bandwidth: float, teraflops: float) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        vendor="Intel",
        resource="habana.ai/gaudi",
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        tolerated_taints=("habana.ai/gaudi",),
        device_class="gaudi.intel.com",
        device_selectors=(f"device.attributes['gaudi.intel.com'].model == '{model}'",),
        engine_image="gaudi",
        methods=_WITHOUT_REMOTE,
        methods_note=_OWN_RUNNER,
    )


def _xe(
    name: str, labels: dict[str, str], memory: float, bandwidth: float, teraflops: float, *, driver: str
) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        vendor="Intel",
        resource=f"gpu.intel.com/{driver}",
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        node_labels={label: (value,) for label, value in labels.items()},
        tolerated_taints=(f"gpu.intel.com/{driver}",),
        engine_image="xpu",
    )


# Gaudi: no label of the device plugin or of feature discovery tells the generations apart, so there is none here: a
# cluster with both sets nodeLabels. DRA: intel/intel-resource-drivers-for-kubernetes, doc/gaudi/USAGE.md. Xe: NFD rules
# of intel-device-plugins-for-kubernetes (cmd/gpu_plugin/labels.md); the resource is named after the kernel driver, i915
# or xe. Figures: Intel's product briefs. Neither is on a list of prices by the hour.
_INTEL = (
    _gaudi("intel-gaudi3-128gb", "Gaudi3", 128.0, 3700, 1835),
    _gaudi("intel-gaudi2-96gb", "Gaudi2", 96.0, 2450, 432),
    _xe("intel-max-1550-128gb", {"gpu.intel.com/product": "Max_1550"}, 128.0, 3277, 832, driver="i915"),
    _xe("intel-max-1100-48gb", {"gpu.intel.com/product": "Max_1100"}, 48.0, 1229, 352, driver="i915"),
    _xe("intel-flex-170-16gb", {"gpu.intel.com/product": "Flex_170"}, 16.0, 576, 128, driver="i915"),
    _xe("intel-arc-pro-b60-24gb", {"gpu.intel.com/device-id.0300-e211.present": "true"}, 24.0, 456, 98, driver="xe"),
)


def _tpu(
    name: str,
    accelerator: str,
    topologies: tuple[str, ...],
    memory: float,
    bandwidth: float,
    teraflops: float,
    price: str = "",
) -> AcceleratorClass:
    """`topologies` of one host: a pod must take all chips of its node, and those of others it cannot use."""
    return AcceleratorClass(
        name=name,
        vendor="Google",
        resource="google.com/tpu",
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        price_per_hour=price,
        node_labels={
            "cloud.google.com/gke-tpu-accelerator": (accelerator,),
            "cloud.google.com/gke-tpu-topology": topologies,
        },
        tolerated_taints=("google.com/tpu",),
        capacity=Capacity.ON_DEMAND,
        engine_image="tpu",
        methods=_WITHOUT_REMOTE,
        methods_note=_OWN_RUNNER,
    )


# Labels and topologies of one host: GKE, "Plan TPUs in GKE". Figures of a chip: Cloud TPU's page of each version.
# Prices: Google's list for regions in the US as of 2025.
_TPU = (
    _tpu("google-tpu-v7-192gb", "tpu7x", ("2x2x1",), 192.0, 7380, 2307),
    _tpu("google-tpu-v6e-32gb", "tpu-v6e-slice", ("1x1", "2x2", "2x4"), 31.2, 1638, 918, "2.70"),
    _tpu("google-tpu-v5p-95gb", "tpu-v5p-slice", ("2x2x1",), 95.0, 2765, 459, "4.20"),
    _tpu("google-tpu-v5e-16gb", "tpu-v5-lite-podslice", ("1x1", "2x2", "2x4"), 15.7, 819, 197, "1.20"),
)


def _neuron(
    name: str, instances: tuple[str, ...], memory: float, bandwidth: float, teraflops: float, price: str = ""
) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        vendor="AWS",
        resource="aws.amazon.com/neuron",
        max_count=16,
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        teraflops=teraflops,
        price_per_hour=price,
        node_labels={"node.kubernetes.io/instance-type": instances},
        tolerated_taints=("aws.amazon.com/neuron",),
        capacity=Capacity.ON_DEMAND,
        engine_image="neuron",
        methods=_WITHOUT_REMOTE,
        methods_note=_OWN_RUNNER,
    )


# One unit is a chip with all its cores. The Neuron device plugin writes no labels; its documentation selects by
# instance type. Figures: Neuron documentation, "Trainium2 Architecture" and its neighbours. Prices: AWS EC2, us-east,
# Linux, 2026, trn1.2xlarge and inf2.xlarge, which have one chip; Trainium2 is sold in blocks of days.
_NEURON = (
    _neuron("aws-trainium2-96gb", ("trn2.3xlarge", "trn2.48xlarge"), 96.0, 2900, 667),
    _neuron("aws-trainium1-32gb", ("trn1.2xlarge", "trn1.32xlarge", "trn1n.32xlarge"), 32.0, 820, 190, "1.34"),
    _neuron(
        "aws-inferentia2-32gb",
        ("inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"),
        32.0,
        820,
        190,
        "0.76",
    ),
)


def _fpga(name: str, resource: str, memory: float, bandwidth: float) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        vendor="AMD",
        resource=resource,
        max_count=1,
        memory_gib=memory,
        bandwidth_gb_per_second=bandwidth,
        engine_image="fpga",
        methods=(),
        methods_note="vLLM does not run there; such a card can draft, with an engine image of its own",
    )


# The device plugin of Xilinx/FPGA_as_a_Service names the resource after the shell that is flashed onto the card; it
# writes no labels. What a card computes is up to its design, so there is no figure. Memory: AMD's product pages.
_FPGA = (
    _fpga("amd-alveo-u55c-16gb", "amd.com/xilinx_u55c_gen3x16_xdma_base_3-0", 16.0, 460),
    _fpga("amd-alveo-u200-64gb", "amd.com/xilinx_u200_gen3x16_xdma_base_2-0", 64.0, 77),
)

# One count is a share, a core of a server processor. Bandwidth and compute are a core's part of a Xeon 8480+: 8
# channels of DDR5-4800 over 56 cores, and what AVX-512 reaches in bf16, 10 to 30 operations a byte; AMX peaks above it.
_CPU = AcceleratorClass(
    name=CPU,
    resource=CPU,
    max_count=16,
    host_memory="4Gi",
    bandwidth_gb_per_second=5.5,
    teraflops=0.1,
    engine_image="cpu",
    environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
)


def _with_kernels(line: AcceleratorClass) -> AcceleratorClass:
    kernels = kernels_of(line.name)
    return replace(line, schemes=kernels.schemes, scheme_notes=kernels.notes)


SHIPPED: tuple[AcceleratorClass, ...] = tuple(
    map(_with_kernels, (_CPU, *_NVIDIA, *_MIG, *_AMD, *_INTEL, *_TPU, *_NEURON, *_FPGA))
)
