from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.core.placement import (
    DEFAULT_MACHINE_TYPES,
    Fit,
    FreeMemory,
    MachineType,
    Never,
    Node,
    NoRoom,
    Overcommit,
    Place,
    Unknown,
    Used,
    could_ever_fit,
    is_model,
    place,
    resolve,
    used_by,
)

SMALL = Node(cpus=2, memory_mb=4096)
H100 = "NVIDIA H100 80GB HBM3"
RTX = "NVIDIA GeForce RTX 4090"
GPU_BOX = Node(cpus=64, memory_mb=256 * 1024, gpus=(H100, RTX, H100))


def types(*names: str) -> tuple[MachineType, ...]:
    found = resolve(names, DEFAULT_MACHINE_TYPES)
    assert not isinstance(found, Unknown), found
    return found


PUBLIC = "XS S M L XL CPU GPU GPU-A100 GPU-L40 GPU-H100 GPU-RTXPRO6000 GPU-H200 GPU-B200 GPU-A6000 GPU-RTX4090 GPU-RTX5090"


@pytest.mark.parametrize("name", PUBLIC.split())
def test_every_public_machine_type_is_there(name: str) -> None:
    (kind,) = types(name)
    assert bool(kind.gpus) == name.startswith("GPU")


def test_types_keep_the_authors_order() -> None:
    assert [kind.name for kind in types("GPU-H100", "S", "GPU-A100")] == ["GPU-H100", "S", "GPU-A100"]


@pytest.mark.parametrize(("name", "meant"), [("GPU-H10", "GPU-H100"), ("gpu-h100", "GPU-H100"), ("xs", "XS"), ("GPU_A100", "GPU-A100")])
def test_an_unknown_name_comes_with_a_guess_and_the_list(name: str, meant: str) -> None:
    unknown = resolve(["S", name], DEFAULT_MACHINE_TYPES)
    assert isinstance(unknown, Unknown)
    assert unknown.name == name
    assert unknown.hint.startswith(f"Did you mean {meant!r}?")
    assert "GPU-B200" in unknown.hint


def test_a_name_like_no_other_gets_the_list_only() -> None:
    unknown = resolve(["quantum"], DEFAULT_MACHINE_TYPES)
    assert isinstance(unknown, Unknown)
    assert unknown.hint.startswith("This server has: XS, S,")


def test_a_gpu_type_never_fits_a_machine_without_gpus_and_says_so() -> None:
    verdict = could_ever_fit(types("GPU-H100"), None, SMALL)
    assert verdict == Never("GPU-H100 needs 1 x H100, and this machine has no GPU")


def test_one_type_of_a_fallback_list_that_fits_is_enough() -> None:
    assert could_ever_fit(types("GPU-H100", "S"), None, SMALL) == Fit()


def test_a_model_fits_only_its_own_gpus_and_the_generic_type_any() -> None:
    assert isinstance(could_ever_fit(types("GPU-A100"), None, GPU_BOX), Never)
    assert place(types("GPU-RTX4090"), None, GPU_BOX, Used()) == Place(DEFAULT_MACHINE_TYPES["GPU-RTX4090"], (1,))
    assert place(types("GPU"), 3, GPU_BOX, Used()) == Place(DEFAULT_MACHINE_TYPES["GPU"], (0, 1, 2))


def test_a_gpu_belongs_to_one_runner() -> None:
    first = place(types("GPU-H100"), None, GPU_BOX, Used())
    assert isinstance(first, Place)
    second = place(types("GPU-H100"), None, GPU_BOX, used_by([first]))
    assert isinstance(second, Place)
    assert (first.gpus, second.gpus) == ((0,), (2,))
    assert place(types("GPU-H100"), None, GPU_BOX, used_by([first, second])) == NoRoom("GPU-H100 needs 1 x H100, and 2 of 2 are in use")


def test_num_gpus_asks_for_more_than_one_of_a_model() -> None:
    assert place(types("GPU-H100"), 2, GPU_BOX, Used()) == Place(DEFAULT_MACHINE_TYPES["GPU-H100"], (0, 2))
    assert isinstance(could_ever_fit(types("GPU-H100"), 4, GPU_BOX), Never)
    assert could_ever_fit(types("GPU"), 9, Node(64, 10**6, (H100,) * 16)) == Never("num_gpus=9 is more than the 8 that one runner may have")


def test_num_gpus_on_a_cpu_type_is_an_error_that_names_both() -> None:
    assert could_ever_fit(types("M"), 1, GPU_BOX) == Never("num_gpus=1 needs a GPU machine type, and M has none")


