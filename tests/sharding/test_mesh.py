"""A line of text becomes a mesh, or one line that says what to type."""

import inspect
from types import SimpleNamespace

import jax
import pytest
from jax.sharding import AxisType

from crossattn.sharding import AXES, axes_of, default_axes, make_mesh


@pytest.mark.parametrize(
    ("line", "sizes"),
    [
        (None, {"data": 8}),
        ("data=2,fsdp=2,tensor=2,context=1", {"data": 2, "fsdp": 2, "tensor": 2}),
        ("tensor=2, data=-1", {"data": 4, "tensor": 2}),
        ("context=-1,data=8", {"data": 8}),
        ("seed=8", {"seed": 8}),
    ],
)
def test_a_line_names_sizes(line, sizes):
    mesh = make_mesh(line)
    assert mesh.axis_names == AXES
    assert dict(mesh.shape) == {axis: sizes.get(axis, 1) for axis in AXES}
    assert set(mesh.axis_types) == {AxisType.Auto}
    # Each device takes part once.
    assert sorted(d.id for d in mesh.devices.flat) == sorted(d.id for d in jax.devices())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data=3,tensor=2", "8 devices cannot be data=3 x tensor=2: 6; try data=-1,tensor=2"),
        ("data=2,tensor=2", "8 devices cannot be data=2 x tensor=2: 4; try data=-1,tensor=2"),
        ("data=3,fsdp=5", "8 devices cannot be data=3 x fsdp=5: 15; try data=-1"),
        (
            "data=-1,tensor=3",
            "8 devices cannot be data=-1 x tensor=3: 8 is not a multiple of 3; try tensor=-1",
        ),
        ("data=-1,fsdp=-1", "data and fsdp cannot both take the rest; write one of them"),
        ("data=two", "mesh 'data=two': data=two is not a size; write a number from 1, or -1"),
        ("data=0", "data=0 is not a size"),
        ("data=-2", "data=-2 is not a size"),
        ("data", "'data' is not axis=size; write data=-1,tensor=2"),
        ("", "'' is not axis=size"),
        ("data=2,data=4", "data stands twice; write it once"),
        ("tensr=2", "unknown axis 'tensr'; write 'tensor'"),
        ("model=2", "unknown axis 'model'; write one of seed, data, fsdp, context, tensor"),
    ],
)
def test_what_does_not_fit_is_one_line(line, message):
    with pytest.raises(ValueError, match=r"mesh|devices") as caught:
        make_mesh(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [["data=1"], 3, b"data=1", {"data": 1}])
def test_what_is_no_line_is_refused(line):
    # Annotations are checked here, but not where users call it.
    with pytest.raises(TypeError, match="make_mesh takes a line such as"):
        inspect.unwrap(make_mesh)(line)


def test_inner_axes_are_neighbours_whatever_the_order_of_the_line():
    ids = [[d.id for d in row] for row in make_mesh("tensor=2,data=4").devices.reshape(4, 2)]
    assert ids == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_devices_may_be_chosen_and_types_explicit():
    mesh = make_mesh("fsdp=-1", devices=jax.devices()[2:5], explicit=True)
    assert [d.id for d in mesh.devices.flat] == [2, 3, 4]
    assert set(mesh.axis_types) == {AxisType.Explicit}
    assert axes_of(mesh) == "fsdp=3"
    assert axes_of(make_mesh(devices=jax.devices()[:1])) == "one device"


@pytest.mark.parametrize(
    ("hosts", "line"),
    [
        ([0], "data=1"),
        ([0] * 5, "data=5"),
        ([0, 0, 1, 1, 2, 2], "data=3,fsdp=2"),
        ([0, 1], "data=2,fsdp=1"),
        # Hosts with different numbers of devices make no rectangle.
        ([0, 0, 1], "data=3"),
    ],
)
def test_defaults(hosts, line):
    assert default_axes([SimpleNamespace(process_index=host) for host in hosts]) == line


def test_an_axis_may_take_part_of_a_physical_axis(monkeypatch):
    """jax refuses tensor=8 on 4 x 4 chips unless it is told to split."""

    def refuse(*args, **kwargs):
        raise NotImplementedError("Failed to find assignment")

    monkeypatch.setattr(jax, "make_mesh", refuse)
    mesh = make_mesh("data=4,tensor=2", explicit=True)
    assert axes_of(mesh) == "data=4,tensor=2"
    assert set(mesh.axis_types) == {AxisType.Explicit}
