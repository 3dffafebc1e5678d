"""Where a database may lie: on a file system of this machine.

SQLite's locks and its shared memory are promises of the kernel that network file systems do not keep: the database would be damaged some day.
"""

from __future__ import annotations

import re
from pathlib import Path

from roost.store.errors import UnsuitableFolder

NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|lustre|beegfs|gpfs|glusterfs|ocfs2|gfs2|ncpfs|coda"
    r"|fuse\.(sshfs|glusterfs|ceph.*|s3fs|gcsfuse|rclone|goofys|mount-s3|blobfuse.*|juicefs|davfs.*|smbnetfs|curlftpfs|beegfs.*|lustre.*)"
)
"""Types as /proc/mounts names them."""


def refuse_network(path: Path) -> None:
    """Raise `UnsuitableFolder` if `path` lies on a network file system. Where the kernel has no /proc/mounts, all are taken as local."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:
        return
    kind = kind_of(path.resolve(), mounts)
    if NETWORK.fullmatch(kind):
        raise UnsuitableFolder(
            f"The state folder {path.parent} lies on a network file system ({kind}), where SQLite loses data.",
            hint="Set ROOST_HOME to a folder on a disk of this machine.",
        )


def kind_of(path: Path, mounts: str) -> str:
    """The type of the file system that `path` (absolute, resolved) is on, from the text of /proc/mounts; "" if it does not say."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        # `>=`: of several mounts on one point the last one lies on top.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)