def test_the_second_type_is_tried_when_the_first_has_no_room() -> None:
    taken = Used(gpus=frozenset({0, 2}))
    assert place(types("GPU-H100", "GPU-RTX4090"), None, GPU_BOX, taken) == Place(DEFAULT_MACHINE_TYPES["GPU-RTX4090"], (1,))


def test_a_small_machine_admits_many_small_runners_and_names_what_ran_out() -> None:
    placed: list[Place] = []
    while isinstance(verdict := place(types("S"), None, SMALL, used_by(placed)), Place):
        placed.append(verdict)
    assert len(placed) == 16
    assert verdict.reason == "S needs 1024 MB of memory, and 16384 of 16384 MB (4096 x overcommit 4) are promised"


def test_cpu_can_run_out_too() -> None:
    full = place(types("XL"), None, Node(1, 10**6), Used(cpus=9))
    assert full == NoRoom("XL needs 8 CPUs, and 9 of 16 (1 x overcommit 16) are promised")


def test_a_type_larger_than_the_whole_machine_never_fits() -> None:
    assert isinstance(could_ever_fit(types("XL"), None, SMALL), Never)
    assert could_ever_fit(types("XL"), None, SMALL, Overcommit(16, 100)) == Fit()


@pytest.mark.parametrize(
    ("model", "name", "same"),
    [
        ("H100", "NVIDIA H100 PCIe", True),
        ("RTXPRO6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("A6000", "NVIDIA RTX A6000", True),
        ("H200", "NVIDIA GH200 480GB", False),
        ("B200", "NVIDIA GB200", False),
        ("A100", "Tesla V100-SXM2-16GB", False),
        ("", "anything", True),
    ],
)
def test_a_drivers_name_means_a_model_or_not(model: str, name: str, same: bool) -> None:
    assert is_model(model, name) is same


boxes = st.builds(Node, st.integers(1, 64), st.integers(512, 10**6), st.lists(st.sampled_from([H100, RTX]), max_size=4).map(tuple))
wishes = st.lists(st.sampled_from(sorted(DEFAULT_MACHINE_TYPES)), min_size=1, max_size=3, unique=True)


@given(boxes, wishes, st.none() | st.integers(0, 4), st.integers(1, 40))
def test_promises_never_exceed_the_machine_and_what_never_fits_is_never_placed(
    node: Node, names: list[str], num_gpus: int | None, times: int
) -> None:
    wanted = types(*names)
    fits = isinstance(could_ever_fit(wanted, num_gpus, node), Fit)
    placed: list[Place] = []
    for _ in range(times):
        verdict = place(wanted, num_gpus, node, used_by(placed))
        if isinstance(verdict, NoRoom):
            assert verdict.reason
            break
        placed.append(verdict)
    assert bool(placed) == fits
    used = used_by(placed)
    assert used.cpus <= node.cpus * 16
    assert used.memory_mb <= node.memory_mb * 4
    given_out = [index for p in placed for index in p.gpus]
    assert len(given_out) == len(set(given_out))


@pytest.mark.parametrize(("available_mb", "starts"), [(255, False), (256, True), (10**6, True)])
def test_below_the_floor_of_free_memory_nothing_is_started_whatever_was_promised(available_mb: int, starts: bool) -> None:
    verdict = place(types("XS"), None, Node(64, 10**6), Used(), Overcommit(), FreeMemory(available_mb, 256))
    assert isinstance(verdict, Place) is starts
    if isinstance(verdict, NoRoom):
        assert verdict.reason == "the machine has 255 MB of memory left, and below 256 MB (free_memory_floor_mb) nothing is started"


class GpusOfRunners(RuleBasedStateMachine):
    """Runners come and go, and servers are started anew on what the store says: whose GPUs are whose never overlaps."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Place] = []

    @rule(name=st.sampled_from(["GPU", "GPU-H100", "GPU-RTX4090", "S"]), num_gpus=st.none() | st.integers(0, 3))
    def start(self, name: str, num_gpus: int | None) -> None:
        verdict = place(types(name), num_gpus, GPU_BOX, used_by(self.running))
        if isinstance(verdict, Place):
            assert len(verdict.gpus) == (DEFAULT_MACHINE_TYPES[name].gpus if num_gpus is None else num_gpus)
            self.running.append(verdict)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0))
    def end(self, which: int) -> None:
        self.running.pop(which % len(self.running))

    @rule()
    def next_server(self) -> None:
        """It may have lost the type that a runner was started as; the row still names its GPUs."""
        self.running = [Place(MachineType("gone", 0, 0), one.gpus) for one in self.running]

    @invariant()
    def no_gpu_has_two_runners(self) -> None:
        given = [index for one in self.running for index in one.gpus]
        assert len(given) == len(set(given))


TestGpusOfRunners = GpusOfRunners.TestCase
