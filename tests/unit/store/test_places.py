from __future__ import annotations

from pathlib import Path

import pytest

from roost.store.places import NETWORK, kind_of, refuse_network

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/ada/fast xfs rw 0 0
//nas/My\\040Files /mnt/my\\040files cifs rw 0 0
tmpfs /mnt/twice tmpfs rw 0 0
ada@host: /mnt/twice fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/roost/roost.db", "ext4"),
        ("/home/ada/.roost/state/roost.db", "nfs4"),
        ("/home/ada/fast/roost.db", "xfs"),
        ("/homework/roost.db", "ext4"),
        ("/mnt/my files/roost.db", "cifs"),
        ("/mnt/twice/roost.db", "fuse.sshfs"),
    ],
)
def test_the_deepest_and_last_mount_says_what_a_path_lies_on(path: str, kind: str) -> None:
    assert kind_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.mount-s3"])
def test_network_file_systems_are_known(kind: str) -> None:
    assert NETWORK.fullmatch(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.gocryptfs", ""])
def test_local_file_systems_are_not_refused(kind: str) -> None:
    assert not NETWORK.fullmatch(kind)


def test_a_folder_of_this_machine_is_fine(tmp_path: Path) -> None:
    refuse_network(tmp_path / "roost.db")
